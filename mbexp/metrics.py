"""From records to the flat summary; each metric is defined, with its unit, in docs/metrics.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.config import Config
from mbexp.hardware.law import LatencyLaw
from mbexp.simulator.capacity import work_at_full_batches_s
from mbexp.simulator.records import Records
from mbexp.statistics import climbs

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


def summarize(config: Config, records: Records, law: LatencyLaw) -> Summary:
    """Return the flat summary of a run-to-completion simulation; NaN where a metric does not exist."""
    batches = records.batches
    served_by = records.batch_of
    first = warm_up_requests(config, records.arrival_s)
    kept = served_by[first:]
    start_s = batches["start_s"][kept]
    measured = Measured(
        first=first,
        arrival_s=records.arrival_s[first:],
        start_s=start_s,
        first_token_s=start_s + batches["first_token_s"][kept],
        finish_s=batches["finish_s"][kept],
    )
    gaps = (records.output_tokens[first:] - 1).astype(np.float64)
    gaps_of_batch = np.bincount(kept, weights=gaps, minlength=len(batches)).astype(np.float64)
    meets_token_sla = batches["step_s"][kept] * 1000 <= config.sla.token_ms
    return {
        **request_metrics(config, measured, records.output_tokens[first:], meets_token_sla),
        **token_metrics(config, batches["step_s"], gaps_of_batch),
        **_batch_metrics(records, law, measured),
        **load_metrics(records, law),
    }


def warm_up_requests(config: Config, arrival_s: FloatArray) -> int:
    """Return how many of the first requests the warm-up leaves out."""
    by_share = int(len(arrival_s) * config.warm_up.share_pct / 100)
    by_time = int(np.searchsorted(arrival_s, config.warm_up.time_s)) if config.warm_up.time_s else 0
    return min(max(by_share, by_time), max(len(arrival_s) - 1, 0))


def request_metrics(
    config: Config, measured: Measured, output_tokens: npt.NDArray[np.int32], meets_token_sla: npt.NDArray[np.bool_]
) -> Summary:
    """Return rates, latencies and what is made of them."""
    count = len(measured.arrival_s)
    latency_s = measured.finish_s - measured.arrival_s
    ttft_s = measured.first_token_s - measured.arrival_s
    late = latency_s > config.sla.request_s
    span_s = float(measured.finish_s.max() - measured.arrival_s[0]) if count else np.nan
    rate = 1.0 / span_s if span_s > 0 else np.nan
    summary: Summary = {
        "measured_requests": count,
        "makespan_s": span_s,
        "throughput_requests_per_s": count * rate,
        "throughput_tokens_per_s": float(output_tokens.sum(dtype=np.int64)) * rate,
        "goodput_requests_per_s": int(np.count_nonzero(~late & meets_token_sla)) * rate,
        "latency_mean_s": mean(latency_s),
    }
    for name, value in zip(LATENCY_QUANTILES, quantiles(latency_s, list(LATENCY_QUANTILES.values())), strict=True):
        summary[f"latency_{name}_s"] = value
    summary |= {
        "latency_max_s": float(latency_s.max()) if count else np.nan,
        "queue_delay_mean_s": mean(measured.start_s - measured.arrival_s),
        "service_time_mean_s": mean(measured.finish_s - measured.start_s),
        "ttft_mean_s": mean(ttft_s),
        "ttft_p99_s": quantiles(ttft_s, [0.99])[0],
        "request_sla_violation_pct": 100.0 * float(np.mean(late)) if count else np.nan,
    }
    return summary


def token_metrics(config: Config, step_s: FloatArray, weight: FloatArray) -> Summary:
    """Return metrics of the time between tokens from step times and how many tokens came at each."""
    total = float(weight.sum())
    if not total:
        return {"tbt_mean_ms": np.nan, "tbt_p99_ms": np.nan, "token_sla_violation_pct": np.nan}
    step_ms = step_s * 1000
    return {
        "tbt_mean_ms": float(step_ms @ weight) / total,
        "tbt_p99_ms": weighted_quantile(step_ms, weight, 0.99),
        "token_sla_violation_pct": 100.0 * float(weight[step_ms > config.sla.token_ms].sum()) / total,
    }


def _batch_metrics(records: Records, law: LatencyLaw, measured: Measured) -> Summary:
    batches = records.batches
    names = ("batch_size_mean", "batch_size_max", "padding_waste_pct", "kv_overflow_pct", "gpu_utilization_pct")
    if not len(batches):
        return {"num_batches": 0, **dict.fromkeys(names, np.nan), "extrapolated_batches_pct": np.nan}
    size = batches["size"]
    total = records.prompt_tokens + records.output_tokens
    length = total if law.length == "prompt_plus_output" else records.output_tokens
    longest = records.per_batch(length, np.maximum)
    low, high = law.length_range_tokens
    smallest, largest = law.batch_size_range
    outside = (size < smallest) | (size > largest) | (longest < low) | (longest > high)
    began_s = float(measured.arrival_s[0])
    busy_s = batches["finish_s"] - np.maximum(batches["start_s"], began_s)
    available_s = records.num_gpus * (float(measured.finish_s.max()) - began_s)
    return {
        "num_batches": len(batches),
        "batch_size_mean": mean(size),
        "batch_size_max": int(size.max()),
        "padding_waste_pct": 100.0
        * (1.0 - float(length.sum(dtype=np.int64)) / float((longest.astype(np.int64) * size).sum())),
        "kv_overflow_pct": 100.0
        * float(np.mean(records.per_batch(total, np.add, np.int64) > records.kv_capacity_tokens)),
        "gpu_utilization_pct": 100.0 * float(busy_s[busy_s > 0].sum()) / available_s if available_s else np.nan,
        "extrapolated_batches_pct": 100.0 * float(np.mean(outside)),
    }


def load_metrics(records: Records, law: LatencyLaw) -> Summary:
    """Return the arrival rate, the offered load and whether it is more than the GPUs can carry."""
    count = len(records.arrival_s)
    span_s = float(records.arrival_s[-1] - records.arrival_s[0]) if count else 0.0
    if not span_s:
        return {
            "arrival_rate_per_s": np.nan,
            "offered_load": np.nan,
            "overloaded": count > 1,
            "queue_climbing": False,
        }
    # n arrivals make n - 1 gaps.
    period_s = span_s * count / (count - 1)
    queues = int(records.queue_of.max()) + 1
    batches = records.batches
    formed = np.bincount(batches["queue"], minlength=queues)
    limit_sum = np.bincount(batches["queue"], weights=batches["limit"], minlength=queues)
    limits = np.maximum(np.rint(limit_sum / np.maximum(formed, 1)), 1).astype(np.int64)
    load = work_at_full_batches_s(records, law, limits) / (period_s * records.num_gpus)
    return {
        "arrival_rate_per_s": count / period_s,
        "offered_load": load,
        "overloaded": bool(load >= 1.0),
        "queue_climbing": _queue_climbs(records),
    }


def _queue_climbs(records: Records, parts: int = 40, each: int = 100) -> bool:
    """Return whether the number waiting, as requests find it on arrival, climbs throughout the run."""
    count = len(records.arrival_s)
    if count < 8 * parts:
        return False
    seen = np.linspace(0, count - 1, min(parts * each, count // parts * parts)).astype(np.int64)
    # Batches stand in order of their start.
    started = np.concatenate(([0], np.cumsum(records.batches["size"], dtype=np.int64)))
    before = np.searchsorted(records.batches["start_s"], records.arrival_s[seen])
    return climbs((seen - started[before]).reshape(parts, -1).mean(axis=1))


def mean(values: npt.NDArray[Any]) -> float:
    """Return the mean, NaN of nothing."""
    return float(np.mean(values)) if len(values) else np.nan


def quantiles(values: FloatArray, shares: list[float]) -> list[float]:
    """Return quantiles by linear interpolation between order statistics, NaN of nothing."""
    return [float(value) for value in np.quantile(values, shares)] if len(values) else [np.nan] * len(shares)


def weighted_quantile(values: FloatArray, weight: FloatArray, share: float) -> float:
    """Return the smallest value at which the weight of all values up to it reaches `share` of the total."""
    order = np.argsort(values)
    cumulative = np.cumsum(weight[order])
    place = int(np.searchsorted(cumulative, share * cumulative[-1]))
    return float(values[order[min(place, len(order) - 1)]])
