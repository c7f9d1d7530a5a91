"""Sentences that change how the numbers of a run should be read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mbexp.hardware.law import UNBOUNDED, LatencyLaw

if TYPE_CHECKING:
    from mbexp.modes.problem import Problem

SHORT_RUN = 1000  # requests; with fewer, a 99th percentile rests on fewer than ten of them


def notes(problem: Problem, summary: dict[str, Any]) -> list[str]:
    """Return the sentences that hold of any mode of execution."""
    found = [*problem.trace.notes, *problem.prediction.bins.notes, *problem.fleet.law.notes]
    if summary["rejected_requests"]:
        found.append(
            f"{summary['rejected_requests']} of {len(problem.trace)} requests can never fit into the KV memory of "
            f"{summary['kv_capacity_tokens']} tokens and were rejected"
        )
    if summary["overloaded"]:
        load = summary["offered_load"]
        at_once = np.isnan(load)
        what = "all requests arrive at one instant" if at_once else f"the offered load is {load:.2f}"
        enough = "" if at_once else f"; {math.ceil(load * problem.fleet.count)} GPUs is the least that could carry it"
        found.append(
            f"overload: {what}, so queues grow for as long as requests arrive; "
            f"latencies measure the length of the run{enough}"
        )
    elif summary["queue_climbing"]:
        found.append(
            "growth: the number waiting climbs throughout the run, although full batches would carry the offered load "
            f"of {summary['offered_load']:.2f}: the policy does not, or the run is too short to tell"
        )
    if 0 < summary["measured_requests"] < SHORT_RUN:
        found.append(
            f"short run: {summary['measured_requests']} requests, so its p99 rests on the slowest "
            f"{max(1, summary['measured_requests'] // 100)}"
        )
    return found


def extrapolation(summary: dict[str, Any], law: LatencyLaw, what: str) -> list[str]:
    """Return a sentence where batches, or decode steps, lie outside the range of the law."""
    share = summary["extrapolated_batches_pct"]
    if not share > 0:  # NaN of none
        return []
    return [
        f"extrapolation: {share:.1f} % of {what} lie outside the range of the latency law (batch size "
        f"{_range(law.batch_size_range)}, length {_range(law.length_range_tokens)} tokens)"
    ]


def _range(bounds: tuple[int, int]) -> str:
    low, high = bounds
    return f"{low}-{high}" if high < UNBOUNDED[1] else f"from {low} on"
