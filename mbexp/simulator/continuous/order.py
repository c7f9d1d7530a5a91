"""Queues with an order of their own, each a heap, in the continuous event loop (docs/semantics/order.md)."""

# mypy: allow-untyped-defs

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import from_dtype, types

from mbexp.compiled.decorators import called, inlined
from mbexp.compiled.pairing_heap import NOBODY, pushed, unfolded, without_first
from mbexp.compiled.variants import variant
from mbexp.policy.build import QueueOrder
from mbexp.policy.slots import ORDER, value_of
from mbexp.simulator.continuous.extended import PART, who_of
from mbexp.simulator.continuous.fair import CLASS_DTYPE, begin_to_wait, charge, classes_with, counter, settle
from mbexp.simulator.continuous.layout import HEAD, READY, head_s, queue_at, queue_set_at, request_at
from mbexp.simulator.continuous.wait import NO_WAIT, is_filled, no_pauses
from mbexp.simulator.order import WAITING_ITEMS_TYPE, Claims, claim, key_of


class Order(NamedTuple):
    """An order as the loop takes it.

    `items` go by the numbers of requests, `claims` by their places in the trace; the two are the same but for turns of
    conversations, which are numbered as they come. `looked_s` is the instant at which the keys of each queue were
    worked out, shape (sets, queues). With `future` admission looks at the future peak of memory, for which there are
    `rows`, as many as may run on a GPU and one. With `fair` it is counted what `classes` are served
    (`mbexp.simulator.continuous.fair`): who is `decoding` on each GPU by class, shape (GPUs, classes), and up to which
    decode step of each GPU tokens are `settled`. With `preempts` a head displaces who runs, while the latter has
    emitted at most a `share` of its prediction, and if its key is more than a `margin` above. With `grows` that may
    come about as who runs is served, and is looked at at every boundary. Under `wait` an iteration waits for newcomers
    of the `types`, and GPUs have `pauses` (`mbexp.simulator.continuous.wait`).
    """

    rank: Any
    parameters: npt.NDArray[np.float64]
    by: int
    changes: bool
    items: npt.NDArray[Any]
    claims: npt.NDArray[Any]
    failed: npt.NDArray[np.int64]
    looked_s: npt.NDArray[np.float64]
    future: bool
    rows: npt.NDArray[np.int64]
    fair: bool
    classes: npt.NDArray[Any]
    decoding: npt.NDArray[np.int64]
    settled: npt.NDArray[np.int64]
    preempts: bool
    share: float
    margin: float
    grows: bool
    wait: int
    types: npt.NDArray[np.int64]
    pauses: npt.NDArray[np.float64]


def order_of(
    order: QueueOrder, claims: Claims, state: SimpleNamespace, future: bool, wait: int, types: npt.NDArray[np.int64]
) -> Order:
    """Return the order as the loop takes it, before the run."""
    rule, items = order.rule, claims.items()
    num_sets, _, num_queues = state.queues.shape
    num_gpus, num_slots = state.leaves.shape
    return Order(
        rank=value_of(rule.function),
        parameters=rule.parameters,
        by=order.by,
        changes=order.changes,
        items=items,
        claims=items.copy(),
        failed=np.zeros(1, np.int64),
        looked_s=np.full((num_sets, num_queues), -np.inf),
        future=future,
        rows=np.zeros(num_slots + 1, np.int64),
        fair=order.fair,
        classes=classes_with(claims.weights),
        decoding=np.zeros((num_gpus, len(claims.weights)), np.int64),
        settled=np.zeros(num_gpus, np.int64),
        preempts=order.preempts,
        share=order.share,
        margin=order.margin,
        grows=order.grows,
        wait=wait,
        types=types,
        pauses=no_pauses(num_gpus),
    )


@inlined
def _turn_comes(run, order, request):
    """Let a turn have the claims of its place in the trace by the number that it got."""
    if run.num_turns > 0:
        claim(order, request, np.int64(who_of(run, request).value))


@inlined
def _as_listed(run, order, request):
    """Let a request have its claims: they stand by its place in the trace, which is its number."""


come_in_order = variant(PART, _turn_comes, _as_listed)


@inlined
def key_with(run, order, request, emitted, now_s):
    """Return the key of a request at an instant, with so many tokens emitted."""
    item = request_at(run, request)
    lengths = np.int64(item.prompt), np.int64(item.predicted)
    service = counter(order, np.int64(order.items[request]["of_class"])) if order.fair else 0.0
    return key_of(order, request, now_s, item.arrival_s, lengths[0], lengths[1], emitted, service)


@inlined
def _key_of(run, order, request, now_s):
    """Return the key of a request that waits at an instant."""
    return key_with(run, order, request, np.int64(request_at(run, request).emitted), now_s)


@called
def join(run, order, queue_set, queue, request, now_s):
    """Let a request join its queue with the key that it has now; the head is again the first."""
    head = queue_at(run, queue_set, HEAD, queue)
    if order.fair:
        begin_to_wait(run, order, request, not request_at(run, request).started, now_s)
    order.items[request]["key"] = _key_of(run, order, request, now_s)
    head.value = pushed(order.items, head.value, request)
    head_s(run, queue_set, queue).value = request_at(run, head.value).arrival_s


@inlined
def head_taken(run, order, head):
    """Return the head of a queue once its head has been taken off."""
    if order.fair:
        charge(order, request_at(run, head), head)
    return without_first(order.items, head)


@called
def _look(run, order, queue_set, queue, now_s):
    """Work out anew the keys of all who wait in a queue, and so its head."""
    head = queue_at(run, queue_set, HEAD, queue)
    todo, first = head.value, NOBODY
    while todo != NOBODY:
        request = todo
        todo = unfolded(order.items, request)
        order.items[request]["key"] = _key_of(run, order, request, now_s)
        first = pushed(order.items, first, request)
    head.value = first
    head_s(run, queue_set, queue).value = request_at(run, first).arrival_s
    order.looked_s[queue_set, queue] = now_s


@called
def look_at_heads(run, order, queue_set, now_s):
    """Find the heads of all queues of a set under keys that change with time, once an instant."""
    if not order.changes:
        return
    if order.fair:
        settle(run, order, now_s)
    for place in range(queue_set_at(run, queue_set).ready_count):
        queue = queue_at(run, queue_set, READY, place).value
        if order.looked_s[queue_set, queue] != now_s:
            _look(run, order, queue_set, queue, now_s)


@inlined
def at_every_boundary(order):
    """Return whether a GPU tries to admit at every boundary: who is next, fits, may come or may go changes."""
    return order.changes or order.future or order.grows or order.wait != NO_WAIT


@inlined
def comes_at_arrivals(order):
    """Return whether a GPU with room comes to its next boundary whoever arrives, to look at the head there."""
    return at_every_boundary(order) or order.preempts


@inlined
def stops_at_every_boundary(run, order, queue_set, gpu):
    """Return whether a GPU tries to admit at every boundary from now on, or may have to wait at the next."""
    if order.wait != NO_WAIT and not is_filled(run, order, gpu, queue_set):
        return True
    return at_every_boundary(order) and gpu.room >= 0 and queue_set_at(run, queue_set).waiting > 0


_f8, _i8 = types.Array(types.float64, 1, "C"), types.Array(types.int64, 1, "C")
# Of the fields of `Order`, one by one.
ORDER_TYPE = (
    ORDER.type, _f8, types.int64, types.boolean, WAITING_ITEMS_TYPE, WAITING_ITEMS_TYPE,
    _i8, types.Array(types.float64, 2, "C"), types.boolean, _i8,
    types.boolean, types.Array(from_dtype(CLASS_DTYPE), 1, "C"), types.Array(types.int64, 2, "C"), _i8,
    types.boolean, types.float64, types.float64, types.boolean,
    types.int64, types.Array(types.int64, 2, "C"), types.Array(types.float64, 2, "C"),
)  # fmt: skip
