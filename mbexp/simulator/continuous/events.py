"""Events of the continuous event loop: the ends of iterations, and the GPUs that stand at a boundary."""

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import inlined
from mbexp.compiled.heap import heap
from mbexp.simulator.continuous.layout import NOBODY, event_at, gpu_at, standing_at


@inlined
def _event_at(run, one_heap, place):
    """Return an entry of the only heap of events."""
    return event_at(run, place)


@inlined
def _note_place(run, gpu_index, place):
    """Note where the event of a GPU stands in the heap."""
    gpu_at(run, gpu_index).event_place = place


_sift_up, _sift_down = heap(_event_at, "time_s", "gpu", _note_place)


@inlined
def next_event_s(run):
    """Return the instant at which an iteration ends next, infinity where none is under way."""
    return event_at(run, 0).time_s if run.event_count > 0 else np.inf


@inlined
def set_event(run, gpu, time_s):
    """Let the iteration that a GPU is at end at an instant, in place of the one known so far."""
    place = gpu.event_place
    later = False
    if place == NOBODY:
        place = run.event_count
        run.event_count += 1
    else:
        later = time_s > gpu.event_s
    gpu.event_s = time_s
    if later:
        _sift_down(run, 0, place, run.event_count, time_s, gpu.index)
    else:
        _sift_up(run, 0, place, time_s, gpu.index)


@inlined
def stop_at_boundary(run, gpu):
    """Let a GPU in the middle of a segment come to the boundary noted in its record, if it would go on past it."""
    if gpu.boundary_s < gpu.event_s:
        gpu.planned = int(gpu.boundary)
        set_event(run, gpu, gpu.boundary_s)


@inlined
def pop_event(run):
    """Return the GPU whose iteration ends first, by time and then by index; its event is over."""
    first = event_at(run, 0).gpu
    gpu_at(run, first).event_place = NOBODY
    run.event_count -= 1
    if run.event_count > 0:
        last = event_at(run, run.event_count)
        _sift_down(run, 0, 0, run.event_count, last.time_s, last.gpu)
    return first


@inlined
def stand(run, gpu):
    """Add a GPU to those that stand at a boundary, by index."""
    gpu.at_boundary = True
    place = run.standing_count
    while place > 0 and standing_at(run, place - 1).value > gpu.index:
        standing_at(run, place).value = standing_at(run, place - 1).value
        place -= 1
    standing_at(run, place).value = gpu.index
    run.standing_count += 1


@inlined
def first_standing(run):
    """Return the GPU of lowest index that stands at a boundary; it stands there no longer."""
    first = standing_at(run, 0).value
    run.standing_count -= 1
    for place in range(run.standing_count):
        standing_at(run, place).value = standing_at(run, place + 1).value
    gpu_at(run, first).at_boundary = False
    return first
