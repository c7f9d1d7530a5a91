"""Stored results of each scheduler; `python -m tests.simulator.golden_results` stores them anew, deliberately.

Numbers may only change together with `mbexp.version.RESULTS_VERSION`, so that a resumed sweep never mixes old and new;
the command refuses anything else.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

import mbexp
from mbexp.simulator.batches.outcome import BatchesOutcome
from mbexp.simulator.continuous.outcome import ContinuousOutcome
from mbexp.version import RESULTS_VERSION
from tests import ROOT

FOLDER = ROOT / "tests" / "golden"

# Arrivals and lengths come of sums, products and random whole numbers, whose bits no processor or library changes;
# the load is near what the schedulers carry, so that queues fill, empty and flush.
WORKLOAD = {
    "workload": "synthetic",
    "workload.prompt": {"kind": "uniform", "low_tokens": 20, "high_tokens": 600},
    "workload.output": {"kind": "uniform", "low_tokens": 10, "high_tokens": 400},
    "workload.arrivals.rate_per_s": 4.0,
    "num_requests": 3000,
    "num_gpus": 3,
    "seed": 11,
}

CASES: dict[str, dict[str, Any]] = {
    "static_fifo": {"scheduler": "static_fifo"},
    "dynamic_no_bins": {"scheduler": "dynamic_no_bins", "sla.token_ms": 7.2},
    "multi_bin_static": {"scheduler": "multi_bin_static", "k_bins": 8},
    "multi_bin_dynamic": {"scheduler": "multi_bin_dynamic", "sla.token_ms": 7.4},
    "memory_original_rule": {
        "scheduler": "multi_bin_dynamic",
        "scheduler.memory_rule": "original",
        "scheduler.selection": "longest_queue",
        "gpu.kv_capacity_tokens": 8000,
        "predictor": "confusion",
    },
    "timeout_underpredicted": {
        "scheduler": "multi_bin_dynamic",
        "scheduler.fill": "timeout",
        "scheduler.timeout_s": 0.5,
        "scheduler.selection": "oldest_head",
        "gpu.kv_capacity_tokens": 1500,
        "workload.prompt": {"kind": "uniform", "low_tokens": 20, "high_tokens": 300},
        "workload.output": {"kind": "empirical", "values_tokens": [20, 40, 80, 160, 1400]},
        "predictor": "constant",
        "predictor.value_tokens": 60,
    },
    "roofline_shortest_bin": {
        "scheduler": "multi_bin_dynamic",
        "scheduler.selection": "shortest_bin",
        "gpu": "roofline_rtx4080_16gb",
        "sla.token_ms": 8.0,
        "workload.arrivals.rate_per_s": 20.0,
    },
}

# Requests that join and leave between two decode steps; each case near what its GPUs carry.
CONTINUOUS: dict[str, dict[str, Any]] = {
    "continuous_static_fifo": {
        "scheduler": "static_fifo",
        "execution.prefill_max_tokens": 1200,
        "workload.arrivals.rate_per_s": 1.5,
    },
    "continuous_dynamic_no_bins": {
        "scheduler": "dynamic_no_bins",
        "gpu": "linear_p2",
        "sla.token_ms": 33.0,
        "execution.interval_steps": 8,
        "workload.arrivals.rate_per_s": 4.7,
    },
    "continuous_load_share": {
        "scheduler": "multi_bin_static",
        "execution.gpu_serves": "load_share",
        "gpu": "linear_p2",
        "k_bins": 3,
        "num_gpus": 6,
        "workload.arrivals.rate_per_s": 6.5,
    },
    "continuous_one_bin": {
        "scheduler": "multi_bin_static",
        "execution.gpu_serves": "one_bin",
        "execution.turn_requests": 20,
        "gpu": "roofline_rtx4080_16gb",
        "workload.arrivals.rate_per_s": 14.0,
    },
    "continuous_chunked_paged": {
        "scheduler": "multi_bin_dynamic",
        "scheduler.memory_rule": "printed",
        "execution.prefill": "chunked",
        "execution.token_budget": 256,
        "execution.kv": "paged",
        "gpu": "roofline_rtx4080_16gb",
        "gpu.kv_capacity_tokens": 3000,
        "workload.arrivals.rate_per_s": 10.5,
    },
    "continuous_swap_requeue": {
        "scheduler": "static_fifo",
        "scheduler.fixed_batch_size": 16,
        "execution.preemption": "swap",
        "execution.assignment": "power_of_two",
        "execution.underprediction": "requeue",
        "predictor": "confusion",
        "gpu": "roofline_rtx4080_16gb",
        "gpu.kv_capacity_tokens": 5000,
        "workload.arrivals.rate_per_s": 15.0,
    },
}
# The law is named: that of execution=continuous alone is another.
CENTRAL = {
    "execution": "continuous",
    "execution.assignment": "central",
    "gpu": "rtx4080_qwen3_1_7b",
    "num_requests": 1500,
}
CASES |= {name: CENTRAL | case for name, case in CONTINUOUS.items()}

COLUMNS = (
    *("start_s", "finish_s", "first_token_s", "step_s", "controller_low", "controller_high"),
    *("size", "limit", "gpu", "b_mem", "b_sla", "queue"),
)
TIMED = ("wall_time_s",)  # what differs between two runs of the same


def hash_of(records: BatchesOutcome) -> str:
    """Return a hash of every bit of every batch and of its members."""
    digest = hashlib.sha256()
    for column in COLUMNS:
        values = records.batches[column]
        digest.update(column.encode() + np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes())
    places = records.index if records.accepted is None else records.accepted[records.index]
    for number in (records.batches["first"], places):
        digest.update(np.ascontiguousarray(number, "<i4").tobytes())
    return digest.hexdigest()


def hash_of_continuous(records: ContinuousOutcome) -> str:
    """Return a hash of every bit of what happened to each request, and of the time between tokens.

    Left out is the sum of the latter: its last bits are those of the order in which it is added up.
    """
    digest = hashlib.sha256()
    for column in ("start_s", "first_token_s", "finish_s", "gpu", "preemptions", "queue_of"):
        values = getattr(records, column)
        digest.update(column.encode() + np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes())
    gaps = records.gaps
    digest.update(np.ascontiguousarray(gaps.counts, "<i8").tobytes())
    digest.update(f"{gaps.count} {gaps.above} {gaps.max_s.hex()} {records.outgrown}".encode())
    return digest.hexdigest()


def digest_of(result: dict[str, Any]) -> str:
    """Return the hash in what is stored of a case: of its batches, or where there are none, of its requests."""
    digest: str = result["batches_sha256"] if "batches_sha256" in result else result["requests_sha256"]
    return digest


def result_of(name: str, **changes: Any) -> dict[str, Any]:
    """Run a case, with some keys changed, and return what is stored of it."""
    settings = WORKLOAD | CASES[name] | changes
    result = mbexp.simulate(**settings)
    records = result.outcome
    if isinstance(records, ContinuousOutcome):
        found = {"requests_sha256": hash_of_continuous(records)}
    else:
        found = {"batches_sha256": hash_of(records)}
    shown = {key: value for key, value in result.summary.items() if key not in TIMED}
    return {
        "results_version": RESULTS_VERSION,
        "settings": settings,
        **found,
        "summary": {key: _short(value) for key, value in shown.items()},
    }


def _short(value: float) -> float | None:
    if isinstance(value, int):
        return value
    return None if math.isnan(value) else float(f"{value:.12g}")


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.json"


def stored(name: str) -> dict[str, Any]:
    """Read a stored result."""
    values: dict[str, Any] = json.loads(path_of(name).read_text(encoding="utf-8"))
    return values


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Are the numbers of a stored result still the same: records bit for bit, means but for the order of their sums?

    A metric that is younger than the stored result changes none of its numbers.
    """
    return (
        digest_of(one) == digest_of(other)
        and one["summary"].keys() <= other["summary"].keys()
        and all(_close(number, other["summary"][key]) for key, number in one["summary"].items())
    )


def _close(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)


def main() -> None:
    """Store the results of all cases, unless numbers changed and the version did not."""
    fresh = {name: result_of(name) for name in CASES}
    changed = [
        name
        for name, result in fresh.items()
        if path_of(name).exists()
        and stored(name)["results_version"] == RESULTS_VERSION
        and stored(name)["settings"] == result["settings"]
        and not same(stored(name), result)
    ]
    if changed:
        sys.exit(
            f"the numbers of {', '.join(changed)} changed: raise RESULTS_VERSION in mbexp/version.py if that is meant, "
            "and say why in the changelog"
        )
    FOLDER.mkdir(exist_ok=True)
    for name, result in fresh.items():
        path_of(name).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"stored {len(fresh)} results of version {RESULTS_VERSION} in {FOLDER}")


if __name__ == "__main__":
    main()
