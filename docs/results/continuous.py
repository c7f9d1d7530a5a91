"""Writes the tables and pictures of continuous batching in this folder from the stored studies."""

from __future__ import annotations

import sys
from pathlib import Path

from mbexp.figures import draw
from mbexp.figures.style import save
from mbexp.sweep.table import read_results

LOAD = ["arrival_rate_per_s", "offered_load", "overloaded", "queue_climbing"]
LATENCY = ["latency_mean_s", "latency_p95_s", "ttft_p99_s", "tbt_mean_ms", "tbt_p99_ms", "token_sla_violation_pct"]
WORK = ["throughput_requests_per_s", "goodput_requests_per_s", "gpu_utilization_pct", "running_mean"]
MEMORY = ["kv_use_mean_pct", "preempted_requests_pct", "recomputed_tokens", "copied_tokens", "prefill_time_pct"]
STUDIES = {
    **{
        f"continuous_binning_{workload}": ["workload.rate_scaling", "study.label", *LOAD, *LATENCY, *WORK]
        for workload in ("synthetic", "burstgpt_like", "azure")
    },
    "continuous_conservation": ["study.label", "execution.gpu_serves", "k_bins", *WORK, *MEMORY],
    "continuous_memory": [
        "study.label", "gpu", "execution.preemption", "throughput_tokens_per_s", "limit_mean", *WORK, *MEMORY,
    ],
    "continuous_occupancy": ["study.label", "scheduler", "limit_mean", *WORK, *MEMORY],
    "continuous_token_sla": [
        "study.label", "execution.prefill", "workload.arrivals.rate_per_s", "limit_mean", *LOAD, *LATENCY, *WORK,
    ],
    "chunk_budget": [
        "workload.arrivals.rate_per_s", "execution.prefill", "execution.token_budget", *LOAD, *LATENCY, *WORK,
    ],
}  # fmt: skip


def main(outputs: Path, folder: Path) -> None:
    """Write a table of means and half widths, and a picture, for each study."""
    for study, columns in STUDIES.items():
        table = read_results(outputs / study)
        with_intervals = [half for name in columns for half in (name, f"{name}_half_width") if half in table]
        table[with_intervals].to_csv(folder / f"{study}.csv", index=False, float_format="%.4g")
        if study.startswith("continuous_binning"):  # the others are in the gallery
            save(draw("continuous_binning", outputs / study), folder, study, ["png"])


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs"), Path(__file__).parent)
