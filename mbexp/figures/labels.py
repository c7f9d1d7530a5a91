"""What stands at axes and lines: names with their units, short numbers, and labels beside the ends of lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mbexp.results.catalogue import UNITS, find_column

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = {  # of keys of the configuration; those of metrics stand in their catalogue
    "num_gpus": "GPUs",
    "gpu.count": "GPUs",
    "k_bins": "Bins K",
    "bins.k": "Bins K",
    "num_requests": "Requests",
    "seed": "Seed",
    "scheduler": "Scheduler",
    "scheduler.name": "Scheduler",
    "scheduler.fixed_batch_size": "Batch size b (requests)",
    "workload": "Workload",
    "workload.rate_scaling": "Rate scaling",
    "workload.arrivals.rate_per_s": "Arrival rate (requests/s)",
    "predictor.error_probability": "Prediction error p",
    "execution.token_budget": "Token budget (tokens)",
}
RULES = ("selection", "fill", "assignment", "batch_size", "queue")  # keys whose values say what they are
LINE_SPACING = 1.25


def axis_label(column: str) -> str:
    """Return the words for an axis that shows a column, with the unit that its name carries."""
    if column in NAMES:
        return NAMES[column]
    metric = find_column(column)
    if metric is not None:
        return metric.axis_label
    for suffix, unit in UNITS.items():
        if column.endswith(suffix):
            return f"{_words(column.removesuffix(suffix))} ({unit})"
    return _words(column)


def value_label(column: str, value: Any) -> str:
    """Return a value with what it is of, short: ``K = 8``, ``16 GPUs``, ``10k requests``, ``static_fifo``."""
    text = number(value)
    if column in ("k_bins", "bins.k"):
        return f"K = {text}"
    if column in ("num_gpus", "gpu.count"):
        return f"{text} GPU" + ("" if value == 1 else "s")
    if column == "num_requests":
        return f"{short_count(value)} requests"
    if column == "workload.rate_scaling":
        return f"{text}x the trace's rate"
    if column == "workload.arrivals.rate_per_s":
        return f"{text} requests/s"
    if column == "study.label":
        return str(value)
    if column == "seed":
        return f"seed {text}"
    if isinstance(value, str) and "." not in column:
        return value
    last = column.rpartition(".")[2]
    if isinstance(value, str):
        if last in RULES:  # a rule of the user's own by its name alone
            return value.rpartition(".")[2]
        return value if last in ("name", "kind") else f"{_words(last)} {value}"
    return f"{_words(last)} {text}"


def setting_label(columns: Sequence[str], values: Sequence[Any]) -> str:
    """Return the values of several columns, joined by commas; an empty string for none."""
    return ", ".join(value_label(column, value) for column, value in zip(columns, values, strict=True))


def number(value: Any) -> str:
    """Return a number short, a whole one with separators, anything else as text."""
    if isinstance(value, str) or value is None:
        return str(value)
    if isinstance(value, float) and math.isnan(value):
        return "-"
    if float(value) == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}"


def short_count(value: float) -> str:
    """Return a count as 500, 10k or 1M; one that has no short form in full."""
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if value >= unit and round(value / unit, 1) * unit == value:
            return f"{value / unit:g}{letter}"
    return number(value)


def label_line_ends(axes: Axes, ends: Mapping[str, tuple[float, float]], colors: Mapping[str, str]) -> None:
    """Write a name to the right of each line's end, none over another, joined to its line by a thin rule.

    Parameters
    ----------
    axes
        With its limits and scales as they will stay.
    ends
        Last point of each line, in data units, by name.
    colors
        Colour of each.
    """
    if not ends:
        return
    to_axes = axes.transScale + axes.transLimits
    heights = {name: float(to_axes.transform(point)[1]) for name, point in ends.items()}
    figure_height = axes.get_figure(root=True).get_size_inches()[1]  # type: ignore[union-attr]
    rows = axes.get_gridspec().nrows if axes.get_subplotspec() else 1  # type: ignore[union-attr]
    size = 8.0
    gap = LINE_SPACING * size / (72 * 0.75 * figure_height / rows)
    for name, place in spread(heights, gap).items():
        axes.annotate(
            name,
            xy=ends[name],
            xytext=(1.06, place),
            textcoords="axes fraction",
            fontsize=size,
            color=_readable(colors[name]),
            verticalalignment="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colors[name], "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3},
        )


def spread(heights: Mapping[str, float], gap: float) -> dict[str, float]:
    """Return heights at least `gap` apart, in the same order, moved as little as that allows, kept in the middle."""
    names = sorted(heights, key=lambda name: heights[name])
    # groups of labels that touch: each as (members, centre), merged until none overlaps the next
    groups: list[tuple[list[str], float]] = []
    for name in names:
        groups.append(([name], min(max(heights[name], 0.0), 1.0)))
        while len(groups) > 1:
            (lower, low), (upper, high) = groups[-2:]
            if high - low >= gap * (len(lower) + len(upper)) / 2:
                break
            count = len(lower) + len(upper)
            groups[-2:] = [(lower + upper, (low * len(lower) + high * len(upper)) / count)]
    return {
        name: centre + gap * (place - (len(members) - 1) / 2)
        for members, centre in groups
        for place, name in enumerate(members)
    }


def _readable(color: str) -> str:
    """Return the colour, darkened for small text where it is too pale."""
    from matplotlib.colors import to_hex, to_rgb

    red, green, blue = to_rgb(color)
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    darker = min(1.0, 0.42 / light) if light else 1.0
    return to_hex((red * darker, green * darker, blue * darker))


def _words(name: str) -> str:
    text = name.rpartition(".")[2].replace("_", " ")
    return text[:1].upper() + text[1:]
