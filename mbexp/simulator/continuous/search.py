"""Which GPU will be the first to admit the head of a queue: of those with room, whose iteration ends first."""

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called, inlined
from mbexp.simulator.continuous.events import stop_at_boundary
from mbexp.simulator.continuous.fronts import estimate, first_of, none_until, set_front
from mbexp.simulator.continuous.layout import (
    ANY_BIN,
    BAD_SELECTION,
    EARLIEST_S,
    EMPTY,
    HEAD,
    NOBODY,
    SHARE,
    front_at,
    gpu_at,
    queue_at,
    request_at,
)
from mbexp.simulator.continuous.memory import needed
from mbexp.simulator.continuous.order import at_every_boundary
from mbexp.simulator.continuous.queue import may_take_own, named_queue
from mbexp.simulator.continuous.segment import look_ahead


@called
def first_to_admit(run, queues, heads_s, memory, now_s, last, select, select_parameters):
    """Return the first GPU that will come to admit a request of the central queues, NOBODY where none can yet.

    Its next boundary is left in its record: at or after now, after now for a GPU up to `last`.
    """
    need = 0
    if run.serves != SHARE:
        need = _need_of_named(run, queues, heads_s, memory, 0, now_s, select, select_parameters)
        if need == NOBODY:
            return NOBODY

    # Few are looked at one by one; of many the one that could admit first, then any that could before it does.
    if run.many_gpus:
        # A GPU that is bound to a bin looks at another head.
        estimate(run, need if run.serves == ANY_BIN else 0, now_s)
    best, best_s = NOBODY, np.inf
    gpu_index, earliest_s = -1, now_s
    while True:
        if run.many_gpus:
            gpu_index, earliest_s = first_of(run)
            if earliest_s == np.inf or earliest_s > best_s or (earliest_s == best_s and gpu_index > best):
                return best
            front_at(run, EARLIEST_S, gpu_index).value = np.inf
        else:
            gpu_index += 1
            if gpu_index == run.num_gpus:
                return best
        gpu = gpu_at(run, gpu_index)
        if gpu.room < 0 or not _takes_head(run, gpu, 0, need):
            continue
        at_s = now_s  # an empty GPU stands at a boundary
        if gpu.kind != EMPTY:
            if gpu.boundary_s < now_s or (gpu.boundary_s == now_s and gpu_index <= last):
                look_ahead(gpu, now_s, gpu_index <= last)
                if run.many_gpus:
                    set_front(run, gpu)
            at_s = gpu.boundary_s
        if at_s < best_s or (at_s == best_s and gpu_index < best):
            best, best_s = gpu_index, at_s
            # It came as early as it could, or no other can as early: one of the two most often holds for the first.
            if at_s == earliest_s or (run.many_gpus and none_until(run, at_s)):
                return best


@called
def rouse(run, now_s, last):
    """Let every GPU with room come to its next boundary, since who is next, or fits, changes with time.

    Returns
    -------
    int
        The first empty GPU that may take from a queue, which admits at once; NOBODY where there is none.
    """
    found = NOBODY
    for gpu_index in range(run.num_gpus):
        gpu = gpu_at(run, gpu_index)
        if gpu.room < 0:
            continue
        if gpu.kind == EMPTY:
            if found == NOBODY and not gpu.at_boundary and _takes_head(run, gpu, 0, 0):
                found = gpu_index
        else:
            _to_next_boundary(run, gpu, now_s, gpu_index <= last)
    return found


@inlined
def _to_next_boundary(run, gpu, now_s, strictly):
    """Let a GPU in the middle of a segment stop at its first boundary at or after an instant (`strictly`: after it)."""
    if gpu.boundary_s < now_s or (gpu.boundary_s == now_s and strictly):
        look_ahead(gpu, now_s, strictly)
    stop_at_boundary(run, gpu)


@inlined
def _takes_head(run, gpu, queue_set, need):
    """Return whether a GPU may take from its queue, and has room for the head; `need` is that of the named queue."""
    if gpu.taken_bin == NOBODY:
        return need <= gpu.room
    if not may_take_own(run, gpu, queue_set):
        return False
    item = request_at(run, queue_at(run, queue_set, HEAD, gpu.taken_bin).value)
    return needed(run, item) <= gpu.room


@inlined
def _need_of_named(run, queues, heads_s, memory, queue_set, now_s, select, select_parameters):
    """Return what the head of the queue that the selection rule names will hold, NOBODY where that queue is empty."""
    queue = 0
    if run.num_bins > 1:
        queue = named_queue(run, queues, heads_s, memory, queue_set, now_s, select, select_parameters, False)
        if queue == NOBODY:
            run.status = BAD_SELECTION
            return NOBODY
    item = request_at(run, queue_at(run, queue_set, HEAD, queue).value)
    return needed(run, item)


@called
def wake(run, queues, heads_s, memory, gpu_index, now_s, select, select_parameters, order):
    """Let a GPU with queues of its own, in the middle of a segment, try to admit at its first boundary from now on.

    It goes on undisturbed where it could not admit the head that it would take.
    """
    gpu = gpu_at(run, gpu_index)
    if order is not None and at_every_boundary(order):
        _to_next_boundary(run, gpu, now_s, False)
        return
    need = 0
    if gpu.taken_bin == NOBODY:
        need = _need_of_named(run, queues, heads_s, memory, gpu_index, now_s, select, select_parameters)
        if need == NOBODY:
            return
    if _takes_head(run, gpu, gpu_index, need):
        look_ahead(gpu, now_s, False)
        stop_at_boundary(run, gpu)
