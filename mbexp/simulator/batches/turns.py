"""Users and turns of conversations in the batch loop: which requests come when others are answered.

Turns are numbered as they come. The loop reads the next arrival where it reads every other, at the number of the next
request.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from mbexp.compiled.busy_heap import pop_busy, push_busy
from mbexp.compiled.decorators import called
from mbexp.simulator.batches.state import Requests
from mbexp.workload.turns import Causes

COUNT, ROOT, FROM_ROOTS = 0, 1, 2  # of `at`: requests that are due, roots that came, whether a root comes next


class TurnState(NamedTuple):
    """The turns of a run, n of them, and which of them are due.

    `due_s` and `due` are a heap by (time, place) of the requests that answers made come; `who` is the place of each
    request in the order in which they came; `prompt_tokens` to `queue_of` are columns in the order of the trace;
    `filled` counts the requests of each queue that came.
    """

    at: npt.NDArray[np.int64]
    due_s: npt.NDArray[np.float64]
    due: npt.NDArray[np.uint32]
    roots: npt.NDArray[np.int32]
    root_s: npt.NDArray[np.float64]
    child: npt.NDArray[np.int32]
    sibling: npt.NDArray[np.int32]
    think_s: npt.NDArray[np.float64]
    who: npt.NDArray[np.int32]
    prompt_tokens: npt.NDArray[np.int32]
    output_tokens: npt.NDArray[np.int32]
    predicted_tokens: npt.NDArray[np.int32]
    queue_of: npt.NDArray[np.uint16]
    filled: npt.NDArray[np.int64]


_f8, _i8, _i4, _u4, _u2 = (
    types.Array(dtype, 1, "C") for dtype in (types.float64, types.int64, types.int32, types.uint32, types.uint16)
)
TURNS_TYPE = types.NamedTuple((_i8, _f8, _u4, _i4, _f8, _i4, _i4, _f8, _i4, _i4, _i4, _i4, _u2, _i8), TurnState)


def new_turns(causes: Causes, requests: Requests, columns: tuple[npt.NDArray[np.int32], ...]) -> TurnState:
    """Return the turns before the first arrival; `columns` are prompts, outputs and predictions in trace order."""
    count = len(causes.think_s)
    prompt, output, predicted = (np.array(column) for column in columns)
    return TurnState(
        at=np.zeros(3, np.int64),
        due_s=np.full(count + 2, np.inf),
        due=np.zeros(count + 2, np.uint32),
        roots=causes.roots,
        root_s=causes.root_s,
        child=causes.child,
        sibling=causes.sibling,
        think_s=causes.think_s,
        who=np.empty(count, np.int32),
        prompt_tokens=prompt,
        output_tokens=output,
        predicted_tokens=predicted,
        queue_of=requests.queue_of.copy(),
        filled=requests.queue_start[:-1].copy(),
    )


@called
def make_known(arrival_s, joined, known, due_s):
    """Let a user send the next request at an instant; return how many arrivals are known.

    Those that have not happened stand in ascending order, from `joined` to before `known`; the others are infinite.
    """
    place = known
    if place == len(arrival_s):
        # As many are due as requests are left: the last of them sends none.
        place -= 1
        if place < joined or arrival_s[place] <= due_s:
            return known
    else:
        known += 1
    while place > joined and arrival_s[place - 1] > due_s:
        arrival_s[place] = arrival_s[place - 1]
        place -= 1
    arrival_s[place] = due_s
    return known


@called
def show_next(turns, arrival_s, joined):
    """Note the next arrival, of a root or of a request that is due, at the number that it will have.

    Of arrivals at one instant the first in the order of the trace comes first.
    """
    if joined == len(arrival_s):
        return
    root = turns.at[ROOT]
    root_s, place = np.inf, np.int64(0)
    if root < len(turns.roots):
        root_s, place = turns.root_s[root], np.int64(turns.roots[root])
    due_s = turns.due_s[0] if turns.at[COUNT] > 0 else np.inf
    first = root_s < due_s or (root_s == due_s and place < np.int64(turns.due[0]))
    turns.at[FROM_ROOTS] = np.int64(first)
    arrival_s[joined] = root_s if first else due_s


@called
def let_come(turns, requests, joined):
    """Let the next request come: it gets its number, and joins the others of its queue."""
    if turns.at[FROM_ROOTS] > 0:
        place = np.int64(turns.roots[turns.at[ROOT]])
        turns.at[ROOT] += 1
    else:
        place = np.int64(turns.due[0])
        turns.at[COUNT] = pop_busy(turns.due_s, turns.due, turns.at[COUNT])
    turns.who[joined] = place
    queue = turns.queue_of[place]
    requests.queue_of[joined] = queue
    slot = turns.filled[queue]
    turns.filled[queue] += 1
    requests.trace_index[slot] = joined
    requests.prompt_tokens[slot] = turns.prompt_tokens[place]
    requests.output_tokens[slot] = turns.output_tokens[place]
    requests.predicted_tokens[slot] = turns.predicted_tokens[place]


@called
def make_due(turns, number, now_s):
    """Let the answer to a request make those come that it causes, each once its time has passed."""
    follower = np.int64(turns.child[turns.who[number]])
    while follower >= 0:
        turns.at[COUNT] = push_busy(
            turns.due_s, turns.due, turns.at[COUNT], now_s + turns.think_s[follower], np.uint32(follower)
        )
        follower = np.int64(turns.sibling[follower])
