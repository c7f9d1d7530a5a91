"""Figures over whatever was swept: lines, bars, a heat map of two keys, a distribution, a Pareto front."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mbexp.errors import UserError, unknown_choice
from mbexp.figures.aggregate import configuration_keys, means, settings, swept
from mbexp.figures.labels import axis_label, setting_label, value_label
from mbexp.figures.lines import (
    draw_lines,
    footnote,
    from_zero,
    interval_of,
    log_axis,
    looks_of,
    numeric_axis,
    place_legend,
    usual_notes,
)
from mbexp.figures.style import Look, panels, with_style
from mbexp.results.catalogue import catalogue, find_column
from mbexp.sweep.sides import is_load, sides_key

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mbexp.figures.study import StoredStudy

MOST_PANELS = 12
OF_REQUESTS = {  # what a distribution can be of, from the columns of requests.parquet
    "latency_s": ("finish_s", "arrival_s"),
    "queue_delay_s": ("start_s", "arrival_s"),
    "ttft_s": ("first_token_s", "arrival_s"),
}


@dataclass(frozen=True)
class Asked:
    """What to plot.

    Attributes
    ----------
    kind : str
        Of `PLOTS`.
    x : str or None
        A swept key; for ``pareto`` a metric.
    y : tuple of str
        Metrics, a panel each; for ``distribution`` also `OF_REQUESTS`.
    by : tuple of str
        Swept keys whose settings are the lines, bars, points, or rows of a heat map.
    where : mapping
        Keys and the values, as text, that rows must have.
    """

    kind: str
    x: str | None = None
    y: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)


Draw = Callable[["Axes", "pd.DataFrame", str, str, list[str], dict[tuple[Any, ...], Any]], None]


@with_style
def plot(study: StoredStudy, asked: Asked) -> Figure:
    """Draw what is asked for from a stored study.

    Keys that were swept and are neither `x` nor in `by` have a panel for each of their settings.

    Raises
    ------
    UserError
        If a key was not swept or a metric is not stored, or if panels would be more than 12.
    """
    if asked.kind not in PLOTS:
        raise unknown_choice("--plot", asked.kind, PLOTS)
    frame = _narrowed(study, asked)
    keys = swept(frame)
    varying = [name for name in frame.columns if name in configuration_keys() and frame[name].nunique() > 1]
    by = [_key("--by", name, frame, varying) for name in asked.by]
    needs_x = asked.kind in ("lines", "heatmap")
    x = asked.x
    if asked.kind == "pareto":
        x = _metric("--x", x or "throughput_requests_per_s", frame)
    elif x is not None:
        x = _key("--x", x, frame, varying)
    elif needs_x:
        x = next((name for name in keys if is_load(name) and name not in by), None)
        x = x or next((name for name in keys if name not in by), None)
        if x is None:
            raise UserError(f"--plot={asked.kind}: needs --x, a swept key; {study.folder} swept {', '.join(keys)}")
    if not by:
        side = sides_key([name for name in keys if name != x])
        by = [side] if side else [name for name in keys if name != x and not is_load(name)]
    if asked.kind == "heatmap" and len(by) != 1:
        raise UserError("--plot=heatmap: needs --by with one swept key, for its rows")
    ys = asked.y or ("latency_p95_s",)
    if asked.kind == "distribution" and ys[0] in OF_REQUESTS:
        frame = _requests(study, frame, [*by], ys[0])
    else:
        ys = tuple(_metric("--y", name, frame) for name in ys)
    used: list[str] = [*by, *([x] if x and x in frame.columns and asked.kind != "pareto" else [])]
    rest = [name for name in swept(frame, leave_out=used) if name in keys]
    if asked.kind == "pareto":  # loads make the points of one method
        rest = []
    parts = settings(frame, rest)
    if len(parts) * len(ys) > MOST_PANELS:
        raise UserError(
            f"--plot={asked.kind}: {len(parts) * len(ys)} panels, one for each setting of {', '.join(rest)}; "
            f"narrow them with --where {rest[0] if rest else ys[0]}=VALUE, or name them in --by"
        )
    looks = looks_of(frame, by)
    rows_of_heat = len(looks) if asked.kind == "heatmap" else 0
    picture, axes = panels(len(parts) * len(ys), height=max(2.6, 1.0 + 0.3 * rows_of_heat))
    for place, panel in enumerate(axes):
        key, part = parts[place // len(ys)]
        y = ys[place % len(ys)]
        PLOTS[asked.kind](panel, part, str(x or ""), y, by, looks)
        panel.set_title(setting_label(rest, key))
    if by and asked.kind != "heatmap":
        place_legend(picture, [_sample(asked.kind, at, by, key, looks[key]) for at, key in enumerate(looks) if key])
    notes = (
        usual_notes(means(frame, [*by, *rest, *([x] if x and needs_x else [])], ys)) if asked.kind == "lines" else []
    )
    bars = "bar: 95 % confidence interval over seeds" if asked.kind in ("bars", "pareto") else ""
    footnote(picture, *notes, bars if frame.get("seed") is not None and frame["seed"].nunique() > 1 else "")
    return picture


def _sample(kind: str, at: int, by: list[str], key: tuple[Any, ...], look: Look) -> Any:
    """Return what stands for a setting in the legend: a bar, a marker or a line, as in the panels."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    label = setting_label(by, key)
    if kind == "bars":
        return Patch(**_filled(at, look), label=label)
    if kind == "pareto":
        return Line2D([], [], linestyle="none", marker=look.marker, color=look.color, label=label)
    return Line2D([], [], **(look.plain if kind == "distribution" else look.line), label=label)


def _filled(at: int, look: Look) -> dict[str, Any]:
    """Return how the bars of a setting are filled; what repeats a colour is hatched."""
    return {"facecolor": look.color, "hatch": ("", "///", "...", "xxx")[at // 7 % 4], "edgecolor": "white",
            "linewidth": 0.3}  # fmt: skip


def _lines(axes: Axes, rows: pd.DataFrame, x: str, y: str, by: list[str], looks: dict[tuple[Any, ...], Any]) -> None:
    """Draw the mean of a metric over a key, with bands."""
    import pandas as pd

    table = means(rows, [*by, x], [y])
    if not pd.api.types.is_numeric_dtype(table[x]):
        names = list(dict.fromkeys(rows[x]))
        table = table.assign(**{x: [names.index(value) for value in table[x]]}).sort_values(x)
        draw_lines(axes, table, x, y, by, looks)
        axes.set_xticks(range(len(names)), [value_label(x, name) for name in names], rotation=20, ha="right")
        axes.set_xlabel(axis_label(x))
    else:
        draw_lines(axes, table, x, y, by, looks)
        numeric_axis(axes, "x", x, table[x])
    _scale_y(axes, table, y)


def _bars(axes: Axes, rows: pd.DataFrame, x: str, y: str, by: list[str], looks: dict[tuple[Any, ...], Any]) -> None:
    """Draw a metric as bars: a group for each value of a key, a bar for each setting of `by`."""
    table = means(rows, [*([x] if x else []), *by], [y])
    groups = settings(table, [x] if x else [])
    size = 0.8 / max(len(looks), 1)
    for place, (_, part) in enumerate(groups):
        for key, one in settings(part, by):
            at = list(looks).index(key)
            low, high = interval_of(one, y)
            mean = float(one[y].iloc[0])
            error = [[mean - float(low.iloc[0])], [float(high.iloc[0]) - mean]]
            known = error[0][0] == error[0][0]
            center = place + (at - (len(looks) - 1) / 2) * size
            axes.bar(
                center, mean, size * 0.92, yerr=error if known else None, ecolor="#333333", **_filled(at, looks[key])
            )
    labels = [_tick(x, key[0]) for key, _ in groups] if x else [""]
    turn: dict[str, Any] = {"rotation": 20, "ha": "right"} if sum(map(len, labels)) > 40 else {}
    axes.set_xticks(range(len(groups)), labels, **turn)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel(axis_label(x) if x else "")
    numeric_axis(axes, "y", y, [])
    from_zero(axes)


def _heatmap(axes: Axes, rows: pd.DataFrame, x: str, y: str, by: list[str], looks: dict[tuple[Any, ...], Any]) -> None:
    """Draw a metric over two keys, as colours with their numbers."""
    import numpy as np

    from mbexp.sweep.text import short_number

    table = means(rows, [*by, x], [y])
    across, down = list(dict.fromkeys(table[x].sort_values())), [key[0] for key in looks]
    grid = np.full((len(down), len(across)), np.nan)
    for _, row in table.iterrows():
        grid[down.index(row[by[0]]), across.index(row[x])] = row[y]
    image = axes.pcolormesh(grid, cmap="viridis", edgecolors="white", linewidth=0.5)
    middle = (np.nanmin(grid) + np.nanmax(grid)) / 2
    room = axes.get_figure(root=True).get_size_inches()[0] / max(len(across), 1)  # type: ignore[union-attr]
    for (at, to), value in np.ndenumerate(grid):
        if room > 0.42 and np.isfinite(value):
            color = "black" if value > middle else "white"
            axes.text(to + 0.5, at + 0.5, short_number(value), ha="center", va="center", fontsize=6.5, color=color)
    axes.set_xticks(np.arange(len(across)) + 0.5, [_tick(x, value) for value in across], rotation=0)
    axes.set_yticks(np.arange(len(down)) + 0.5, [_tick(by[0], value) for value in down])
    axes.set_xlabel(axis_label(x))
    axes.set_ylabel(axis_label(by[0]))
    axes.grid(visible=False)
    axes.get_figure(root=True).colorbar(image, ax=axes, label=axis_label(y))  # type: ignore[union-attr]


def _distribution(
    axes: Axes, rows: pd.DataFrame, x: str, y: str, by: list[str], looks: dict[tuple[Any, ...], Any]
) -> None:
    """Draw the share of values up to each value: of requests, or of a metric over seeds."""
    import numpy as np

    low = np.inf
    for key, part in settings(rows, by):
        values = np.sort(part[y].dropna().to_numpy(dtype=float))
        if not len(values):
            continue
        shares = np.arange(1, len(values) + 1) / len(values)
        if len(values) > 2000:
            kept = np.linspace(0, len(values) - 1, 1000).astype(int)
            values, shares = values[kept], shares[kept]
        rising = np.concatenate([values[:1], values]), np.concatenate([[0.0], shares])  # none is below the least
        axes.step(rising[0], 100 * rising[1], where="post", **looks[key].plain)
        low = min(low, float(values[0]))
    if low > 0 and axes.get_xlim()[1] / low > 10:
        log_axis(axes, "x")
    axes.set_ylim(0, 101)
    axes.set_xlabel(axis_label(y))
    axes.set_ylabel(f"{'Requests' if y in OF_REQUESTS else 'Runs'} up to it (%)")


def _pareto(axes: Axes, rows: pd.DataFrame, x: str, y: str, by: list[str], looks: dict[tuple[Any, ...], Any]) -> None:
    """Draw two metrics against each other, and the front of settings that none beats in both."""
    import numpy as np

    loads = [name for name in swept(rows, leave_out=by) if name not in by]
    table = means(rows, [*by, *loads], [x, y])
    signs = [1 if _better(name) == "higher" else -1 for name in (x, y)]
    points = np.column_stack([signs[0] * table[x], signs[1] * table[y]])
    on_front = [not any((other >= one).all() and (other > one).any() for other in points) for one in points]
    for place, (_, row) in enumerate(table.iterrows()):
        key = tuple(row[name] for name in by)
        look = looks[key]
        one = table.iloc[[place]]
        errors = []
        for name in (x, y):
            low, high = interval_of(one, name)
            errors.append([[row[name] - float(low.iloc[0])], [float(high.iloc[0]) - row[name]]])
        known = errors[0][0][0] == errors[0][0][0]
        ends: dict[str, Any] = {"xerr": errors[0], "yerr": errors[1]} if known else {}
        alpha = 1.0 if on_front[place] else 0.45
        axes.errorbar(row[x], row[y], **ends, fmt=look.marker, color=look.color, alpha=alpha, elinewidth=0.7)
    front = table[on_front].sort_values(x)
    axes.plot(front[x], front[y], color="#444444", linewidth=1.0, zorder=0)
    numeric_axis(axes, "x", x, [])
    numeric_axis(axes, "y", y, [])
    if table[y].min() > 0 and table[y].max() / table[y].min() > 10:
        log_axis(axes)


PLOTS: dict[str, Draw] = {
    "lines": _lines,
    "bars": _bars,
    "heatmap": _heatmap,
    "distribution": _distribution,
    "pareto": _pareto,
}


def _scale_y(axes: Axes, table: pd.DataFrame, y: str) -> None:
    numeric_axis(axes, "y", y, [])
    if not y.endswith("_pct") and table[y].min() > 0 and table[y].max() / table[y].min() > 10:
        log_axis(axes)
        return
    if table[y].min() >= 0:
        from_zero(axes)
    if y.endswith("_pct") and axes.get_ylim()[1] > 100:
        axes.set_ylim(top=104)


def _tick(column: str, value: Any) -> str:
    return value_label(column, value) if isinstance(value, str) else f"{value:g}"


def _better(metric: str) -> str | None:
    found = find_column(metric)
    if found is None or found.better is None:
        raise UserError(f"--plot=pareto: more of {metric} is neither better nor worse")
    return found.better


def _key(option: str, name: str, frame: pd.DataFrame, varying: Sequence[str]) -> str:
    if name not in frame.columns or name not in configuration_keys():
        raise unknown_choice(option, name, varying)
    return name


def _metric(option: str, name: str, frame: pd.DataFrame) -> str:
    row = catalogue().get(name)
    column = (row.column or name) if row else name
    if column not in frame.columns or column in configuration_keys():
        known = [each for each in frame.columns if find_column(each) is not None]
        raise unknown_choice(option, name, known)
    if not frame[column].notna().any():
        raise UserError(f"{option}={name}: no run of this study has it")
    return column


def _narrowed(study: StoredStudy, asked: Asked) -> pd.DataFrame:
    """Return the runs that are asked for, with the keys that are named."""
    named = tuple(name for name in (asked.x, *asked.by, *asked.where) if name)
    frame = study.with_keys(study.results, named)
    for name, text in asked.where.items():
        _key("--where", name, frame, swept(frame))
        kept = frame[[_same(value, text) for value in frame[name]]]
        if kept.empty:
            raise unknown_choice(f"--where {name}", text, map(str, frame[name].unique()))
        frame = kept
    return frame


def _same(value: Any, text: str) -> bool:
    try:
        return str(value) == text or float(value) == float(text)
    except (TypeError, ValueError):
        return False


def _requests(study: StoredStudy, frame: pd.DataFrame, by: Sequence[str], y: str) -> pd.DataFrame:
    """Return a row for each stored request, with the swept keys of its run."""
    import pandas as pd

    from mbexp.results.stored import read_table, table_columns

    last, first = OF_REQUESTS[y]
    keep = [*dict.fromkeys([*by, *swept(frame)])]
    parts = []
    for _, row in frame.drop_duplicates("run").iterrows():
        path = study.run_folder(str(row["run"])) / "requests.parquet"
        if not path.is_file() or not {last, first} <= {*table_columns(path)}:
            continue
        times = read_table(path, [last, first]).to_pandas()
        parts.append((times[last] - times[first]).rename(y).to_frame().assign(**{name: row[name] for name in keep}))
    if not parts:
        raise UserError(f"--y={y}: no run stored {last} of its requests (output.requests=true stores them)")
    return pd.concat(parts, ignore_index=True)
