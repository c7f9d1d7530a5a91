"""When each GPU could admit next, at the earliest: a few numbers of each, side by side, for the search of a GPU.

Nothing in these loops branches, so that the processor takes several GPUs at a time.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called
from mbexp.simulator.continuous.layout import (
    BOUNDARY_S,
    EARLIEST_S,
    EMPTY,
    NEVER_SURE,
    RATE,
    ROOM,
    SLACK,
    STEP_S,
    front_at,
    front_row,
)

# What rounding may add or take: as a part of an instant, and of an iteration after so many steps that their square
# still leaves an estimate sure (2**15). Each is a few ten times as much as it can.
_OF_INSTANT, _OF_ITERATION = 2.0**-44, 2.0**-30


@called
def set_front(run, gpu):
    """Note the boundary that is known of a GPU, and how long the iteration after it takes.

    `SLACK` is how far the estimate may be off after one step, as a part of it; this grows with the square of the steps.
    """
    front_at(run, ROOM, gpu.index).value = gpu.room
    front_at(run, BOUNDARY_S, gpu.index).value = gpu.boundary_s
    step_s = gpu.first_s + gpu.growth_s * gpu.boundary
    if gpu.kind != EMPTY and step_s > 0.0 and gpu.growth_s >= 0.0:
        rate = 1.0 / step_s
        front_at(run, STEP_S, gpu.index).value = step_s
        front_at(run, RATE, gpu.index).value = rate
        rounding_s = _OF_INSTANT * (abs(gpu.start_s) + abs(gpu.boundary_s))
        front_at(run, SLACK, gpu.index).value = (0.5 * gpu.growth_s + rounding_s) * rate + _OF_ITERATION
    else:
        front_at(run, SLACK, gpu.index).value = NEVER_SURE


@called
def estimate(run, need, now_s):
    """Note for each GPU with room for `need` an instant not after its next boundary, infinity for the others.

    `part` is how much of an iteration has passed since the last boundary, if iterations take equally long. Iterations
    grow, so that fewer of them fit before now, and the next boundary comes later than this estimate. The estimate fails
    where `part` is so small that the last boundary may lie after now; then now itself is the estimate.
    """
    room, boundary_s = front_row(run, ROOM), front_row(run, BOUNDARY_S)
    step_s, rate = front_row(run, STEP_S), front_row(run, RATE)
    slack, earliest_s = front_row(run, SLACK), front_row(run, EARLIEST_S)
    for gpu_index in range(len(earliest_s)):
        steps = (now_s - boundary_s[gpu_index]) * rate[gpu_index]
        whole = np.floor(steps)
        part = steps - whole
        ahead_s = (1.0 - slack[gpu_index] - part) * step_s[gpu_index]
        sure = part > slack[gpu_index] * (whole + 1.0) * (whole + 1.0)
        at_s = now_s + ahead_s if sure else now_s
        at_s = boundary_s[gpu_index] if boundary_s[gpu_index] >= now_s else at_s
        earliest_s[gpu_index] = at_s if room[gpu_index] >= need else np.inf


@called
def first_of(run):
    """Return the GPU with the smallest estimate, the first of equals, and the estimate."""
    earliest_s = front_row(run, EARLIEST_S)
    least_s = np.inf
    for gpu_index in range(len(earliest_s)):
        least_s = earliest_s[gpu_index] if earliest_s[gpu_index] < least_s else least_s
    # To look at all of them is faster than to stop at the right one.
    first = len(earliest_s)
    for gpu_index in range(len(earliest_s)):
        first = min(first, gpu_index if earliest_s[gpu_index] == least_s else len(earliest_s))
    return first, least_s


@called
def none_until(run, time_s):
    """Return whether every estimate lies after an instant."""
    earliest_s = front_row(run, EARLIEST_S)
    until = 0
    for gpu_index in range(len(earliest_s)):
        until += earliest_s[gpu_index] <= time_s
    return until == 0
