"""Whether the runs of one probe meet all targets: pass, fail, or undecided, from one-sided intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mbexp.results.shown import mean_and_half
from mbexp.results.statistics import distinct, mean_interval
from mbexp.results.targets import Target

PASS, FAIL, UNDECIDED = "pass", "fail", "undecided"


@dataclass(frozen=True)
class Judged:
    """One target at one probe.

    Attributes
    ----------
    target : Target
    mean, half_width : float
        Over replications; `half_width` is that of the one-sided bounds, nan where there is one observation.
    verdict : str
    """

    target: Target
    mean: float
    half_width: float
    verdict: str

    def __str__(self) -> str:
        if not self.half_width > 1e-9 * abs(self.mean):  # one observation, or equal ones
            return f"{self.target.metric} {self.mean:.4g}"
        return f"{self.target.metric} {' ± '.join(mean_and_half(self.mean, self.half_width))}"


def judge(
    targets: Sequence[Target], summaries: Sequence[Mapping[str, Any]], error: float, seeded: bool
) -> tuple[str, list[Judged]]:
    """Return the verdict over all targets, and each of them.

    Parameters
    ----------
    summaries
        Of independent replications; identical ones are one observation.
    error : float
        Chance that a one-sided decision may be wrong, for all targets together (divided among them).
    seeded : bool
        Whether they are draws of one process: then more than half of them climbing is an unstable queue. Traffic of a
        trace climbs with the hour.
    """
    seen = [summaries[place] for place in distinct(summaries)]
    judged = [_one(target, [target.value(one) for one in seen], error / len(targets)) for target in targets]
    unstable = [one["overloaded"] or (seeded and one["queue_climbing"]) for one in seen]
    if 2 * sum(unstable) > len(unstable) or any(each.verdict == FAIL for each in judged):
        return FAIL, judged
    return (PASS if all(each.verdict == PASS for each in judged) else UNDECIDED), judged


def _one(target: Target, values: Sequence[float], error: float) -> Judged:
    if not all(map(math.isfinite, values)):  # nothing to measure: no request was served, or none has a gap
        return Judged(target, math.nan, math.nan, FAIL)
    interval = mean_interval(values, 1 - 2 * error)
    room = target.bound - interval.mean if target.at_most else interval.mean - target.bound
    half_width = interval.half_width
    if math.isnan(half_width):
        return Judged(target, interval.mean, half_width, PASS if room >= 0 else FAIL)
    if abs(room) < half_width:
        return Judged(target, interval.mean, half_width, UNDECIDED)
    return Judged(target, interval.mean, half_width, PASS if room >= 0 else FAIL)
