"""Sentences that change how the numbers of a run should be read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mbexp.config.keys import Config
from mbexp.hardware.law import UNBOUNDED, LatencyLaw
from mbexp.results.metrics import warm_up_requests

if TYPE_CHECKING:
    from mbexp.prediction import Prediction
    from mbexp.simulator.outcome import Outcome
    from mbexp.workload.trace import Trace

FEW_SPELLS, ENOUGH_SPELLS = 5, 10  # of the slowest requests: too few for a p99, and as many as are advised
SHORT_RUN = 1000  # requests; with fewer, a 99th percentile rests on fewer than ten of them


def notes(trace: Trace, prediction: Prediction, law: LatencyLaw, summary: dict[str, Any]) -> list[str]:
    """Return the sentences that hold of any mode of execution."""
    found = [*trace.notes, *prediction.bins.notes, *law.notes]
    if trace.blocks is not None and summary.get("prefix_hit_blocks_pct") is None:
        found.append(
            "shared prefixes of the trace do not count without execution.prefix_cache: every prompt is computed"
        )
    if summary["rejected_requests"]:
        beyond = summary.get("rejected_exceeds_max_model_len", 0)
        if summary["rejected_requests"] > beyond:
            found.append(
                f"{summary['rejected_requests'] - beyond} of {len(trace)} requests can never fit into the KV memory of "
                f"{summary['kv_capacity_tokens']} tokens and were rejected"
            )
        if beyond:
            found.append(f"{beyond} of {len(trace)} requests exceed execution.max_model_len_tokens and were rejected")
    load = summary["offered_load"]
    if summary["overloaded"] and np.isnan(load):
        found.append(
            "overload: all requests arrive at one instant, and some wait; latencies measure the length of the run"
        )
    elif summary["overloaded"]:
        found.append(
            "overload: the queue grows throughout the run while the GPUs are busy, at an offered load of "
            f"{load:.2f}; latencies measure the length of the run"
        )
    elif summary["queue_climbing"]:
        spare = (
            f"full batches would carry the offered load of {load:.2f}: the scheduler does not"
            if load < 1
            else "GPUs are idle for more than a tenth of the time: the scheduler leaves them without work"
        )
        found.append(f"growth: the number waiting climbs throughout the run, although {spare}")
    if 0 < summary["measured_requests"] < SHORT_RUN:
        found.append(
            f"short run: {summary['measured_requests']} requests, so its p99 rests on the slowest "
            f"{max(1, summary['measured_requests'] // 100)}"
        )
    return found


def least_gpus(outcome: Outcome, least_work_s: float, most_at_once: int) -> list[str]:
    """Return a sentence where more GPUs than there are must be had for the load, as a bound on their work proves.

    The bound is that of `most_at_once` requests on a GPU, the most that the scheduler may name.
    """
    count = len(outcome.arrival_s)
    period_s = float(outcome.arrival_s[-1] - outcome.arrival_s[0]) * count / (count - 1) if count > 1 else 0.0
    if not period_s > 0.0:
        return []
    number = math.ceil(least_work_s / period_s)
    if number <= outcome.num_gpus:
        return []
    return [
        f"capacity: {number} GPUs is the least that could carry the load with at most {most_at_once:,} requests at "
        "once on each; the SLA may need more"
    ]


def short_tail(config: Config, outcome: Outcome, summary: dict[str, Any]) -> list[str]:
    """Return a sentence where the slowest requests come in too few spells for the p99 of the latency.

    Under a queue the slowest requests come together. How many times they come is their number divided by their index
    of dispersion, variance over mean of how many lie in each of 20 equal parts of the run. In M/M/1 with five seeds,
    95 % intervals of the p99 cover it in 86 % of cases with 2 spells a run. With 3 spells it is 87 to 90 %, with 4 to
    17 spells 92 to 95 %. What they miss lies above them.
    """
    growing = summary["overloaded"] or summary["queue_climbing"]
    if growing or summary["measured_requests"] < SHORT_RUN:  # which says more of latencies than this
        return []
    latency_s = outcome.measured(warm_up_requests(config, outcome.arrival_s)).latency_s()
    spells = tail_spells(latency_s, summary["latency_p99_s"])
    if not spells < FEW_SPELLS:
        return []
    advised = math.ceil(len(latency_s) * ENOUGH_SPELLS / spells)
    step = 10 ** max(len(str(advised)) - 2, 0)
    advised = -(-advised // step) * step
    return [
        f"short for its p99: the slowest 1 % of requests come in about {spells:.1f} independent spells, so the p99 "
        f"reads too low and its interval over seeds is too narrow; num_requests={advised:,} or more "
        "would do, further seeds would not"
    ]


def tail_spells(values: npt.NDArray[np.float64], threshold: float, parts: int = 20) -> float:
    """Return about how many independent spells the values above a threshold come in; NaN where there are none.

    Parameters
    ----------
    values : float64 array, shape (n,)
        In order of time, n >= `parts`.
    """
    size = len(values) // parts
    counts = np.count_nonzero(values[len(values) - size * parts :].reshape(parts, size) > threshold, axis=1)
    mean = float(counts.mean())
    if not mean:
        return math.nan
    return float(counts.sum()) / max(float(counts.var(ddof=1)) / mean, 1.0)


def extrapolation(summary: dict[str, Any], law: LatencyLaw, what: str) -> list[str]:
    """Return a sentence where batches, or decode steps, lie outside the range of the law."""
    share = summary["extrapolated_batches_pct"]
    if not share > 0:  # NaN of none
        return []
    shown = f"{share:.1f}" if share >= 0.05 else "less than 0.1"
    return [
        f"extrapolation: {shown} % of {what} lie outside the range of the latency law (batch size "
        f"{_range(law.batch_size_range)}, length {_range(law.length_range_tokens)} tokens)"
    ]


def _range(bounds: tuple[int, int]) -> str:
    low, high = bounds
    return f"{low}-{high}" if high < UNBOUNDED[1] else f"from {low} on"
