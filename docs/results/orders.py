"""Writes the tables and the picture of docs/orders.md in this folder from the stored studies."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mbexp.figures.style import categorical, panels, save, with_style
from mbexp.sweep.table import read_results

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SET = ["workload.rate_scaling", "workload.burst_likeness", "predictor.sigma", "study.label", "scheduler.order"]
METRICS = [
    "offered_load", "latency_mean_s", "latency_p99_s", "starved_pct", "queue_delay_max_s", "padding_waste_pct",
    "throughput_requests_per_s", "goodput_requests_per_s", "preempted_requests_pct", "running_mean", "jain_index",
    "throughput_tokens_per_s", "latency_mean_s@heavy", "latency_mean_s@light", "goodput_requests_per_s@light",
]  # fmt: skip
STUDIES = (
    "queue_orders_run_to_completion",
    "queue_orders_continuous",
    "bins_or_order",
    "burst_orders",
    "future_peak",
    "fair_orders",
    "displacing_orders_4",
    "displacing_orders_64",
)
DRAWN = {"latency_mean_s": "mean latency (s)", "latency_p99_s": "p99 latency (s)", "starved_pct": "starved (%)"}
MODES = {"queue_orders_run_to_completion": "run to completion", "queue_orders_continuous": "continuous"}


@with_style
def orders(tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw mean, 99th percentile and starvation over the error of predictions, at the highest load of each mode."""
    figure, axes = panels(len(DRAWN) * len(MODES), columns=len(DRAWN))
    places = iter(axes)
    for study, mode in MODES.items():
        table = tables[study]
        table = table[table["workload.rate_scaling"] == table["workload.rate_scaling"].max()]
        looks = categorical(list(dict.fromkeys(table["study.label"])))
        for metric, words in DRAWN.items():
            axis = next(places)
            for label, look in looks.items():
                mine = table[table["study.label"] == label].sort_values("predictor.sigma")
                axis.errorbar(
                    mine["predictor.sigma"],
                    mine[metric],
                    mine[f"{metric}_half_width"],
                    label=label,
                    color=look.color,
                    linestyle=look.dash,
                    marker=look.marker,
                    capsize=2,
                )
            axis.set_title(mode)
            axis.set_xlabel("predictor.sigma")
            axis.set_ylabel(words)
            axis.set_ylim(bottom=0)
    axes[2].legend(loc="upper left")
    return figure


def main(outputs: Path, folder: Path) -> None:
    """Write a table of means and half widths for each study, and the picture."""
    tables = {study: read_results(outputs / study) for study in STUDIES}
    for study, table in tables.items():
        columns = [half for name in (*SET, *METRICS) for half in (name, f"{name}_half_width") if half in table]
        table[columns].to_csv(folder / f"{study}.csv", index=False, float_format="%.4g")
    save(orders(tables), folder, "queue_orders", ["png"])


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs"), Path(__file__).parent)
