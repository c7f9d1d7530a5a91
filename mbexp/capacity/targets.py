"""Targets: a metric of the summary and a bound, read from ``sla.targets``."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mbexp.errors import UserError, unknown_choice
from mbexp.results.catalogue import catalogue

GOODPUT = "goodput_pct"  # of requests that came, those that meet every limit of one request
OF_REQUESTS = (
    "latency_",
    "queue_delay_",
    "ttft_",
    "tpot_",
    "throughput_",
    "goodput_",
    "request_sla_",
    "starved_",
    "service_time_",
)  # begin names of metrics of requests, which each class has
WRITTEN = re.compile(r"\s*([\w]+(?:@\w+)?)\s*(<=|>=)\s*([-+.\w]+)\s*")


@dataclass(frozen=True)
class Target:
    """A metric and its bound.

    Attributes
    ----------
    metric : str
        Key of the summary, or ``goodput_pct``.
    at_most : bool
        Whether the bound is an upper one.
    bound : float
        In the unit that the metric's name ends in.
    """

    metric: str
    at_most: bool
    bound: float

    def __str__(self) -> str:
        return f"{self.metric}{'<=' if self.at_most else '>='}{self.bound:g}"

    def value(self, summary: Mapping[str, Any]) -> float:
        """Return the metric of a run; requests that were rejected are not good."""
        name, at, of_class = self.metric.partition("@")
        if name == GOODPUT:
            end = at + of_class
            arrived = summary[f"measured_requests{end}"] + (0 if at else summary["rejected_requests"])
            good = summary[f"goodput_requests_per_s{end}"] * summary[f"makespan_s{end}"]
            return 100.0 * float(good) / arrived if arrived else math.nan
        return float(summary[self.metric])


def read_targets(written: Sequence[str], mode: str, classes: Collection[str] = ()) -> list[Target]:
    """Return the targets of a configuration, each checked; ``ttft_p99_s@chat<=1`` is one of a class of requests.

    Raises
    ------
    UserError
        On a metric that runs of this mode do not have, and a bound that no run, or any run, meets.
    """
    if not written:
        raise UserError("sla.targets: no target is set; add one, such as 'sla.targets=[ttft_p99_s<=1]'")
    return [_read(text, mode, classes) for text in written]


def _read(text: str, mode: str, classes: Collection[str]) -> Target:
    where = f"sla.targets={text}"
    match = WRITTEN.fullmatch(text)
    try:
        name, sign, bound = match.groups() if match else ("", "", "")
        target = Target(name, sign == "<=", float(bound))
    except ValueError:
        raise UserError(f"{where}: must be metric<=bound or metric>=bound, such as ttft_p99_s<=1") from None
    known = {key: row.better for key, row in catalogue().items() if row.better and row.is_of(mode)}
    better = {**known, GOODPUT: "higher"}
    better.pop("wall_time_s", None)
    name, at, of_class = name.partition("@")
    if name not in better:
        raise unknown_choice("sla.targets", name, better)
    if at and of_class not in classes:
        raise (
            unknown_choice(f"{where}: class", of_class, classes)
            if classes
            else UserError(f"{where}: there are no classes; set workload.classes")
        )
    if at and not name.startswith(OF_REQUESTS):
        raise UserError(f"{where}: {name} is not known by class, only metrics of requests are")
    if target.at_most != (better[name] == "lower"):
        right = "<=" if better[name] == "lower" else ">="
        raise UserError(f"{where}: of {name} {better[name]} is better; write {name}{right}{target.bound:g}")
    if not math.isfinite(target.bound):
        raise UserError(f"{where}: the bound must be a finite number")
    highest = 100.0 if name.endswith("_pct") else math.inf
    if (target.at_most and target.bound < 0) or (not target.at_most and target.bound > highest):
        raise UserError(f"{where}: impossible, no run can meet it")
    if (target.at_most and target.bound >= highest) or (not target.at_most and target.bound <= 0):
        raise UserError(f"{where}: zero GPUs meet it, and so does any run; it decides nothing")
    return target
