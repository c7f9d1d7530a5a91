"""Writes the tables of this folder from the stored sweeps: the columns that the page speaks of, four digits."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from mbexp.sweep.table import read_results

METRICS = [
    "request_sla_violation_pct", "latency_mean_s", "latency_p50_s", "latency_p95_s", "latency_p99_s",
    "queue_delay_mean_s", "throughput_requests_per_s", "goodput_requests_per_s", "batch_size_mean",
    "padding_waste_pct", "gpu_utilization_pct", "offered_load",
]  # fmt: skip


def main(outputs: Path, folder: Path) -> None:
    """Write a table for each study of each load."""
    for scaling in (100, 10, 1):
        for study, names in (("grid_search", ["num_gpus", "k_bins"]),
                             ("method_comparison", ["study.label", "scheduler", "num_gpus", "k_bins"])):  # fmt: skip
            name = f"{study}_{scaling}x"
            table = read_results(outputs / name)
            halves = ["request_sla_violation_pct_half_width", "latency_p95_s_half_width"]
            kept = ["num_requests", *names, *METRICS, *[half for half in halves if half in table], "overloaded"]
            table[kept].to_csv(folder / f"{name}.csv", index=False, float_format="%.4g")
        for kind, study in (("best", "grid_search"), ("verdicts", "method_comparison")):
            path = outputs / f"{study}_{scaling}x" / f"{kind}.csv"
            columns = {"best": slice(None), "verdicts": ["num_requests", "metric", "first", "second", "verdict"]}[kind]
            table = pd.read_csv(path).loc[:, columns].drop(columns=["run"], errors="ignore")
            table.to_csv(folder / f"{kind}_{scaling}x.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs"), Path(__file__).parent)
