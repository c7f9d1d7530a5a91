"""From an outcome to the flat summary; each metric is defined, with its unit, in docs/metrics.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.compiled.order_statistics import quantiles, weighted_quantiles
from mbexp.config.keys import Config
from mbexp.results.growth import queue_grows
from mbexp.simulator.outcome import Measured, Outcome

FloatArray = npt.NDArray[np.float64]
Summary = dict[str, Any]

BUSY = 0.9  # share of the time in which requests arrive that GPUs must be busy, for a growing queue to be overload
QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}


def warm_up_requests(config: Config, arrival_s: FloatArray) -> int:
    """Return how many of the first requests the warm-up leaves out."""
    by_share = int(len(arrival_s) * config.warm_up.share_pct / 100)
    by_time = int(np.searchsorted(arrival_s, config.warm_up.time_s)) if config.warm_up.time_s else 0
    return min(max(by_share, by_time), max(len(arrival_s) - 1, 0))


@dataclass(frozen=True)
class Limits:
    """What a good request keeps to: one number for all, or one for each; None where there is no limit."""

    request_s: float | FloatArray | None
    ttft_s: float | FloatArray | None
    tpot_ms: float | FloatArray | None


@dataclass(frozen=True)
class Seen:
    """What a metric of requests is made of: the measured ones, those after the warm-up.

    Attributes
    ----------
    config : Config
    requests : Measured
        Their instants; a column holds until the next one is asked for.
    output_tokens : int32 array, shape (measured,)
    meets_token_sla : bool array, shape (measured,)
    rejected : int
        Requests that were rejected after the warm-up.
    limits : Limits
        Of each of them.
    """

    config: Config
    requests: Measured
    output_tokens: npt.NDArray[np.int32]
    meets_token_sla: npt.NDArray[np.bool_]
    rejected: int
    limits: Limits

    @property
    def count(self) -> int:
        """Number of measured requests."""
        return len(self.requests.arrival_s)

    @cached_property
    def span_s(self) -> float:
        """Time from the first arrival to the last completion; NaN of none."""
        return self.requests.end_s - float(self.requests.arrival_s[0]) if self.count else np.nan


_METRICS: list[Callable[[Seen], Summary]] = []


def request_metric(function: Callable[[Seen], Summary]) -> Callable[[Seen], Summary]:
    """Add a function to those that `request_metrics` asks; a decorator. Each key has a row in the catalogue."""
    _METRICS.append(function)
    return function


def request_metrics(config: Config, outcome: Outcome, first: int, meets_token_sla: npt.NDArray[np.bool_]) -> Summary:
    """Return the metrics of requests, over the accepted ones from `first` on; they are the same for every mode."""
    sla = config.sla
    limits = Limits(sla.request_s, sla.ttft_s, sla.tpot_ms)
    measured, rejected = outcome.measured(first), rejected_from(outcome, first)
    return metrics_of(Seen(config, measured, outcome.output_tokens[first:], meets_token_sla, rejected, limits))


def metrics_of(seen: Seen) -> Summary:
    """Return the metrics of the requests that are seen."""
    found: Summary = {}
    for metric in _METRICS:
        found |= metric(seen)
    return found


def rejected_from(outcome: Outcome, first: int, of: npt.NDArray[np.bool_] | None = None) -> int:
    """Return how many requests were rejected that come after the first `first` accepted ones in the trace.

    With `of`, a mask of the trace, of some requests only.
    """
    places = [each if of is None else each[of[each]] for each in outcome.rejected.values()]
    if outcome.accepted is None or not first or not len(outcome.accepted):
        return sum(map(len, places))
    begins = outcome.accepted[first - 1]
    return sum(int(np.count_nonzero(each > begins)) for each in places)


@request_metric
def throughput(seen: Seen) -> Summary:
    """Return how many requests and tokens were served, and how fast."""
    rate = 1.0 / seen.span_s if seen.span_s > 0 else np.nan
    return {
        "measured_requests": seen.count,
        "makespan_s": seen.span_s,
        "throughput_requests_per_s": seen.count * rate,
        "throughput_tokens_per_s": float(seen.output_tokens.sum(dtype=np.int64)) * rate,
    }


@request_metric
def latency(seen: Seen) -> Summary:
    """Return the latencies, and how many requests met their targets."""
    latency_s, limit_s = seen.requests.latency_s(), seen.limits.request_s
    late = latency_s > (np.inf if limit_s is None else limit_s)
    num_late, num_good = int(np.count_nonzero(late)), _number_good(seen, late)
    if seen.limits.ttft_s is not None or seen.limits.tpot_ms is not None:
        latency_s = seen.requests.latency_s()  # a column holds until the next is asked for
    del late
    return {
        "goodput_requests_per_s": num_good * (1.0 / seen.span_s if seen.span_s > 0 else np.nan),
        "goodput_pct": 100.0 * (num_good / came) if (came := seen.count + seen.rejected) else np.nan,
        **mean_and_quantiles("latency", "s", latency_s),
        "latency_max_s": float(latency_s.max()) if seen.count else np.nan,
        "request_sla_violation_pct": 100.0 * (num_late / seen.count) if seen.count and limit_s is not None else np.nan,
    }


def _number_good(seen: Seen, late: npt.NDArray[np.bool_]) -> int:
    """Return how many requests meet every limit of one request that is set."""
    good, limits = seen.meets_token_sla & ~late, seen.limits
    if limits.ttft_s is not None:
        good &= seen.requests.ttft_s() <= limits.ttft_s
    if limits.tpot_ms is not None:  # a request of one token has no gap, and meets it
        with np.errstate(invalid="ignore"):  # no limit times no gap
            good &= ~(seen.requests.decode_s() * 1000 > limits.tpot_ms * (seen.output_tokens - 1))
    return int(np.count_nonzero(good))


@request_metric
def waiting_and_service(seen: Seen) -> Summary:
    """Return the two parts of a latency, and who waited much longer than others."""
    delay_s = seen.requests.queue_delay_s()
    found = mean_and_quantiles("queue_delay", "s", delay_s)
    longest_s = seen.config.sla.starvation_multiple * found["queue_delay_p50_s"]
    return {
        **found,
        "queue_delay_max_s": float(delay_s.max()) if seen.count else np.nan,
        "starved_pct": 100.0 * float(np.mean(delay_s > longest_s)) if longest_s > 0 else np.nan,
        "service_time_mean_s": mean(seen.requests.service_s()),
    }


@request_metric
def first_token(seen: Seen) -> Summary:
    """Return the time to the first token."""
    return mean_and_quantiles("ttft", "s", seen.requests.ttft_s())


@request_metric
def time_per_output_token(seen: Seen) -> Summary:
    """Return the time per output token, a value a request, over those of at least two tokens."""
    gaps = seen.output_tokens - 1
    tpot_ms = seen.requests.decode_s() * 1000
    if not gaps.all():
        gaps, tpot_ms = gaps[gaps > 0], tpot_ms[gaps > 0]
    return mean_and_quantiles("tpot", "ms", tpot_ms / gaps)


def token_metrics(config: Config, step_s: FloatArray, weight: FloatArray) -> Summary:
    """Return metrics of the time between tokens from step times and how many tokens came at each."""
    total = float(weight.sum())
    if not total:
        return {
            **named_quantiles("tbt", "ms", [np.nan] * len(QUANTILES)),
            "tbt_mean_ms": np.nan,
            "token_sla_violation_pct": np.nan,
        }
    step_ms, limit_ms = step_s * 1000, config.sla.token_ms
    late = step_ms > (np.inf if limit_ms is None else limit_ms)
    quantiles_ms = weighted_quantiles(step_ms, weight, list(QUANTILES.values()))
    # Two sums, neither with a further array; of a dot product the bits would hang on the number of cores.
    sum_ms = float(np.multiply(step_ms, weight, out=step_ms).sum())
    late_gaps = float(np.multiply(weight, late, out=step_ms).sum())
    return {
        "tbt_mean_ms": sum_ms / total,
        **named_quantiles("tbt", "ms", quantiles_ms),
        "token_sla_violation_pct": np.nan if limit_ms is None else 100.0 * late_gaps / total,
    }


def load_metrics(outcome: Outcome, work_s: Callable[[], float]) -> Summary:
    """Return the arrival rate, the offered load, and whether the run shows more than the GPUs carry.

    Parameters
    ----------
    work_s : function
        GPU-seconds that the accepted requests need where every GPU works on as much as it may.
    """
    arrival_s = outcome.arrival_s
    count = len(arrival_s)
    span_s = float(arrival_s[-1] - arrival_s[0]) if count else 0.0
    period_s = span_s * count / (count - 1) if span_s else np.nan  # n arrivals make n - 1 gaps
    if not span_s or outcome.users is not None:
        # Users who wait for their answers bring no more than the GPUs carry.
        return {
            "arrival_rate_per_s": count / period_s,
            "offered_load": np.nan,
            "overloaded": outcome.users is None
            and bool(count)
            and bool(outcome.started_before(np.nextafter(arrival_s[-1:], np.inf))[0] < count),
            "queue_climbing": False,
        }
    grows = queue_grows(outcome)
    load = work_s() / (period_s * outcome.num_gpus)
    busy = grows and outcome.busy_while_arriving_s() >= BUSY * span_s * outcome.num_gpus
    return {
        "arrival_rate_per_s": count / period_s,
        "offered_load": load,
        "overloaded": bool(busy and load >= 1.0),
        "queue_climbing": grows,
    }


def mean_and_quantiles(name: str, unit: str, values: FloatArray) -> Summary:
    """Return the mean and the quantiles of `QUANTILES` under their names."""
    found = quantiles(values, list(QUANTILES.values()))
    return {f"{name}_mean_{unit}": mean(values), **named_quantiles(name, unit, found)}


def named_quantiles(name: str, unit: str, values: Sequence[float]) -> Summary:
    """Return quantiles in the order of `QUANTILES` under their names."""
    return {f"{name}_{share}_{unit}": value for share, value in zip(QUANTILES, values, strict=True)}


def mean(values: npt.NDArray[Any]) -> float:
    """Return the mean, NaN of nothing."""
    return float(np.mean(values)) if len(values) else np.nan
