"""The unit of a trace's clock: taken from the configuration or the kind, and doubted where the times look otherwise."""

from __future__ import annotations

import numpy as np

from mbexp.config.workload_keys import WorkloadConfig
from mbexp.errors import UserError
from mbexp.workload.trace import FloatArray

DENSEST_PER_S, SPARSEST_PER_S = 500.0, 0.005  # mean rates beyond which an assumed unit is doubted
_EPOCH_S = (9e8, 4e9)  # 1998 to 2096 in seconds since 1970
_EPOCHS = {1e-3: "milliseconds", 1e-6: "microseconds", 1e-9: "nanoseconds"}


def in_seconds(
    times: FloatArray, is_date: bool, workload: WorkloadConfig, kind_unit_s: float
) -> tuple[FloatArray, list[str]]:
    """Return arrival times in seconds, and what a reader of the results must know about their unit.

    Parameters
    ----------
    times : float64 array, shape (n,)
        As in the file: in units of its clock, or, where `is_date`, in seconds.
    kind_unit_s
        The unit of such files, seconds: what ``workload.time_unit_s=null`` stands for.
    """
    if is_date:
        return times, []
    unit_s = workload.time_unit_s
    if unit_s is not None:
        with np.errstate(over="ignore"):
            return (times if unit_s == 1.0 else times * unit_s), []
    seconds = times if kind_unit_s == 1.0 else times / round(1 / kind_unit_s)
    why = _doubt(times, seconds, kind_unit_s)
    if why is None:
        return seconds, []
    looks, other_s = why
    unit = "seconds" if kind_unit_s == 1.0 else "milliseconds"
    return seconds, [
        f"unit of time in doubt: times were read as {unit}, but {looks}; workload.time_unit_s={other_s:g} reads them "
        f"so, workload.time_unit_s={kind_unit_s:g} says that {unit} are right"
    ]


def refuse_unit(workload: WorkloadConfig, why: str) -> None:
    """Refuse a unit of time where it would have no effect."""
    if workload.time_unit_s is not None:
        raise UserError(
            f"workload.time_unit_s={workload.time_unit_s:g}: has no effect with workload={workload.kind}, {why}"
        )


def _doubt(times: FloatArray, seconds: FloatArray, unit_s: float) -> tuple[str, float] | None:
    """Return what the times look like, and the unit that they then have."""
    if len(times) < 3:
        return None
    low, high = float(times.min()), float(times.max())
    for other_s, name in _EPOCHS.items():
        if unit_s == 1.0 and _EPOCH_S[0] <= low * other_s and high * other_s <= _EPOCH_S[1]:
            return f"{low:.0f} looks like {name} since 1970", other_s
    if unit_s < 1.0 and _EPOCH_S[0] <= low and high <= _EPOCH_S[1]:
        return f"{low:.0f} looks like seconds since 1970", 1.0
    span_s = float(seconds.max() - seconds.min())
    rate = (len(times) - 1) / span_s if span_s > 0 else 0.0
    whole = bool(np.all(times[:10_000] == np.floor(times[:10_000])))
    if unit_s < 1.0 and not whole:
        return "some have fractions, as seconds have", 1.0
    if unit_s < 1.0 and rate > DENSEST_PER_S:
        return f"that is {rate:,.0f} requests a second", 1.0
    if unit_s == 1.0 and whole and 0 < rate < SPARSEST_PER_S:
        return f"that is one request in {1 / rate:,.0f} s, and all are whole numbers", 1e-3
    return None
