"""Chooses which contiguous part of a trace is used."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mbexp.config.workload_keys import WindowConfig
from mbexp.errors import UserError
from mbexp.workload.trace import FloatArray

NEAR = 0.01  # 'typical': windows whose mean rate is this near to the whole trace's are alike
CANDIDATES = 10_000  # ... and of more such windows than this, every so many are compared
_CHUNK = 1 << 18


def choose_window(
    arrival_s: FloatArray, window: WindowConfig, num_requests: int | None, place: int | None = None
) -> tuple[slice, list[str]]:
    """Return the rows of the window, and what a reader of the results must know about the choice.

    Parameters
    ----------
    arrival_s : float64 array, shape (n,)
        Arrivals of all usable requests, seconds, non-decreasing, n >= 1.
    window
        What was asked for. 'busiest' is the `num_requests` contiguous requests that arrive in the shortest time.
        'typical' looks at the windows of `num_requests` whose mean rate is within 1 % of the whole trace's, or at the
        nearest where none is. Of these it is the one whose gaps between arrivals have the median variance.
    num_requests
        Length of the window; None takes all that follows its start.
    place
        Which of consecutive windows of `num_requests`, from 0 on. They begin where 'rows' or 'time' do, with the first
        request for 'typical', and share no request. None takes the one window that was asked for.

    Raises
    ------
    UserError
        If the window starts behind the last request or holds none, or if there are not so many windows.
    """
    if place is not None:
        return _consecutive(arrival_s, window, num_requests, place)
    total = len(arrival_s)
    wanted = total if num_requests is None else num_requests
    notes: list[str] = []
    if window.kind == "rows":
        start, stop = _rows_window(arrival_s, window)
    elif window.kind == "time":
        start, stop = _time_window(arrival_s, window)
        if window.duration_s is not None and stop - start > wanted:
            notes.append(
                f"the time window holds {stop - start:,} requests; the first {wanted:,} are used (num_requests)"
            )
    elif wanted >= total:
        start, stop = 0, total
    else:
        start = _busiest(arrival_s, wanted) if window.kind == "busiest" else _typical(arrival_s, wanted)
        stop = start + wanted
    if num_requests is not None and stop - start < num_requests and window.duration_s is None:
        where = "the trace has" if start == 0 else f"from request {start + 1:,} on the trace has"
        notes.append(
            f"{where} {stop - start:,} usable requests, fewer than num_requests={num_requests:,}: all are used"
        )
    return slice(start, min(stop, start + wanted)), notes


def describe_window(chosen: slice, kind: str, arrival_s: FloatArray, pace: str | None = None) -> str:
    """Return which rows of how many, and their mean rate beside the trace's, or what else is known of their pace."""
    total = len(arrival_s)
    first, last = chosen.start, chosen.stop - 1
    if pace is not None:
        return f"requests {first + 1:,} to {last + 1:,} of {total:,}{pace}"
    if last - first + 1 == total:
        return f"all {total:,} requests, mean rate {_rate(arrival_s, first, last)}"
    return (
        f"requests {first + 1:,} to {last + 1:,} of {total:,} ({kind}), mean rate {_rate(arrival_s, first, last)}; "
        f"whole trace {_rate(arrival_s, 0, total - 1)}"
    )


def _rate(arrival_s: FloatArray, first: int, last: int) -> str:
    span = float(arrival_s[last] - arrival_s[first])
    return f"{(last - first) / span:.4g}/s" if span > 0 else "undefined (all at one instant)"


def _consecutive(
    arrival_s: FloatArray, window: WindowConfig, num_requests: int | None, place: int
) -> tuple[slice, list[str]]:
    if num_requests is None:
        raise UserError("num_requests=null: replicate=windows needs the length of a window")
    if window.kind == "busiest":
        raise UserError("workload.window.kind=busiest: there is one such window; replicate=windows takes rows or time")
    first, stop = 0, len(arrival_s)
    if window.kind == "rows":
        first, stop = _rows_window(arrival_s, window)
    elif window.kind == "time":
        first, stop = _time_window(arrival_s, window)
    count = (stop - first) // num_requests
    if place >= count:
        raise UserError(
            f"seed={place}: replicate=windows takes window {place + 1}, but {stop - first:,} usable requests hold "
            f"{count} windows of num_requests={num_requests:,}; take shorter ones, or fewer replications"
        )
    start = first + place * num_requests
    note = f"windows: window {place + 1} of {count} consecutive ones of {num_requests:,} requests each"
    return slice(start, start + num_requests), [note]


def _rows_window(arrival_s: FloatArray, window: WindowConfig) -> tuple[int, int]:
    total = len(arrival_s)
    if window.start_row >= total:
        raise UserError(
            f"workload.window.start_row={window.start_row}: the trace has {total:,} usable requests, "
            f"so the last one is row {total - 1}"
        )
    return window.start_row, total


def _time_window(arrival_s: FloatArray, window: WindowConfig) -> tuple[int, int]:
    start = int(np.searchsorted(arrival_s, window.start_s, side="left"))
    stop = len(arrival_s)
    where = f"workload.window.start_s={window.start_s:g}"
    if window.duration_s is not None:
        stop = int(np.searchsorted(arrival_s, window.start_s + window.duration_s, side="left"))
        where += f", duration_s={window.duration_s:g}"
    if start >= stop:
        raise UserError(f"{where}: no request arrives then; the trace lasts {float(arrival_s[-1]):,.0f} s")
    return start, stop


def _busiest(arrival_s: FloatArray, count: int) -> int:
    return int(np.argmin(arrival_s[count - 1 :] - arrival_s[: len(arrival_s) - count + 1]))


def _typical(arrival_s: FloatArray, count: int) -> int:
    total = len(arrival_s)
    span = float(arrival_s[-1])
    if count < 2 or span <= 0:
        return 0
    target_s = (count - 1) * span / (total - 1)  # how long a window of the mean rate lasts
    windows = total - count + 1
    near_parts: list[npt.NDArray[np.int64]] = []
    nearest, least = 0, np.inf
    for low in range(0, windows, _CHUNK):  # in pieces: a week of arrivals need not be copied to be looked through
        high = min(low + _CHUNK, windows)
        lasts_s = arrival_s[low + count - 1 : high + count - 1] - arrival_s[low:high]
        alike = low + np.flatnonzero(np.abs(lasts_s - target_s) <= NEAR * target_s)
        if len(alike):
            near_parts.append(alike)
        if near_parts:
            continue
        with np.errstate(divide="ignore"):
            off = np.abs(np.log(lasts_s / target_s))
        if off.min() < least:
            nearest, least = low + int(np.argmin(off)), float(off.min())
    if not near_parts:
        return nearest
    near = np.concatenate(near_parts)
    near = near[:: -(-len(near) // CANDIDATES)]
    squares = _summed_squares(arrival_s, near + count - 1) - _summed_squares(arrival_s, near)
    # windows of one length and (nearly) one rate: the order of the sums of squares is that of the variances
    return int(near[np.argsort(squares, kind="stable")[len(near) // 2]])


def _summed_squares(arrival_s: FloatArray, at: npt.NDArray[np.int64]) -> FloatArray:
    """Return the sum of the squared gaps before each of the increasing positions `at`."""
    sums = np.empty(len(at))
    before = 0.0
    for low in range(0, len(arrival_s), _CHUNK):
        gaps_s = np.diff(arrival_s[low : low + _CHUNK + 1])
        running = np.concatenate(([before], before + np.cumsum(gaps_s * gaps_s)))
        inside = slice(*np.searchsorted(at, (low, low + _CHUNK)))
        sums[inside] = running[at[inside] - low]
        before = float(running[-1])
    return sums
