"""When each GPU could admit next, at the earliest: a few numbers of each, side by side, for the search of a GPU.

Nothing in these loops branches, so that the processor takes several GPUs at a time.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from mbexp.simulator.continuous.access import called, front_cell, front_row
from mbexp.simulator.continuous.layout import (
    BOUNDARY_S,
    EARLIEST_S,
    EMPTY,
    NEVER_SURE,
    RATE,
    ROOM,
    SLACK,
    STEP_S,
)

# What rounding may add or take: as a part of an instant, and of an iteration after so many steps that their square
# still leaves an estimate sure (2**15). Each is a few ten times as much as it can.
_OF_INSTANT, _OF_ITERATION = 2.0**-44, 2.0**-30


@called
def set_front(run, gpu, gpu_index):
    """Note the boundary that is known of a GPU, and how long the iteration after it takes.

    `SLACK` is how far the estimate may be off after one step, as a part of it; this grows with the square of the steps.
    """
    front_cell(run, ROOM, gpu_index).value = gpu.room
    front_cell(run, BOUNDARY_S, gpu_index).value = gpu.boundary_s
    step_s = gpu.first_s + gpu.growth_s * gpu.boundary
    if gpu.kind != EMPTY and step_s > 0.0 and gpu.growth_s >= 0.0:
        rate = 1.0 / step_s
        front_cell(run, STEP_S, gpu_index).value = step_s
        front_cell(run, RATE, gpu_index).value = rate
        rounding_s = _OF_INSTANT * (abs(gpu.start_s) + abs(gpu.boundary_s))
        front_cell(run, SLACK, gpu_index).value = (0.5 * gpu.growth_s + rounding_s) * rate + _OF_ITERATION
    else:
        front_cell(run, SLACK, gpu_index).value = NEVER_SURE


@called
def estimate(run, need, now_s):
    """Note for each GPU with room for `need` an instant not after its next boundary, infinity for the others.

    If iterations did not grow, the last boundary before now would be `part` of an iteration ago. They do grow, so that
    the next one comes later than that says; unless the last one is not before now, and this may be if `part` is small.
    """
    at, places = run.fronts_at, run.front_places
    room, boundary_s = front_row(at, places, ROOM), front_row(at, places, BOUNDARY_S)
    step_s, rate = front_row(at, places, STEP_S), front_row(at, places, RATE)
    slack, earliest_s = front_row(at, places, SLACK), front_row(at, places, EARLIEST_S)
    for place in range(len(earliest_s)):
        steps = (now_s - boundary_s[place]) * rate[place]
        whole = np.floor(steps)
        part = steps - whole
        ahead_s = (1.0 - slack[place] - part) * step_s[place]
        sure = part > slack[place] * (whole + 1.0) * (whole + 1.0)
        at_s = now_s + ahead_s if sure else now_s
        at_s = boundary_s[place] if boundary_s[place] >= now_s else at_s
        earliest_s[place] = at_s if room[place] >= need else np.inf


@called
def first_of(run):
    """Return the GPU with the smallest estimate, the first of equals, and the estimate."""
    earliest_s = front_row(run.fronts_at, run.front_places, EARLIEST_S)
    least_s = np.inf
    for place in range(len(earliest_s)):
        least_s = earliest_s[place] if earliest_s[place] < least_s else least_s
    # To look at all of them is faster than to stop at the right one.
    first = len(earliest_s)
    for place in range(len(earliest_s)):
        first = min(first, place if earliest_s[place] == least_s else len(earliest_s))
    return first, least_s


@called
def none_until(run, time_s):
    """Return whether every estimate lies after an instant."""
    earliest_s = front_row(run.fronts_at, run.front_places, EARLIEST_S)
    until = 0
    for place in range(len(earliest_s)):
        until += earliest_s[place] <= time_s
    return until == 0
