"""Queues with an order of their own, in the loop of run-to-completion batching (docs/semantics/order.md).

The arrays of the requests, which else stand in trace order inside each queue, are filled in the order of service: so a
batch is a window of them as ever.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import from_dtype, types

from mbexp.compiled.decorators import called, inlined
from mbexp.compiled.pairing_heap import NOBODY, pushed, unfolded, without_first
from mbexp.policy.build import QueueOrder
from mbexp.policy.slots import ORDER, value_of
from mbexp.simulator.admission import queue_starts
from mbexp.simulator.batches.state import Requests
from mbexp.simulator.order import WAITING_ITEMS_TYPE, Claims, claim, key_of

IntArray = npt.NDArray[np.int32]

# A queue: the one that goes first, and those that arrived first and last of the ones that wait.
LINE_DTYPE = np.dtype([("first", np.int64), ("oldest", np.int64), ("youngest", np.int64)], align=True)


class Order(NamedTuple):
    """An order as the loop takes it.

    `items` and lengths go by the numbers of requests, `claims` by their places in the trace; the two are the same but
    for turns of conversations, which are numbered as they come.
    """

    rank: Any
    parameters: npt.NDArray[np.float64]
    by: int
    changes: bool
    items: npt.NDArray[Any]
    claims: npt.NDArray[Any]
    failed: npt.NDArray[np.int64]
    lines: npt.NDArray[Any]
    prompt_tokens: IntArray
    output_tokens: IntArray
    predicted_tokens: IntArray


def in_order(
    order: QueueOrder,
    claims: Claims,
    arrival_s: npt.NDArray[np.float64],
    queue_of: npt.NDArray[np.uint16],
    num_queues: int,
    prompt_tokens: IntArray,
    output_tokens: IntArray,
    predicted_tokens: IntArray,
) -> tuple[Requests, Order]:
    """Return the requests, given in trace order, as the loop takes them where queues have an order."""
    n, items = len(arrival_s), claims.items()
    served = [np.empty(n, np.int32) for _ in range(4)]
    lines = np.full(num_queues, NOBODY, np.int64).repeat(3).view(LINE_DTYPE)
    requests = Requests(arrival_s, queue_of, queue_starts(queue_of, num_queues), *served)
    rule = order.rule
    return requests, Order(
        value_of(rule.function), rule.parameters, order.by, order.changes, items, items.copy(), np.zeros(1, np.int64),
        lines, *(np.array(column, np.int32) for column in (prompt_tokens, output_tokens, predicted_tokens)),
    )  # fmt: skip


@inlined
def _number(order, turns, request):
    """Let a turn have its lengths and claims by the number that it got."""
    place = np.int64(turns.who[request])
    claim(order, request, place)
    order.prompt_tokens[request] = turns.prompt_tokens[place]
    order.output_tokens[request] = turns.output_tokens[place]
    order.predicted_tokens[request] = turns.predicted_tokens[place]


@called
def join(order, turns, queue, request, now_s, arrival_s):
    """Let an arriving request join its queue, with the key that it has now."""
    if turns is not None:
        _number(order, turns, request)
    line = order.lines[queue]
    item = order.items[request]
    item["key"] = _key_of(order, request, now_s, arrival_s)
    line["first"] = pushed(order.items, line["first"], request)
    item["older"] = line["youngest"]
    item["younger"] = NOBODY
    if line["youngest"] == NOBODY:
        line["oldest"] = request
    else:
        order.items[line["youngest"]]["younger"] = request
    line["youngest"] = request


@inlined
def _key_of(order, request, now_s, arrival_s):
    """Return the key of a request at an instant."""
    prompt, predicted = np.int64(order.prompt_tokens[request]), np.int64(order.predicted_tokens[request])
    return key_of(order, request, now_s, arrival_s[request], prompt, predicted, 0, 0.0)


@called
def _look(order, queue, now_s, arrival_s):
    """Work out anew the keys of all who wait in a queue, and so who goes first."""
    todo, first = order.lines[queue]["first"], NOBODY
    while todo != NOBODY:
        request = todo
        todo = unfolded(order.items, request)
        order.items[request]["key"] = _key_of(order, request, now_s, arrival_s)
        first = pushed(order.items, first, request)
    order.lines[queue]["first"] = first


@inlined
def look_at_ready(order, queues, ready_count, heads_matter, now_s, arrival_s):
    """Note the heads of the ready queues, where the choice of a queue looks at them: newcomers may go first."""
    if heads_matter:
        for place in range(ready_count):
            queue = queues.ready[place]
            if order.changes:
                _look(order, queue, now_s, arrival_s)
            queues.head_index[queue] = order.lines[queue]["first"]
            queues.head_arrival_s[queue] = arrival_s[order.lines[queue]["first"]]


@inlined
def look_at_taken(order, queue, heads_matter, now_s, arrival_s):
    """Work out the keys of the queue that a batch is taken from, where that has not been done for its choice."""
    if order.changes and not heads_matter:
        _look(order, queue, now_s, arrival_s)


@called
def formed_by(order, queue, limit, arrival_s):
    """Return the arrivals of the one who waits longest in a queue, and of the one who makes a batch of `limit` full."""
    request = order.lines[queue]["oldest"]
    oldest_s = arrival_s[request]
    for _ in range(limit - 1):
        if request == NOBODY:
            break
        request = np.int64(order.items[request]["younger"])
    return oldest_s, arrival_s[request] if request != NOBODY else np.inf


@called
def take(order, requests, queue, first, most, capacity):
    """Take up to `most` requests off a queue in its order, before the one with which they would not fit into memory.

    They are written to the places from `first` on.

    Returns
    -------
    int
        How many.
    """
    line = order.lines[queue]
    taken, total = 0, np.int64(0)
    while taken < most:
        request = line["first"]
        prompt, predicted = order.prompt_tokens[request], order.predicted_tokens[request]
        total += np.int64(prompt) + np.int64(predicted)
        if total > capacity:
            break
        line["first"] = without_first(order.items, request)
        item = order.items[request]
        if item["older"] == NOBODY:
            line["oldest"] = item["younger"]
        else:
            order.items[item["older"]]["younger"] = item["younger"]
        if item["younger"] == NOBODY:
            line["youngest"] = item["older"]
        else:
            order.items[item["younger"]]["older"] = item["older"]
        place = first + taken
        requests.trace_index[place] = request
        requests.prompt_tokens[place] = prompt
        requests.output_tokens[place] = order.output_tokens[request]
        requests.predicted_tokens[place] = predicted
        taken += 1
    return taken


_i4, _i8 = types.Array(types.int32, 1, "C"), types.Array(types.int64, 1, "C")
# Of the fields of `Order`, one by one.
ORDER_TYPE = (
    ORDER.type, types.Array(types.float64, 1, "C"), types.int64, types.boolean, WAITING_ITEMS_TYPE, WAITING_ITEMS_TYPE,
    _i8, types.Array(from_dtype(LINE_DTYPE), 1, "C"), _i4, _i4, _i4,
)  # fmt: skip
