"""From records to the flat summary; each metric is defined, with its unit, in docs/metrics.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.compiled.order_statistics import quantiles, weighted_quantile
from mbexp.config.keys import Config
from mbexp.hardware.law import LatencyLaw
from mbexp.results.statistics import climbs
from mbexp.simulator.batches.members import Totals, of_requests, since_arrival, totals
from mbexp.simulator.batches.outcome import Records

FloatArray = npt.NDArray[np.float64]
Summary = dict[str, Any]

LATENCY_QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Measured:
    """The requests that count: all, or those after the warm-up.

    Attributes
    ----------
    first : int
        Place of the first of them among the accepted requests.
    arrival_s, start_s, first_token_s, finish_s : float64 arrays, shape (measured,)
        Instants of each.
    """

    first: int
    arrival_s: FloatArray
    start_s: FloatArray
    first_token_s: FloatArray
    finish_s: FloatArray

    def latency_s(self) -> FloatArray:
        """Completion - arrival."""
        return self.finish_s - self.arrival_s

    def ttft_s(self) -> FloatArray:
        """First token - arrival."""
        return self.first_token_s - self.arrival_s

    def queue_delay_s(self) -> FloatArray:
        """Start - arrival."""
        return self.start_s - self.arrival_s

    def service_s(self) -> FloatArray:
        """Completion - start."""
        return self.finish_s - self.start_s

    @property
    def end_s(self) -> float:
        """Last completion."""
        return float(self.finish_s.max())


@dataclass(frozen=True)
class MeasuredInBatches:
    """The same of requests served in batches, one column at a time, so that a long run needs no memory for all.

    Attributes
    ----------
    first : int
    arrival_s : float64 array, shape (measured,)
    batches : structured array, shape (batches,)
    batch_of : int32 array, shape (measured,)
        Batch that served each.
    """

    first: int
    arrival_s: FloatArray
    batches: npt.NDArray[Any]
    batch_of: npt.NDArray[np.int32]

    def latency_s(self) -> FloatArray:
        """Completion - arrival; holds until the next column is asked for, as do all of these."""
        return self._since_arrival(self.batches["finish_s"])

    def ttft_s(self) -> FloatArray:
        """First token - arrival."""
        return self._since_arrival(self.batches["start_s"] + self.batches["first_token_s"])

    def queue_delay_s(self) -> FloatArray:
        """Start - arrival."""
        return self._since_arrival(self.batches["start_s"])

    def service_s(self) -> FloatArray:
        """Completion - start."""
        return of_requests(self.batches["finish_s"] - self.batches["start_s"], self.batch_of, self._column)

    @property
    def end_s(self) -> float:
        """Last completion."""
        return last_completion_s(self.batches, self.batch_of if self.first else None)

    def _since_arrival(self, instants: FloatArray) -> FloatArray:
        return since_arrival(np.ascontiguousarray(instants), self.batch_of, self.arrival_s, self._column)

    @cached_property
    def _column(self) -> FloatArray:
        return np.empty(len(self.arrival_s))


def summarize(config: Config, records: Records, law: LatencyLaw) -> Summary:
    """Return the flat summary of a run-to-completion simulation; NaN where a metric does not exist."""
    first = warm_up_requests(config, records.arrival_s)
    summary = _request_metrics(config, records, first)
    sums, gaps = totals(
        records, first, law.length == "prompt_plus_output", law.batch_size_range, law.length_range_tokens
    )
    summary |= token_metrics(config, records.batches["step_s"], gaps)
    del gaps
    summary |= _batch_metrics(records, sums, first)
    return summary | load_metrics(
        records.arrival_s,
        records.num_gpus,
        lambda: _full_batches_s(records, sums, law),
        lambda instants_s: _started_before(records, instants_s),
    )


def _request_metrics(config: Config, records: Records, first: int) -> Summary:
    batch_of = records.batch_of[first:]
    meets_token_sla = of_requests(records.batches["step_s"] * 1000 <= config.sla.token_ms, batch_of)
    measured = MeasuredInBatches(first, records.arrival_s[first:], records.batches, batch_of)
    return request_metrics(config, measured, records.output_tokens[first:], meets_token_sla)


def warm_up_requests(config: Config, arrival_s: FloatArray) -> int:
    """Return how many of the first requests the warm-up leaves out."""
    by_share = int(len(arrival_s) * config.warm_up.share_pct / 100)
    by_time = int(np.searchsorted(arrival_s, config.warm_up.time_s)) if config.warm_up.time_s else 0
    return min(max(by_share, by_time), max(len(arrival_s) - 1, 0))


def request_metrics(
    config: Config,
    measured: Measured | MeasuredInBatches,
    output_tokens: npt.NDArray[np.int32],
    meets_token_sla: npt.NDArray[np.bool_],
) -> Summary:
    """Return rates, latencies and what is made of them."""
    count = len(measured.arrival_s)
    span_s = measured.end_s - float(measured.arrival_s[0]) if count else np.nan
    rate = 1.0 / span_s if span_s > 0 else np.nan
    latency_s = measured.latency_s()
    late = latency_s > config.sla.request_s
    num_late, num_good = int(np.count_nonzero(late)), int(np.count_nonzero(meets_token_sla & ~late))
    del late
    summary: Summary = {
        "measured_requests": count,
        "makespan_s": span_s,
        "throughput_requests_per_s": count * rate,
        "throughput_tokens_per_s": float(output_tokens.sum(dtype=np.int64)) * rate,
        "goodput_requests_per_s": num_good * rate,
        "latency_mean_s": mean(latency_s),
    }
    for name, value in zip(LATENCY_QUANTILES, quantiles(latency_s, list(LATENCY_QUANTILES.values())), strict=True):
        summary[f"latency_{name}_s"] = value
    summary["latency_max_s"] = float(latency_s.max()) if count else np.nan
    summary["queue_delay_mean_s"] = mean(measured.queue_delay_s())
    summary["service_time_mean_s"] = mean(measured.service_s())
    ttft_s = measured.ttft_s()
    summary["ttft_mean_s"] = mean(ttft_s)
    summary["ttft_p99_s"] = quantiles(ttft_s, [0.99])[0]
    summary["request_sla_violation_pct"] = 100.0 * (num_late / count) if count else np.nan
    return summary


def token_metrics(config: Config, step_s: FloatArray, weight: FloatArray) -> Summary:
    """Return metrics of the time between tokens from step times and how many tokens came at each."""
    total = float(weight.sum())
    if not total:
        return {"tbt_mean_ms": np.nan, "tbt_p99_ms": np.nan, "token_sla_violation_pct": np.nan}
    step_ms = step_s * 1000
    late = step_ms > config.sla.token_ms
    p99_ms = weighted_quantile(step_ms, weight, 0.99)
    # Two sums, neither with a further array; of a dot product the bits would hang on the number of cores.
    sum_ms = float(np.multiply(step_ms, weight, out=step_ms).sum())
    late_gaps = float(np.multiply(weight, late, out=step_ms).sum())
    return {
        "tbt_mean_ms": sum_ms / total,
        "tbt_p99_ms": p99_ms,
        "token_sla_violation_pct": 100.0 * late_gaps / total,
    }


def _batch_metrics(records: Records, sums: Totals, first: int) -> Summary:
    batches = records.batches
    names = ("batch_size_mean", "batch_size_max", "padding_waste_pct", "kv_overflow_pct", "gpu_utilization_pct")
    if not len(batches):
        return {"num_batches": 0, **dict.fromkeys(names, np.nan), "extrapolated_batches_pct": np.nan}
    began_s = float(records.arrival_s[first])
    busy_s = np.maximum(batches["start_s"], began_s)
    np.subtract(batches["finish_s"], busy_s, out=busy_s)
    if busy_s.min() <= 0:
        busy_s = busy_s[busy_s > 0]
    available_s = records.num_gpus * (last_completion_s(batches, records.batch_of[first:] if first else None) - began_s)
    return {
        "num_batches": len(batches),
        "batch_size_mean": len(records.index) / len(batches),
        "batch_size_max": sums.largest,
        "padding_waste_pct": 100.0 * (1.0 - float(sums.tokens) / float(sums.padded_tokens)),
        "kv_overflow_pct": 100.0 * (sums.overflowing / len(batches)),
        "gpu_utilization_pct": 100.0 * float(busy_s.sum()) / available_s if available_s else np.nan,
        "extrapolated_batches_pct": 100.0 * (sums.outside / len(batches)),
    }


def load_metrics(
    arrival_s: FloatArray,
    num_gpus: int,
    work_s: Callable[[], float],
    started_before: Callable[[FloatArray], npt.NDArray[np.int64]],
) -> Summary:
    """Return the arrival rate, the offered load and whether it is more than the GPUs can carry.

    Parameters
    ----------
    arrival_s : float64 array, shape (n,)
        Of the accepted requests.
    work_s : function
        GPU-seconds that they need where every GPU works on as much as it may.
    started_before : function
        Of instants: how many requests had started before each.
    """
    count = len(arrival_s)
    span_s = float(arrival_s[-1] - arrival_s[0]) if count else 0.0
    if not span_s:
        return {
            "arrival_rate_per_s": np.nan,
            "offered_load": np.nan,
            "overloaded": count > 1,
            "queue_climbing": False,
        }
    period_s = span_s * count / (count - 1)  # n arrivals make n - 1 gaps
    load = work_s() / (period_s * num_gpus)
    return {
        "arrival_rate_per_s": count / period_s,
        "offered_load": load,
        "overloaded": bool(load >= 1.0),
        "queue_climbing": _queue_climbs(arrival_s, started_before),
    }


def _queue_climbs(
    arrival_s: FloatArray,
    started_before: Callable[[FloatArray], npt.NDArray[np.int64]],
    parts: int = 40,
    each: int = 100,
) -> bool:
    """Return whether the number waiting, as requests find it on arrival, climbs throughout the run."""
    count = len(arrival_s)
    if count < 8 * parts:
        return False
    seen = np.linspace(0, count - 1, min(parts * each, count // parts * parts)).astype(np.int64)
    waiting = seen - started_before(arrival_s[seen])
    return climbs(waiting.reshape(parts, -1).mean(axis=1))


def _full_batches_s(records: Records, sums: Totals, law: LatencyLaw) -> float:
    """Return the GPU-seconds that the requests need where every batch leaves full, of the mean limit of its queue."""
    from mbexp.simulator.batches.full_batches import work_at_full_batches_s

    limits = np.maximum(np.rint(sums.limits / np.maximum(sums.formed, 1)), 1).astype(np.int64)
    return work_at_full_batches_s(records, law, limits)


def _started_before(records: Records, instants_s: FloatArray) -> npt.NDArray[np.int64]:
    before = np.searchsorted(records.batches["start_s"], instants_s)  # batches stand in order of their start
    started = np.cumsum(records.batches["size"], dtype=np.int64)
    return np.where(before > 0, started[before - 1], 0)


def last_completion_s(batches: npt.NDArray[Any], batch_of: npt.NDArray[np.int32] | None) -> float:
    """Return the last completion of all batches, or of those that serve the given requests."""
    if batch_of is None:
        return float(batches["finish_s"].max())
    served = np.zeros(len(batches), np.bool_)
    served[batch_of] = True
    return float(batches["finish_s"].max(where=served, initial=-np.inf))


def mean(values: npt.NDArray[Any]) -> float:
    """Return the mean, NaN of nothing."""
    return float(np.mean(values)) if len(values) else np.nan
