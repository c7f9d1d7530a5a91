"""Who sends requests in the continuous event loop: a trace, users of a closed loop, or the turns of conversations."""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called, inlined
from mbexp.compiled.heap import heap
from mbexp.compiled.variants import variant
from mbexp.simulator.continuous.extended import (
    FROM_ROOTS,
    NO_TURN,
    PART,
    child_of,
    due_at,
    root_at,
    root_s,
    sibling_of,
    turn_at,
    who_of,
)
from mbexp.simulator.continuous.layout import blank_request, request_at, think_s


@inlined
def _known_arrival_s(run):
    """Return the instant of the next arrival, infinity where none is known."""
    return request_at(run, run.joined).arrival_s if run.joined < run.num_requests else np.inf


@inlined
def _as_listed(run, joined, now_s):
    """Let the next request of the trace come; return the row of its draws."""
    return joined


@called
def answered_user(run, request, now_s):
    """Let the user whose request was answered send the next of the trace once he has thought.

    Known arrivals that have not happened stand in ascending order, from request `joined` to before request `known`.
    """
    due_s = now_s + think_s(run, request).value
    place = run.known
    if place == run.num_requests:
        # As many are due as requests are left: the last of them sends none.
        place -= 1
        if place < run.joined or request_at(run, place).arrival_s <= due_s:
            return
    else:
        run.known += 1
    while place > run.joined and request_at(run, place - 1).arrival_s > due_s:
        request_at(run, place).arrival_s = request_at(run, place - 1).arrival_s
        place -= 1
    request_at(run, place).arrival_s = due_s


@inlined
def _due_at(run, one_heap, place):
    """Return an entry of the only heap of requests that answers made come."""
    return due_at(run, place)


_due_up, _due_down = heap(_due_at, "time_s", "request")


@called
def _earliest_turn_s(run):
    """Return the instant of the next arrival, of a root or of a request that an answer made come.

    Of arrivals at one instant the first in the order of the trace comes first.
    """
    if run.num_turns == 0:
        return _known_arrival_s(run)
    first_s, place = np.inf, np.int64(0)
    if run.next_root < run.num_roots:
        first_s, place = root_s(run, run.next_root).value, np.int64(root_at(run, run.next_root).value)
    run.from_roots = FROM_ROOTS
    if run.due_count > 0:
        due = due_at(run, 0)
        if due.time_s < first_s or (due.time_s == first_s and due.request < place):
            first_s = due.time_s
            run.from_roots = NO_TURN
    return first_s


@called
def _turn_comes(run, joined, now_s):
    """Let the request come that is due first, as the next in number; return the row of its draws."""
    if run.num_turns == 0:
        return joined
    if run.from_roots == FROM_ROOTS:
        place = np.int64(root_at(run, run.next_root).value)
        run.next_root += 1
    else:
        place = due_at(run, 0).request
        run.due_count -= 1
        if run.due_count > 0:
            last = due_at(run, run.due_count)
            _due_down(run, 0, 0, run.due_count, last.time_s, last.request)
    who_of(run, joined).value = place
    turn, item = turn_at(run, place), request_at(run, joined)
    blank_request(item)
    item.arrival_s = now_s
    item.prompt, item.output, item.predicted = turn.prompt, turn.output, turn.predicted
    item.need_tokens = turn.prompt + turn.predicted
    item.bin = turn.bin
    return place


@called
def _turns_answered(run, request, now_s):
    """Let the answer to a request make those come that it causes, each once its time has passed."""
    if run.num_turns == 0:
        answered_user(run, request, now_s)
        return
    follower = np.int64(child_of(run, who_of(run, request).value).value)
    while follower >= 0:
        _due_up(run, 0, run.due_count, now_s + turn_at(run, follower).think_s, follower)
        run.due_count += 1
        follower = np.int64(sibling_of(run, follower).value)


next_arrival_s = variant(PART, _earliest_turn_s, _known_arrival_s)
come = variant(PART, _turn_comes, _as_listed)
answered = variant(PART, _turns_answered, answered_user)
