"""Which GPU will be the first to admit the head of a queue: of those with room, whose iteration ends first."""

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called, inlined
from mbexp.compiled.index_set import lowest
from mbexp.simulator.continuous.calendar import next_in_calendar
from mbexp.simulator.continuous.events import stop_at_boundary
from mbexp.simulator.continuous.layout import (
    ANY_BIN,
    BAD_SELECTION,
    EMPTY,
    HEAD,
    NOBODY,
    SHARE,
    gpu_at,
    idle_gpus,
    queue_at,
    request_at,
)
from mbexp.simulator.continuous.memory import needed
from mbexp.simulator.continuous.order import comes_at_arrivals
from mbexp.simulator.continuous.queue import may_take_own, named_queue
from mbexp.simulator.continuous.segment import look_ahead


@called
def first_to_admit(run, queues, heads_s, memory, now_s, begun, select, select_parameters):
    """Return the first GPU that will come to admit a request of the central queues, NOBODY where none can yet.

    Of those that come at one instant it is the emptiest: the one with fewest requests, then the one of lowest index.
    Its next boundary is left in its record: at or after now, after now where all that stood at one have `begun`.
    GPUs that stand at a boundary are left out, but for empty ones.
    """
    need = 0
    if run.serves != SHARE:
        need = _need_of_named(run, queues, heads_s, memory, 0, now_s, select, select_parameters)
        if need == NOBODY:
            return NOBODY
    if run.serves == ANY_BIN and idle_gpus(run, 0)[0] != 0:
        return lowest(idle_gpus(run, 0))  # it can take any request

    best, best_s, fewest = NOBODY, np.inf, 0
    if run.calendar_size > 0:
        best = NOBODY if need > run.room_max else next_in_calendar(run, need, now_s, begun)
        if best != NOBODY or need > run.room_max:
            return best
        run.room_max = NOBODY
    for gpu_index in range(run.num_gpus):
        gpu = gpu_at(run, gpu_index)
        run.room_max = max(run.room_max, gpu.room)
        if gpu.room < 0 or not _takes_head(run, gpu, 0, need):
            continue
        at_s = now_s  # an empty GPU stands at a boundary
        if gpu.kind != EMPTY:
            if gpu.boundary_s < now_s or (gpu.boundary_s == now_s and begun):
                look_ahead(gpu, now_s, begun)
            at_s = gpu.boundary_s
        if at_s < best_s or (at_s == best_s and gpu.running < fewest):
            best, best_s, fewest = gpu_index, at_s, gpu.running
    return best


@called
def rouse(run, now_s, begun):
    """Let every GPU with room come to its next boundary, since who is next, or fits, changes with time.

    It lies at or after now, after now where all that stood at one have `begun`.

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
            _to_next_boundary(run, gpu, now_s, begun)
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
    if order is not None and comes_at_arrivals(order):
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
