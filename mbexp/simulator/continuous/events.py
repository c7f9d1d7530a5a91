"""Events of the continuous event loop: the ends of iterations, and the GPUs that stand at a boundary."""

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called, inlined
from mbexp.compiled.heap import heap
from mbexp.simulator.continuous.layout import (
    FETCHED_GPUS,
    event_at,
    fetch_ages,
    fetch_gpu,
    fetch_leaves,
    fetch_request,
    gpu_at,
    leave_at,
    note_event,
    standing_at,
)


@inlined
def next_event_s(run):
    """Return the instant at which an iteration ends next, infinity where none is under way."""
    return event_at(run, 1).time_s


@inlined
def set_event(run, gpu, time_s):
    """Let the iteration that a GPU is at end at an instant, in place of the one known so far."""
    gpu.event_s = time_s
    note_event(run, gpu.index, time_s)
    if run.num_gpus >= FETCHED_GPUS:
        # Who leaves the GPU that comes next.
        fetch_request(run, leave_at(run, event_at(run, 1).gpu, 0).request)


@inlined
def fetch_ahead(run, gpu_index):
    """Let the processor fetch what an event of a GPU will read, where there are so many that it is not at hand."""
    if run.num_gpus >= FETCHED_GPUS:
        fetch_gpu(run, gpu_index)
        fetch_leaves(run, gpu_index)
        fetch_ages(run, gpu_index)


@inlined
def stop_at_boundary(run, gpu):
    """Let a GPU in the middle of a segment come to the boundary noted in its record, if it would go on past it."""
    if gpu.boundary_s < gpu.event_s:
        gpu.planned = int(gpu.boundary)
        set_event(run, gpu, gpu.boundary_s)


@inlined
def pop_event(run):
    """Return the GPU whose iteration ends first, by time and then by index; its event is over."""
    first = np.int64(event_at(run, 1).gpu)
    note_event(run, first, np.inf)
    fetch_ahead(run, event_at(run, 1).gpu)
    return first


@inlined
def _standing_at(run, one_heap, place):
    """Return an entry of the only heap of GPUs at a boundary."""
    return standing_at(run, place)


_standing_up, _standing_down = heap(_standing_at, "running", "gpu")


@called
def stand(run, gpu, running):
    """Add a GPU to those that stand at a boundary, with so many requests on it or `NOT_READY`."""
    gpu.at_boundary = True
    place = run.standing_count
    if run.aside_count > 0:
        # Those put aside stand behind the heap.
        first, free = standing_at(run, place), standing_at(run, place + run.aside_count)
        free.running, free.gpu = first.running, first.gpu
    run.standing_count += 1
    _standing_up(run, 0, place, running, gpu.index)


@inlined
def comes_first(run, gpu):
    """Return whether a GPU is emptier than all that stand at a boundary and may admit, or is of lower index."""
    if run.standing_count == 0:
        return True
    first = standing_at(run, 0)
    return gpu.running < first.running or (gpu.running == first.running and gpu.index < first.gpu)


@called
def place_first(run, running):
    """Note how many requests run now on the GPU that stood first at a boundary; another may come first."""
    _standing_down(run, 0, 0, run.standing_count, running, standing_at(run, 0).gpu)


@called
def put_first_aside(run):
    """Put the GPU that stands first at a boundary aside, until what waits has changed."""
    first, last = standing_at(run, 0), standing_at(run, run.standing_count - 1)
    running, gpu_index = first.running, first.gpu
    run.standing_count -= 1
    if run.standing_count > 0:
        _standing_down(run, 0, 0, run.standing_count, last.running, last.gpu)
    free = standing_at(run, run.standing_count)
    free.running, free.gpu = running, gpu_index
    run.aside_count += 1


@called
def take_back_aside(run):
    """Let the GPUs that were put aside stand among the others again: something else waits now."""
    while run.aside_count > 0:
        entry = standing_at(run, run.standing_count)
        _standing_up(run, 0, run.standing_count, entry.running, entry.gpu)
        run.standing_count += 1
        run.aside_count -= 1


@called
def first_standing(run):
    """Take the GPU that stands first at a boundary, one put aside where there is no other, and return it."""
    if run.standing_count == 0:
        run.aside_count -= 1
        gpu_index = standing_at(run, run.aside_count).gpu
    else:
        gpu_index = standing_at(run, 0).gpu
        put_first_aside(run)
        # It stands nowhere: the last of those put aside takes its place.
        place, last = run.standing_count, run.standing_count + run.aside_count - 1
        kept, moved = standing_at(run, place), standing_at(run, last)
        kept.running, kept.gpu = moved.running, moved.gpu
        run.aside_count -= 1
    gpu_at(run, gpu_index).at_boundary = False
    return gpu_index
