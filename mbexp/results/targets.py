"""Targets: a metric and a bound, read from ``sla.targets``; what capacity, best configurations and figures judge by."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mbexp.errors import UserError, unknown_choice
from mbexp.results.catalogue import catalogue

if TYPE_CHECKING:
    from mbexp.config.keys import SlaConfig
    from mbexp.config.workload_keys import ClassConfig

    Classes = Mapping[str, ClassConfig]

GOODPUT = "goodput_pct"  # of requests that came, those that meet every limit of one request
# Metrics that are null without their limit.
LIMIT_OF = {"request_sla_violation_pct": "request_s", "token_sla_violation_pct": "token_ms"}
TAKES_TIME = ("ttft_", "tpot_", "tbt_", "latency_", "makespan_")  # never 0, where there is any
# Names of metrics of requests, which each class has, begin so.
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
)
WRITTEN = re.compile(r"\s*([\w]+(?:@\w+)?)\s*(<=|>=)\s*([-+.\w]+)\s*")


@dataclass(frozen=True)
class Target:
    """A metric and its bound.

    Attributes
    ----------
    metric : str
        Key of the summary.
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
        """Return the metric of a run, nan where it has none."""
        if self.metric == GOODPUT and summary.get(GOODPUT) is None and summary.get("measured_requests"):
            # A run that was stored before the metric was: no warm-up, or its rejected requests would count in full.
            arrived = summary["measured_requests"] + summary["rejected_requests"]
            return 100.0 * float(summary["goodput_requests_per_s"]) * float(summary["makespan_s"]) / float(arrived)
        value = summary.get(self.metric)
        return math.nan if value is None else float(value)

    def excess(self, value: float) -> float:
        """Return by what share of the bound a value misses it; negative where it meets the bound."""
        beyond = value - self.bound if self.at_most else self.bound - value
        return beyond / (abs(self.bound) or 1.0)


def read_targets(sla: SlaConfig, mode: str, classes: Classes | None = None) -> list[Target]:
    """Return the targets of a configuration, each checked; ``ttft_p99_s@chat<=1`` is one of a class of requests.

    Raises
    ------
    UserError
        On a metric that runs of this mode do not have, and a bound that no run, or any run, meets.
    """
    if not sla.targets:
        raise UserError("sla.targets: no target is set; add one, such as 'sla.targets=[ttft_p99_s<=1]'")
    return [_checked(text, sla, mode, classes or {}) for text in sla.targets]


def parse(text: str) -> Target:
    """Return a target as it is written, not checked against anything."""
    match = WRITTEN.fullmatch(text)
    try:
        name, sign, bound = match.groups() if match else ("", "", "")
        return Target(name, sign == "<=", float(bound))
    except ValueError:
        example = "must be metric<=bound or metric>=bound, such as ttft_p99_s<=1"
        raise UserError(f"sla.targets={text}: {example}") from None


def _checked(text: str, sla: SlaConfig, mode: str, classes: Classes) -> Target:
    where = f"sla.targets={text}"
    target = parse(text)
    name, at, of_class = target.metric.partition("@")
    better = {key: row.better for key, row in catalogue().items() if row.better and row.is_of(mode)}
    better.pop("wall_time_s", None)
    if name not in better:
        raise UserError(f"{where}: runs have no metric {name} to judge by{_near(name, better)}")
    if at and not classes:
        raise UserError(f"{where}: there are no classes; set workload.classes")
    if at and of_class not in classes:
        raise unknown_choice(f"{where}: class", of_class, classes)
    if at and not name.startswith(OF_REQUESTS):
        raise UserError(f"{where}: {name} is not known by class, only metrics of requests are")
    if (limit := LIMIT_OF.get(name)) and getattr(sla, limit) is None:
        concerned = [classes[of_class]] if at else list(classes.values())
        if not any(getattr(each, limit, None) for each in concerned):
            raise UserError(f"{where}: sla.{limit}=null, so no run has this metric; set the limit")
    if name.startswith("goodput") and not sla.limits and not classes:
        raise UserError(f"{where}: every request is good without a limit; set sla.ttft_s, or another limit of sla")
    if target.at_most != (better[name] == "lower"):
        right = "<=" if better[name] == "lower" else ">="
        raise UserError(f"{where}: of {name} {better[name]} is better; write {name}{right}{target.bound:g}")
    if not math.isfinite(target.bound):
        raise UserError(f"{where}: the bound must be a finite number")
    highest = 100.0 if name.endswith("_pct") else math.inf
    least = target.bound < 0 or (target.bound == 0 and name.startswith(TAKES_TIME))
    if (target.at_most and least) or (not target.at_most and target.bound > highest):
        raise UserError(f"{where}: impossible, no run can meet it")
    if (target.at_most and target.bound >= highest) or (not target.at_most and target.bound <= 0):
        raise UserError(f"{where}: zero GPUs meet it, and so does any run; it decides nothing")
    return target


def _near(name: str, known: Iterable[str]) -> str:
    """Return the three metrics with the most similar names, and where all of them stand."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
    return f"; near to it: {', '.join(close)}" if close else "; python -m mbexp.results.catalogue lists them"
