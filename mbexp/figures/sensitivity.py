"""How much the outcome depends on a setting: bins, GPUs, requests, and the seed alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mbexp.figures._page import current_page
from mbexp.figures.aggregate import means, settings, swept
from mbexp.figures.comparison import LOADS, METRICS, scale_metric
from mbexp.figures.labels import axis_label, setting_label
from mbexp.figures.lines import (
    draw_lines,
    footnote,
    interval_of,
    legend_outside,
    looks_of,
    name_rows,
    numeric_axis,
    row_height,
    usual_notes,
)
from mbexp.figures.registry import figure
from mbexp.figures.style import BLUE, GREY, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MOST_LINES = 12
MOST_SETTINGS = 60
LONGEST_PAGE_INCHES = 9.0  # of text on a page of a paper


@figure("Sensitivity to K", needs=("k_bins", *METRICS, "padding_waste_pct"), varies=("k_bins",))
def sensitivity_to_bins(frame: pd.DataFrame) -> Figure:
    """Violation, throughput, latency and padding waste over the number of bins, all else equal."""
    return over_setting(frame, "k_bins", (*METRICS, "padding_waste_pct"))


@figure(
    "Sensitivity to GPUs",
    needs=("num_gpus", *METRICS, "gpu_utilization_pct"),
    varies=("num_gpus",),
    alike=("scheduler",),
)
def sensitivity_to_gpus(frame: pd.DataFrame) -> Figure:
    """Violation, throughput, latency and GPU utilization over the number of GPUs, all else equal."""
    return over_setting(frame, "num_gpus", (*METRICS, "gpu_utilization_pct"))


@figure("Dependence on the number of requests", needs=("num_requests", *METRICS), varies=("num_requests",))
def sensitivity_to_requests(frame: pd.DataFrame) -> Figure:
    """Violation, throughput, latency and GPU utilization over the number of requests simulated.

    A value that still changes with the number of requests is not a steady state. A longer run would give another value.
    """
    return over_setting(frame, "num_requests", (*METRICS, "gpu_utilization_pct"))


@figure("Spread across seeds", needs=("seed", *METRICS), varies=("seed",))
def sensitivity_across_seeds(frame: pd.DataFrame) -> Figure:
    """Each seed's outcome as a dot, with the mean and its 95 % confidence interval, a row for each setting.

    The spread of the dots shows how far one run alone can mislead.
    """
    columns = swept(frame)
    every = settings(frame, columns)
    step = -(-len(every) // MOST_SETTINGS)
    shown = every[::step]
    names = [setting_label(columns, key) or "all runs" for key, _ in reversed(shown)]
    metrics, height = [*METRICS], 1.3 + 0.24 * len(shown)
    if current_page().is_narrow and current_page().height_inches is None:  # panels stand below one another
        height = row_height(names)
        metrics = metrics[: max(1, int(LONGEST_PAGE_INCHES / height))]
    picture, axes = panels(len(metrics), columns=3, width=3.0, height=height, extra_width=1.4, sharey=True)
    for panel, metric in zip(axes, metrics, strict=True):
        for height, (_, rows) in enumerate(reversed(shown)):
            summary = means(rows, [], [metric]).iloc[0]
            panel.plot(
                rows[metric], [height] * len(rows), "o", color=GREY, markersize=3.5, alpha=0.7, markeredgewidth=0
            )
            low, high = interval_of(summary.to_frame().T, metric)
            error = [[summary[metric] - low.iloc[0]], [high.iloc[0] - summary[metric]]]
            panel.errorbar(
                summary[metric],
                height,
                xerr=error if error[0][0] == error[0][0] else None,
                fmt="|",
                color=BLUE,
                markersize=9,
                markeredgewidth=1.8,
                elinewidth=1.3,
                capsize=3,
            )
        panel.set_xlabel(axis_label(metric))
        panel.margins(x=0.08)
    name_rows(axes, names)
    left_out = [axis_label(metric).partition(" (")[0] for metric in METRICS if metric not in metrics]
    footnote(
        picture,
        "dot: one seed; bar: mean and 95 % confidence interval",
        one_in(step, len(every)),
        f"no room on this page for {' and '.join(left_out)}; a width of 7in has it" if left_out else "",
    )
    return picture


def one_in(step: int, count: int) -> str:
    """Return the note of a figure that shows only some settings, or an empty string."""
    return f"one in {step} of the {count} settings" if step > 1 else ""


def over_setting(frame: pd.DataFrame, x: str, metrics: tuple[str, ...]) -> Figure:
    """Draw each metric over one swept column, a panel for each metric and a line for each setting of the others."""
    series = swept(frame, leave_out=[x])
    held: dict[str, Any] = {}
    loads = [name for name in series if name in LOADS]
    if len(series) > 1 and loads:
        # lines for everything at once would hide each other: the heaviest load is the telling one
        heaviest, frame = settings(frame, loads)[-1]
        held |= dict(zip(loads, heaviest, strict=True))
    if len(series) - len(held) > 1 and "k_bins" in series:
        bins = settings(frame, ["k_bins"])
        (held["k_bins"],), frame = bins[(len(bins) - 1) // 2]
    series = [name for name in series if name not in held]
    at = f"at {setting_label(list(held), list(held.values()))}" if held else ""
    table = means(frame, [*series, x], metrics)
    every = settings(table, series)
    step = -(-len(every) // MOST_LINES)
    kept = [key for key, _ in every][::step]
    looks = {key: look for key, look in looks_of(table, series).items() if key in kept}
    picture, axes = panels(len(metrics), columns=2, height=2.4, extra_width=1.9 if series else 0.0)
    for panel, metric in zip(axes, metrics, strict=True):
        for key, rows in every:
            if key in looks:
                draw_lines(panel, rows, x, metric, series, looks)
        numeric_axis(panel, "x", x, table[x])
        scale_metric(panel, metric, table)
    legend_outside(picture, series, looks)
    footnote(picture, at, *usual_notes(table), one_in(step, len(every)))
    return picture
