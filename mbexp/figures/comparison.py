"""Schedulers side by side, at equal GPUs or method by method: violation, throughput and latency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mbexp.figures.aggregate import means, settings, swept
from mbexp.figures.labels import axis_label, setting_label
from mbexp.figures.lines import (
    GROWING,
    draw_lines,
    footnote,
    from_zero,
    interval_of,
    legend_outside,
    log_axis,
    looks_of,
    name_rows,
    numeric_axis,
    usual_notes,
)
from mbexp.figures.registry import figure
from mbexp.figures.style import panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRICS = ("request_sla_violation_pct", "throughput_requests_per_s", "latency_p95_s")
LOADS = ("num_requests", "workload", "workload.rate_scaling", "workload.arrivals.rate_per_s")
MOST_ROWS = 40
DODGE = 0.16


@figure(
    "Schedulers side by side, at equal GPUs",
    needs=("scheduler", "num_gpus", *METRICS),
    varies=("scheduler", "num_gpus"),
)
def schedulers_at_equal_gpus(frame: pd.DataFrame) -> Figure:
    """Request-SLA violation, throughput and 95th percentile latency of each scheduler over the number of GPUs.

    Points above each other have the same GPUs and the same requests, and can be compared. Each load has a row of
    panels.
    """
    columns = [name for name in swept(frame, leave_out=["num_gpus"]) if name != "scheduler"]
    rows_of = [name for name in columns if name in LOADS]
    series = ["scheduler", *[name for name in columns if name not in rows_of]]
    table = means(frame, [*rows_of, *series, "num_gpus"], METRICS)
    looks = looks_of(table, series)
    shown = settings(table, rows_of)[:6]
    picture, axes = panels(3 * len(shown), columns=3, height=2.7, extra_width=1.6)
    for row, (key, part) in enumerate(shown):
        for panel, metric in zip(axes[3 * row : 3 * row + 3], METRICS, strict=True):
            draw_lines(panel, part, "num_gpus", metric, series, looks)
            panel.set_title(setting_label(rows_of, key))
            numeric_axis(panel, "x", "num_gpus", part["num_gpus"])
            numeric_axis(panel, "y", metric, [])
            scale_metric(panel, metric, part)
    legend_outside(picture, series, looks)
    footnote(picture, *usual_notes(table))
    return picture


@figure(
    "Methods side by side", needs=("scheduler", *METRICS), varies=("scheduler",), alike=("num_gpus",), named_points=True
)
def methods_side_by_side(frame: pd.DataFrame) -> Figure:
    """Request-SLA violation, throughput and 95th percentile latency, a row for each method, a mark for each load.

    The methods can have different numbers of GPUs. The name of a method then says how many.
    """
    columns = swept(frame)
    loads = [name for name in columns if name in LOADS]
    method = ["scheduler", *[name for name in columns if name not in loads and name != "scheduler"]]
    if "study.label" in columns:  # the study has given each method a name
        method = ["study.label"]
    table = means(frame, [*loads, *method], METRICS)
    looks = looks_of(table, loads)
    names = [key for key, _ in settings(table, method)]
    if method == ["study.label"]:  # in the order that the study gives them
        order = list(dict.fromkeys(frame["study.label"]))
        names.sort(key=lambda key: order.index(key[0]))
    names = names[:MOST_ROWS]
    place = {key: len(names) - 1 - index for index, key in enumerate(names)}
    picture, axes = panels(
        3,
        columns=3,
        width=3.0,
        height=1.2 + (0.24 + 0.06 * (len(looks) - 1)) * len(names),
        extra_width=1.6 + (1.6 if loads else 0),
        sharey=True,
    )
    for panel, metric in zip(axes, METRICS, strict=True):
        every = settings(table, loads)
        for index, (load, part) in enumerate(every):
            aside = DODGE * ((len(every) - 1) / 2 - index)  # marks of several loads would hide each other
            for key, rows in settings(part, method):
                if key in place:
                    dot(panel, rows.iloc[0], metric, place[key] + aside, looks[load])
        numeric_axis(panel, "x", metric, [])
        if metric == "latency_p95_s" and spans(table[metric]):
            log_axis(panel, "x")
        else:
            from_zero(panel, "x")
    name_rows(axes, [setting_label(method, key) for key in reversed(names)])
    legend_outside(picture, loads, {key: look for key, look in looks.items() if key})
    footnote(
        picture,
        "bar: 95 % confidence interval over seeds" if int(table["runs"].max()) > 1 else "",
        GROWING if table["growing"].any() else "",
        f"the first {MOST_ROWS} methods" if len(settings(table, method)) > MOST_ROWS else "",
    )
    return picture


def dot(panel, row, metric, height, look) -> None:  # type: ignore[no-untyped-def]
    """Draw a mean with its interval as a dot with a bar."""
    low, high = interval_of(row.to_frame().T, metric)
    error = [[row[metric] - low.iloc[0]], [high.iloc[0] - row[metric]]]
    hollow = bool(row["growing"])
    panel.errorbar(
        row[metric],
        height,
        xerr=error if error[0][0] == error[0][0] else None,
        fmt=look.marker,
        color=look.color,
        markerfacecolor="white" if hollow else look.color,
        markeredgecolor=look.color,
        elinewidth=1.1,
        capsize=2.5,
    )


def scale_metric(panel: Axes, metric: str, table: pd.DataFrame) -> None:
    """Give shares and rates an axis from zero, and latencies a logarithmic one where they span a factor of ten."""
    if metric.startswith(("latency", "ttft")) and spans(table[metric]):
        log_axis(panel)
    else:
        from_zero(panel)
        if metric.endswith("_pct") and panel.get_ylim()[1] > 100:
            panel.set_ylim(0, 104)  # a share has no more than 100 %, whatever an interval says
    panel.set_ylabel(axis_label(metric))


def spans(values: pd.Series, factor: float = 10.0) -> bool:
    """Whether positive values span more than `factor`."""
    return bool(values.min() > 0 and values.max() / values.min() > factor)
