"""Chooses which contiguous part of a trace is used."""

from __future__ import annotations

import numpy as np

from mbexp.config import WindowConfig
from mbexp.errors import UserError
from mbexp.workload.trace import FloatArray

NEAR = 0.01  # 'typical': windows whose mean rate is this near to the whole trace's are alike


def choose_window(arrival_s: FloatArray, window: WindowConfig, num_requests: int | None) -> tuple[slice, list[str]]:
    """Return the rows of the window, and what a reader of the results must know about the choice.

    Parameters
    ----------
    arrival_s : float64 array, shape (n,)
        Arrivals of all usable requests, seconds, non-decreasing, n >= 1.
    window
        What was asked for. 'busiest' is the `num_requests` contiguous requests that arrive in the shortest time.
        'typical' is, among the windows of `num_requests` requests whose mean rate is within 1 % of the whole trace's
        (or the nearest, where none is), the one whose gaps between arrivals have the median variance.
    num_requests
        Length of the window; None takes all that follows its start.

    Raises
    ------
    UserError
        If the window starts behind the last request or holds none.
    """
    total = len(arrival_s)
    wanted = total if num_requests is None else num_requests
    notes: list[str] = []
    if window.kind == "rows":
        if window.start_row >= total:
            raise UserError(
                f"workload.window.start_row={window.start_row}: the trace has {total:,} usable requests, "
                f"so the last one is row {total - 1}"
            )
        start, stop = window.start_row, total
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
        place = "the trace has" if start == 0 else f"from request {start + 1:,} on the trace has"
        notes.append(
            f"{place} {stop - start:,} usable requests, fewer than num_requests={num_requests:,}: all are used"
        )
    return slice(start, min(stop, start + wanted)), notes


def describe_window(chosen: slice, kind: str, arrival_s: FloatArray) -> str:
    """Return which rows of how many, and their mean rate beside the trace's, in words."""
    total = len(arrival_s)
    first, last = chosen.start, chosen.stop - 1
    if last - first + 1 == total:
        return f"all {total:,} requests, mean rate {_rate(arrival_s, first, last)}"
    return (
        f"requests {first + 1:,} to {last + 1:,} of {total:,} ({kind}), mean rate {_rate(arrival_s, first, last)}; "
        f"whole trace {_rate(arrival_s, 0, total - 1)}"
    )


def _rate(arrival_s: FloatArray, first: int, last: int) -> str:
    span = float(arrival_s[last] - arrival_s[first])
    return f"{(last - first) / span:.4g}/s" if span > 0 else "undefined (all at one instant)"


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
    lasts_s = arrival_s[count - 1 :] - arrival_s[: total - count + 1]
    near = np.flatnonzero(np.abs(lasts_s - target_s) <= NEAR * target_s)
    if not len(near):
        with np.errstate(divide="ignore"):
            return int(np.argmin(np.abs(np.log(lasts_s) - np.log(target_s))))
    gaps_s = np.diff(arrival_s)
    gaps_s *= gaps_s
    squares = np.empty(total)
    squares[0] = 0.0
    np.cumsum(gaps_s, out=squares[1:])
    # windows of one length and (nearly) one rate: the order of the sums of squares is that of the variances
    burstiness = squares[near + count - 1] - squares[near]
    return int(near[np.argsort(burstiness, kind="stable")[len(near) // 2]])
