"""How many GPUs: throughput, request-SLA violation and latency as GPUs, bins and load grow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mbexp.figures.aggregate import best_rows, means, records, settings, swept
from mbexp.figures.labels import setting_label, value_label
from mbexp.figures.lines import (
    draw_lines,
    footnote,
    from_zero,
    log_axis,
    looks_of,
    name_lines,
    numeric_axis,
    share_labels,
    usual_notes,
)
from mbexp.figures.registry import figure
from mbexp.figures.style import GREY, Look, panels
from mbexp.results.catalogue.metric import unit_of_name
from mbexp.results.targets import Target, parse
from mbexp.sweep.best import FAILS, UNDECIDED, best_configurations

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TARGET_PCT = 5.0
TARGET_WORDS = {FAILS: "target not met", UNDECIDED: "target not shown to be met"}
ALL_PCT = 104.0  # top of an axis of shares, with room for a marker at 100 %
MOST_PANELS = 12
# What can be a line of its own, in the order in which it is chosen; everything else that was swept makes panels.
LINES = ("k_bins", "study.label", "scheduler")
# What leads along a line of latency against throughput, in the order in which it is chosen.
PATHS = ("num_gpus", "workload.arrivals.rate_per_s", "workload.rate_scaling", "num_requests")


def lines_and_panels(frame: pd.DataFrame, x: str, preferred: Sequence[str] = LINES) -> tuple[list[str], list[str]]:
    """Return the swept columns that tell lines apart (one of `preferred`, else all) and those that make panels."""
    columns = swept(frame, leave_out=[x])
    for name in preferred:
        if name in columns:
            return [name], [column for column in columns if column != name]
    return columns, []


def lines_over(
    frame: pd.DataFrame, metric: str, x: str = "num_gpus", preferred: Sequence[str] = LINES, zero: bool = True
) -> Figure:
    """Draw a metric over a swept column, a line for each setting of one other column, a panel for each of the rest."""
    series, panel_columns = lines_and_panels(frame, x, preferred)
    table = means(frame, [*panel_columns, *series, x], [metric])
    looks = looks_of(table, series)
    shown = settings(table, panel_columns)
    picture, axes = panels(min(len(shown), MOST_PANELS), extra_width=0.7, sharey=zero)
    ends = {}
    for panel, (key, rows) in zip(axes, shown, strict=False):
        panel.set_title(setting_label(panel_columns, key))
        ends = draw_lines(panel, rows, x, metric, series, looks)
        numeric_axis(panel, "x", x, rows[x])
        numeric_axis(panel, "y", metric, [])
    if zero:
        for panel in axes:
            from_zero(panel)
        share_labels(axes)
    name_lines(picture, axes, series, looks, ends)
    footnote(picture, *usual_notes(table), too_many(len(shown)))
    return picture


def too_many(count: int) -> str:
    """Return the note of a figure that leaves panels out, or an empty string."""
    return f"the first {MOST_PANELS} of {count} settings; narrow the sweep to see others" if count > MOST_PANELS else ""


@figure(
    "Throughput against GPUs, by K",
    needs=("num_gpus", "throughput_requests_per_s"),
    varies=("num_gpus",),
    alike=("scheduler",),
)
def throughput_against_gpus(frame: pd.DataFrame) -> Figure:
    """Throughput as GPUs are added, a line for each number of bins.

    A line that turns flat has reached the arrival rate, and further GPUs have nothing to do.
    """
    return lines_over(frame, "throughput_requests_per_s")


@figure(
    "Request-SLA violation against GPUs, by load",
    needs=("run", "num_gpus", "k_bins", "request_sla_violation_pct"),
    varies=("num_gpus",),
)
def violation_against_gpus(frame: pd.DataFrame) -> Figure:
    """Share of requests over the latency target, at the best K for each number of GPUs, a line for each load.

    A ring marks the configuration to choose: the fewest GPUs at or under the target line. Where no configuration meets
    the target, a cross marks the lowest violation. If a study has targets of its own (`sla.targets`), the figure shows
    the first target, and all of them decide.
    """
    target_pct = float(frame.attrs.get("target_pct", TARGET_PCT))
    targets = [parse(text) for text in frame.attrs.get("targets", [])]
    shown_target = targets[0] if targets else Target("request_sla_violation_pct", True, target_pct)
    metric, target = shown_target.metric, shown_target.bound
    all_of = f"targets: {', '.join(map(str, targets))}" if targets else f"target: {target:g} %"
    columns = swept(frame, leave_out=["num_gpus"])
    has_bins = "k_bins" in columns
    panel_columns = [name for name in columns if name == "scheduler"]
    series = [name for name in columns if name != "k_bins" and name not in panel_columns]
    if not series:  # one load: the schedulers fit into one panel
        series, panel_columns = panel_columns, []
    table = means(frame, [*columns, "num_gpus"], [metric])
    best = best_rows(table, [*panel_columns, *series, "num_gpus"], metric, shown_target.at_most)
    chosen = best_configurations(records(frame), [*panel_columns, *series], target_pct, targets)
    looks = looks_of(best, series)
    shown = settings(best, panel_columns)
    picture, axes = panels(
        min(len(shown), MOST_PANELS), columns=2, width=4.2, height=2.9 + 0.17 * (len(looks) + 1), sharey=True
    )
    for panel, (key, rows) in zip(axes, shown, strict=False):
        panel.set_title(setting_label(panel_columns, key))
        draw_lines(panel, rows, "num_gpus", metric, series, looks)
        numeric_axis(panel, "x", "num_gpus", rows["num_gpus"])
        numeric_axis(panel, "y", metric, [])
        panel.axhline(target, color=GREY, linewidth=1.0, linestyle=(0, (4, 2)))
        choices = []
        for row in chosen:
            if tuple(row[name] for name in panel_columns) != key:
                continue
            load = tuple(row[name] for name in series)
            met = row["meets_target"]
            mark: dict[str, Any] = {"marker": "o", "markersize": 11} if met else {"marker": "x", "markersize": 9}
            panel.plot(
                row["num_gpus"], row[metric], **mark, color=looks[load].color, markerfacecolor="none", clip_on=False
            )
            words = [value_label("num_gpus", row["num_gpus"])]
            words += [value_label("k_bins", row["k_bins"])] if has_bins else []
            unit = unit_of_name(metric)
            verdict = "" if met else f"; {TARGET_WORDS[row['judgement']]} ({row[metric]:.1f} {unit})"
            choices.append((load, f"{setting_label(series, load)}: {', '.join(words)}{verdict}".removeprefix(": ")))
        write_choices(panel, choices, looks, all_of)
    for panel in axes:
        top = max(panel.get_ylim()[1], 1.6 * target)
        from_zero(panel, top=min(top, ALL_PCT) if metric.endswith("_pct") else top)
    share_labels(axes)
    footnote(picture, *usual_notes(best), too_many(len(shown)))
    return picture


def write_choices(
    panel: Axes, choices: list[tuple[tuple[Any, ...], str]], looks: dict[tuple[Any, ...], Look], target: str
) -> None:
    """Write under a panel, line by line, what is chosen at each load."""
    from matplotlib.lines import Line2D
    from matplotlib.transforms import ScaledTranslation

    handles = [Line2D([], [], **looks[load].line, label=text) for load, text in choices]
    handles.append(Line2D([], [], color=GREY, linewidth=1.0, linestyle=(0, (4, 2)), label=target))
    under = panel.transAxes + ScaledTranslation(0, -0.42, panel.figure.dpi_scale_trans)
    panel.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=under, handlelength=3.2)


@figure(
    "Latency against throughput, by K",
    needs=("throughput_requests_per_s", "latency_mean_s"),
    varies=("num_gpus or workload.arrivals.rate_per_s or workload.rate_scaling or num_requests or k_bins",),
)
def latency_against_throughput(frame: pd.DataFrame) -> Figure:
    """Mean latency against throughput, a line for each number of bins, from the first to the last load or GPU count.

    Lower and further right is better.
    """
    columns = swept(frame)
    path = next((name for name in PATHS if name in columns), None)
    series, panel_columns = lines_and_panels(frame, path) if path else (columns, [])
    metrics = ["throughput_requests_per_s", "latency_mean_s"]
    table = means(frame, [*panel_columns, *series, *([path] if path else [])], metrics)
    looks = looks_of(table, series)
    shown = settings(table, panel_columns)
    picture, axes = panels(min(len(shown), MOST_PANELS), extra_width=0.7)
    ends = {}
    for panel, (key, rows) in zip(axes, shown, strict=False):
        panel.set_title(setting_label(panel_columns, key))
        ends = draw_lines(panel, rows, metrics[0], metrics[1], series, looks)
        numeric_axis(panel, "x", metrics[0], [])
        numeric_axis(panel, "y", metrics[1], [])
        if rows["latency_mean_s"].min() > 0:
            log_axis(panel)
        from_zero(panel, "x")
    name_lines(picture, axes, series, looks, ends, most=4)  # lines end anywhere, and labels would cross them
    way = ""
    if path:
        first, last = table[path].min(), table[path].max()
        way = f"each line runs from {value_label(path, first)} to {value_label(path, last)}"
    footnote(picture, way, *usual_notes(table), too_many(len(shown)))
    return picture
