"""Stored results of each scheduler; `python -m tests.golden_results` stores them anew, which is a deliberate act.

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
from mbexp.simulator.records import Records
from mbexp.version import RESULTS_VERSION

FOLDER = Path(__file__).resolve().parent / "golden"

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

COLUMNS = (
    *("start_s", "finish_s", "first_token_s", "step_s", "controller_low", "controller_high"),
    *("size", "limit", "gpu", "b_mem", "b_sla", "queue"),
)
SHOWN = (
    *("completed_requests", "rejected_requests", "num_batches", "batch_size_mean", "makespan_s"),
    *("latency_mean_s", "latency_p99_s", "tbt_p99_ms", "request_sla_violation_pct", "kv_overflow_pct"),
)


def hash_of(records: Records) -> str:
    """Return a hash of every bit of every batch and of its members."""
    digest = hashlib.sha256()
    for column in COLUMNS:
        values = records.batches[column]
        digest.update(column.encode() + np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes())
    places = records.index if records.accepted is None else records.accepted[records.index]
    for number in (records.batches["first"], places):
        digest.update(np.ascontiguousarray(number, "<i4").tobytes())
    return digest.hexdigest()


def result_of(name: str) -> dict[str, Any]:
    """Run a case and return what is stored of it."""
    result = mbexp.simulate(**(WORKLOAD | CASES[name]))
    shown = {key: result.summary[key] for key in SHOWN}
    return {
        "results_version": RESULTS_VERSION,
        "settings": WORKLOAD | CASES[name],
        "batches_sha256": hash_of(result.records),
        "summary": {key: value if isinstance(value, int) else float(f"{value:.12g}") for key, value in shown.items()},
    }


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.json"


def stored(name: str) -> dict[str, Any]:
    """Read a stored result."""
    values: dict[str, Any] = json.loads(path_of(name).read_text(encoding="utf-8"))
    return values


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Are the numbers of two results the same: batches bit for bit, means but for the order of their sums?"""
    return one["batches_sha256"] == other["batches_sha256"] and all(
        math.isclose(one["summary"][key], other["summary"][key], rel_tol=1e-9, abs_tol=1e-12) for key in SHOWN
    )


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
