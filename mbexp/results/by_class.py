"""Metrics of each class of requests, against the limits of the class; and how equally classes are served."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mbexp.config.keys import Config, SlaConfig
from mbexp.results.metrics import Limits, Seen, Summary, metrics_of, rejected_from
from mbexp.simulator.outcome import Measured, Outcome
from mbexp.workload.classes import Classes

FloatArray = npt.NDArray[np.float64]

PROMPT_WEIGHT, OUTPUT_WEIGHT = 1.0, 2.0  # of a token of each, in service; the prices of VTC (arXiv 2401.00588)


def request_metrics_by_class(
    config: Config, outcome: Outcome, first: int, meets_token_sla: npt.NDArray[np.bool_], classes: Classes
) -> Summary:
    """Return the metrics of all requests and of each class, against its limits, and Jain's index.

    Arguments as of `mbexp.results.metrics.request_metrics`. Metrics of a class have names such as ``ttft_p99_s@chat``.
    """
    accepted = classes.taken(outcome.accepted)
    limits = limits_of(accepted, config.sla, first)
    measured, rejected = outcome.measured(first), rejected_from(outcome, first)
    seen = Seen(config, measured, outcome.output_tokens[first:], meets_token_sla, rejected, limits)
    found = {**metrics_of(seen), "jain_index": jain_index(accepted, outcome, first)}
    for place, name in enumerate(classes.names):
        mine = of_class(seen, accepted.of[first:] == place, rejected_from(outcome, first, classes.of == place))
        found |= {f"{key}@{name}": value for key, value in metrics_of(mine).items()}
    return found


def limits_of(classes: Classes, sla: SlaConfig, first: int) -> Limits:
    """Return the limits of each accepted request from `first` on."""
    names = ("request_s", "ttft_s", "tpot_ms")
    each = [classes.limit(name, getattr(sla, name)) for name in names]
    return Limits(*(None if limit is None else limit[first:] for limit in each))


@dataclass(frozen=True)
class MeasuredOfClass:
    """Some of the measured requests, as `mbexp.simulator.outcome.Measured`."""

    whole: Measured
    mine: npt.NDArray[np.bool_]

    @property
    def first(self) -> int:
        """Place of the first of the whole."""
        return self.whole.first

    @property
    def arrival_s(self) -> FloatArray:
        """Arrival of each."""
        return self.whole.arrival_s[self.mine]

    def latency_s(self) -> FloatArray:
        """Completion - arrival."""
        return self.whole.latency_s()[self.mine]

    def ttft_s(self) -> FloatArray:
        """First token - arrival."""
        return self.whole.ttft_s()[self.mine]

    def queue_delay_s(self) -> FloatArray:
        """Start - arrival."""
        return self.whole.queue_delay_s()[self.mine]

    def service_s(self) -> FloatArray:
        """Completion - start."""
        return self.whole.service_s()[self.mine]

    def decode_s(self) -> FloatArray:
        """Completion - first token."""
        return self.whole.decode_s()[self.mine]

    @property
    def end_s(self) -> float:
        """Last completion."""
        return float((self.arrival_s + self.latency_s()).max()) if self.mine.any() else np.nan


def of_class(seen: Seen, mine: npt.NDArray[np.bool_], rejected: int) -> Seen:
    """Return what a metric sees of the requests of one class, of which so many were rejected."""
    limits = (_of_some(limit, mine) for limit in (seen.limits.request_s, seen.limits.ttft_s, seen.limits.tpot_ms))
    measured = MeasuredOfClass(seen.requests, mine)
    outputs, meets = seen.output_tokens[mine], seen.meets_token_sla[mine]
    return Seen(seen.config, measured, outputs, meets, rejected, Limits(*limits))


def _of_some(limit: float | FloatArray | None, mine: npt.NDArray[np.bool_]) -> float | FloatArray | None:
    """Return a limit of some requests; None where none of them has one."""
    if not isinstance(limit, np.ndarray):
        return limit
    return limit[mine] if np.isfinite(limit[mine]).any() else None


def jain_index(classes: Classes, outcome: Outcome, first: int) -> float:
    """Return Jain's index of the service that classes got while requests arrived: 1 where all got the same.

    Service is prompt + 2 output tokens, over the weight of the class, of the measured requests that finished by the
    last arrival (Jain, Chiu, Hawe, DEC-TR-301, 1984).
    """
    measured = outcome.measured(first)
    arrival_s = measured.arrival_s
    if not len(arrival_s):
        return np.nan
    done = arrival_s + measured.latency_s() <= arrival_s[-1]
    tokens = PROMPT_WEIGHT * outcome.prompt_tokens[first:] + OUTPUT_WEIGHT * outcome.output_tokens[first:]
    weights = np.array([each.weight for each in classes.settings])
    service = np.bincount(classes.of[first:][done], tokens[done], len(weights)) / weights
    total = float((service**2).sum())
    return float(service.sum()) ** 2 / (len(weights) * total) if total else np.nan
