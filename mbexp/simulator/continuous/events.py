"""Events of the continuous event loop: GPUs in a heap by (time, index), and GPUs that stand at a boundary."""

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import inlined
from mbexp.simulator.continuous.access import event_at, gpu_at
from mbexp.simulator.continuous.layout import NOBODY


@inlined
def next_event_s(run):
    """Return the time of the first event, infinity where there is none."""
    return event_at(run, 0).time_s if run.event_count > 0 else np.inf


@inlined
def set_event(run, gpu_index, time_s):
    """Give a GPU its next event, in place of the one that it had."""
    gpu = gpu_at(run, gpu_index)
    place = gpu.place
    later = False
    if place == NOBODY:
        place = run.event_count
        run.event_count += 1
    else:
        later = time_s > gpu.event_s
    gpu.event_s = time_s
    if later:
        _sift_down(run, place, gpu_index, time_s)
    else:
        _sift_up(run, place, gpu_index, time_s)


@inlined
def pop_event(run):
    """Take the first GPU out of the heap and return it."""
    first = event_at(run, 0).gpu
    gpu_at(run, first).place = NOBODY
    run.event_count -= 1
    if run.event_count > 0:
        last = event_at(run, run.event_count)
        _sift_down(run, 0, last.gpu, last.time_s)
    return first


@inlined
def _sift_up(run, place, gpu_index, time_s):
    while place > 0:
        parent = (place - 1) >> 1
        above = event_at(run, parent)
        if above.time_s < time_s or (above.time_s == time_s and above.gpu < gpu_index):
            break
        _put(run, place, above.gpu, above.time_s)
        place = parent
    _put(run, place, gpu_index, time_s)


@inlined
def _sift_down(run, place, gpu_index, time_s):
    count = run.event_count
    child = 2 * place + 1
    while child < count:
        below = event_at(run, child)
        if child + 1 < count:
            other = event_at(run, child + 1)
            if other.time_s < below.time_s or (other.time_s == below.time_s and other.gpu < below.gpu):
                child += 1
                below = other
        if time_s < below.time_s or (time_s == below.time_s and gpu_index < below.gpu):
            break
        _put(run, place, below.gpu, below.time_s)
        place = child
        child = 2 * place + 1
    _put(run, place, gpu_index, time_s)


@inlined
def _put(run, place, gpu_index, time_s):
    event = event_at(run, place)
    event.time_s = time_s
    event.gpu = gpu_index
    gpu_at(run, gpu_index).place = place


@inlined
def stand(run, gpu_index):
    """Add a GPU to those that stand at a boundary, ascending."""
    gpu_at(run, gpu_index).at_boundary = True
    place = run.standing_count
    while place > 0 and gpu_at(run, place - 1).standing > gpu_index:
        gpu_at(run, place).standing = gpu_at(run, place - 1).standing
        place -= 1
    gpu_at(run, place).standing = gpu_index
    run.standing_count += 1


@inlined
def first_standing(run):
    """Take the first GPU off those that stand at a boundary and return it."""
    first = gpu_at(run, 0).standing
    run.standing_count -= 1
    for place in range(run.standing_count):
        gpu_at(run, place).standing = gpu_at(run, place + 1).standing
    gpu_at(run, first).at_boundary = False
    return first
