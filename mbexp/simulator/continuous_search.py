"""Which GPU will be the first to admit the head of a central queue: of those with room, whose iteration ends first."""

from __future__ import annotations

import numpy as np

from mbexp.simulator.continuous_access import called, gpu_at, queue_cell, request_at
from mbexp.simulator.continuous_dtypes import (
    BAD_SELECTION,
    HEAD,
    NOBODY,
    SHARE,
)
from mbexp.simulator.continuous_gpu import may_take_own
from mbexp.simulator.continuous_memory import held_by
from mbexp.simulator.continuous_queue import named_queue
from mbexp.simulator.continuous_segment import look_ahead


@called
def first_to_admit(run, queues, heads_s, memory, now_s, last, select):
    """Return the first GPU that will come to admit a request of the central queues, NOBODY where none can yet.

    Its next boundary is left in its record: at or after now, after now for a GPU up to `last`.
    """
    named, need = NOBODY, 0
    if run.serves != SHARE:
        named = 0
        if run.num_bins > 1:
            named = named_queue(run, queues, heads_s, memory, 0, now_s, select, False)
            if named == NOBODY:
                run.status = BAD_SELECTION
                return NOBODY
        item = request_at(run, queue_cell(run, 0, HEAD, named).value)
        need = held_by(run, item, item.emitted + 1)

    best_s = np.inf
    best = NOBODY
    for gpu_index in range(run.num_gpus):
        gpu = gpu_at(run, gpu_index)
        if gpu.room < 0:
            continue
        if gpu.taken_bin == NOBODY:
            if need > gpu.room:
                continue
        else:
            if not may_take_own(run, gpu, 0):
                continue
            item = request_at(run, queue_cell(run, 0, HEAD, gpu.taken_bin).value)
            if held_by(run, item, item.emitted + 1) > gpu.room:
                continue
        at_s = now_s
        if gpu.boundary_s < np.inf:  # an empty GPU stands at a boundary
            look_ahead(gpu, now_s, gpu_index <= last)
            at_s = gpu.boundary_s
        if at_s < best_s:
            best_s = at_s
            best = gpu_index
            if at_s == now_s:
                break
    return best
