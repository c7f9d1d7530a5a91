"""What is done to arrival times: equal ones spread inside the clock's resolution, gaps scaled."""

from __future__ import annotations

import numpy as np

from mbexp.config.workload_keys import WorkloadConfig
from mbexp.errors import UserError
from mbexp.workload.trace import FloatArray


def spread_ties(arrival_s: FloatArray, resolution_s: float) -> tuple[FloatArray, int]:
    """Spread equal arrivals evenly over the resolution of the trace's clock.

    The j-th of m equal times moves by ``resolution_s * j / m``, or less where the next different time is nearer than
    the resolution, so that the order of the trace is kept. Nothing is drawn at random.

    Parameters
    ----------
    arrival_s : float64 array, shape (n,)
        Seconds, non-decreasing.
    resolution_s
        Seconds; 0 keeps the times as they are.

    Returns
    -------
    arrival_s : float64 array, shape (n,)
        Spread times, seconds, non-decreasing.
    changed : int
        How many of them moved.
    """
    count = len(arrival_s)
    if resolution_s <= 0 or count < 2:
        return arrival_s, 0
    is_start = np.empty(count, dtype=bool)
    is_start[0] = True
    np.not_equal(arrival_s[1:], arrival_s[:-1], out=is_start[1:])
    starts = np.flatnonzero(is_start)
    if len(starts) == count:
        return arrival_s, 0
    sizes = np.diff(starts, append=count)
    step = np.minimum(np.diff(arrival_s[starts], append=np.inf), resolution_s) / sizes
    spread = np.arange(count, dtype=np.float64)
    spread -= np.repeat(starts, sizes)
    spread *= np.repeat(step, sizes)
    spread += arrival_s  # never beyond the next time: rounding is monotone, and (m - 1) / m leaves room for it
    return spread, int(np.count_nonzero(spread != arrival_s))


def scale_gaps(arrival_s: FloatArray, workload: WorkloadConfig) -> FloatArray:
    """Return times from 0 on, gaps divided by ``rate_scaling`` unless real timestamps are asked for."""
    from_zero = arrival_s - arrival_s[0]
    if workload.timestamps != "scaled":
        return from_zero
    with np.errstate(over="ignore"):
        from_zero /= workload.rate_scaling
    if not np.isfinite(from_zero[-1]):
        raise UserError(f"workload.rate_scaling={workload.rate_scaling:g}: too small, arrival times become infinite")
    return from_zero
