"""Lines with bands of confidence: the drawing that most figures share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mbexp.figures._page import current_page
from mbexp.figures.aggregate import settings
from mbexp.figures.labels import axis_label, label_line_ends, number, setting_label
from mbexp.figures.style import GREY, Look, categorical, ordered
from mbexp.results.catalogue import find_column
from mbexp.results.catalogue.metric import unit_of_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW_NAME_CHARACTERS = 30  # of a line of a row's name, on a narrow page
MOST_LEGEND_ROWS = 8  # above panels, in letters of the usual size
INCHES_PER_LETTER = 0.0575  # of a footnote, on average
GROWING = "hollow: overloaded, or the queue climbed throughout the run, so that the value may depend on its length"
BAND = "band: 95 % confidence interval over seeds"
PAIRED = "lines share their requests, seed by seed: a difference can be real where bands overlap"


def looks_of(frame: pd.DataFrame, columns: Sequence[str]) -> dict[tuple[Any, ...], Look]:
    """Return a look for every setting of `columns`: shades in order for numbers, contrasting colours for names."""
    keys = [key for key, _ in settings(frame, columns)]
    is_ordered = bool(columns) and all(not isinstance(part, str) for key in keys for part in key) and len(keys) > 1
    return ordered(keys) if is_ordered else categorical_keys(keys)


def categorical_keys(keys: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], Look]:
    """Return contrasting looks, the usual ones for keys that are a scheduler's name alone."""
    names = [key[0] if len(key) == 1 else key for key in keys]
    return dict(zip(keys, categorical(names).values(), strict=True))


def draw_lines(
    axes: Axes, table: pd.DataFrame, x: str, y: str, series: Sequence[str], looks: dict[tuple[Any, ...], Look]
) -> dict[tuple[Any, ...], tuple[float, float]]:
    """Draw `y` over `x`, a line for each setting of `series`, and return where each line ends.

    Parameters
    ----------
    table
        A row a setting, as `mbexp.figures.aggregate.means` returns it. A band is drawn where a half-width is known,
        a hollow marker where the queue grew.
    """
    ends = {}
    alpha = 0.22 if len(looks) <= 2 else 0.12
    for key, rows in settings(table, series):
        rows = rows[rows[y].notna() & rows[x].notna()]
        if rows.empty:
            continue
        look = looks[key]
        axes.plot(rows[x], rows[y], **look.line, label=setting_label(series, key))
        half = rows.get(f"{y}_half_width")
        if half is not None and half.notna().any():
            low, high = interval_of(rows, y)
            axes.fill_between(rows[x], low, high, color=look.color, alpha=alpha, linewidth=0)
        hollow = rows[rows["growing"]]
        if len(hollow):
            face = {"markerfacecolor": "white", "markeredgecolor": look.color, "markeredgewidth": 1.1}
            axes.plot(hollow[x], hollow[y], **{**look.points, **face})
        ends[key] = (float(rows[x].iloc[-1]), float(rows[y].iloc[-1]))
    return ends


def interval_of(rows: pd.DataFrame, metric: str) -> tuple[pd.Series, pd.Series]:
    """Return the ends of each mean's interval, within what the metric can be: shares 0 to 100 %, times from 0.

    A bound that a mean itself passes is none (an error measure can be negative).
    """
    mean, half = rows[metric], rows[f"{metric}_half_width"]
    low, high = mean - half, mean + half
    found = find_column(metric)
    unit = found.unit if found else unit_of_name(metric)
    if unit and bool((mean.dropna() >= 0).all()):
        low = low.clip(lower=0)
    if unit == "%" and bool((mean.dropna() <= 100).all()):
        high = high.clip(upper=100)
    return low, high


def numeric_axis(axes: Axes, which: str, column: str, values: Iterable[float]) -> None:
    """Label an axis and scale it: logarithmic where positive values span a factor of eight or more.

    Ticks stand at the values themselves where these are few. Names too long for a panel are broken in two.
    """
    import textwrap

    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    label = axis_label(column)
    getattr(axes, f"set_{which}label")(textwrap.fill(label, 24) if which == "y" and len(label) > 36 else label)
    points = sorted({float(value) for value in values})
    if not points:
        return
    if points[0] > 0 and points[-1] / points[0] >= 8:
        getattr(axes, f"set_{which}scale")("log")
        axis.set_minor_locator(NullLocator())
    if len(points) <= 14:
        axis.set_major_locator(FixedLocator(_apart(points, axis.get_scale() == "log")))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: short_tick(value)))
    elif axis.get_scale() == "log":
        log_axis(axes, which)


def _apart(points: list[float], is_log: bool) -> list[float]:
    """Return the points without those that stand too close to the one before for two numbers to be read."""
    import math

    places = [math.log(point) for point in points] if is_log else points
    least = 0.05 * (places[-1] - places[0])
    kept = [0]
    for index in range(1, len(points)):
        if places[index] - places[kept[-1]] >= least:
            kept.append(index)
    return [points[index] for index in kept]


def log_axis(axes: Axes, which: str = "y") -> None:
    """Make an axis logarithmic with plain numbers at 1, 2, 5, 10, ..., or at 1, 10, 100 where it spans much.

    Call it when everything is drawn.
    """
    import math

    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    getattr(axes, f"set_{which}scale")("log")
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    widest = 2.5 if which == "x" else 4.0  # in decades; numbers stand beside each other on one axis, above on the other
    steps = (1.0, 2.0, 5.0) if math.log10(high / low) < widest else (1.0,)
    axis.set_major_locator(LogLocator(subs=steps, numticks=30))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_tick(value)))


def short_tick(value: float) -> str:
    """Return the text of a tick: 8, 1M, 0.05."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= 10 * unit or (value >= unit and value % unit == 0):
            return f"{value / unit:g}{letter}"
    return number(value)


def share_labels(axes: Sequence[Axes]) -> None:
    """Write the label and numbers of a shared vertical axis only at the left of each row of panels."""
    for panel in axes:
        place = panel.get_subplotspec()
        if place is not None and not place.is_first_col():
            panel.set_ylabel("")
            panel.tick_params(axis="y", labelleft=False)


def from_zero(axes: Axes, which: str = "y", top: float | None = None) -> None:
    """Let an axis begin at zero, and end at `top` if given."""
    if which == "y":
        axes.set_ylim(0, top if top is not None else max(axes.get_ylim()[1], 1e-9))
    else:
        axes.set_xlim(0, top if top is not None else max(axes.get_xlim()[1], 1e-9))


def legend_outside(
    figure: Figure,
    columns: Sequence[str],
    looks: dict[tuple[Any, ...], Look],
    names: dict[tuple[Any, ...], str] | None = None,
) -> None:
    """Put the legend of settings and their looks to the right of everything, where it hides nothing.

    `names` replaces what a setting is called.
    """
    from matplotlib.lines import Line2D

    called = names or {key: setting_label(columns, key) for key in looks}
    handles = [Line2D([], [], **look.line, label=called[key]) for key, look in looks.items() if key]
    place_legend(figure, handles)


def place_legend(figure: Figure, handles: list[Any]) -> None:
    """Put a legend beside the panels, or above them where the page is narrow; the figure grows where it needs room."""
    if not handles:
        return
    page = current_page()
    width, height = figure.get_size_inches()
    longest = max(len(str(handle.get_label())) for handle in handles)
    beside = 0.75 + 0.075 * longest
    columns = max(1, *(_columns_of(axes) for axes in figure.axes)) if figure.axes else 1
    if page.width_inches is None:  # room for the panels beside a long legend
        width = max(width, beside + 2.6 * columns)
        figure.set_size_inches(width, height)
    if not page.is_narrow and beside < 0.45 * width:
        figure.legend(handles=handles, loc="outside right upper", alignment="left", handlelength=3.2)
        needed = 0.3 + 0.17 * len(handles)
        if needed > height and page.height_inches is None:
            figure.set_size_inches(width, needed)
        return
    columns = max(1, min(len(handles), int(width / (0.62 + 0.068 * longest))))
    size, row, handle = 7.0, 0.15, 2.6
    if len(handles) > MOST_LEGEND_ROWS * columns:  # else it takes more of a page than the panels do
        size, row, handle = 5.5, 0.12, 2.2
        columns = max(columns, min(len(handles), int(width / (0.28 + 0.038 * longest))))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, fontsize=size, handlelength=handle,
                  columnspacing=1.0, borderaxespad=0.1)  # fmt: skip
    if page.height_inches is None:
        figure.set_size_inches(width, height + row * -(-len(handles) // columns))


def _columns_of(axes: Axes) -> int:
    grid = axes.get_gridspec() if axes.get_subplotspec() else None
    return int(grid.ncols) if grid is not None else 1


def name_rows(axes: Sequence[Axes], names: Sequence[str]) -> None:
    """Write the names of rows at the left of each row of panels, over two lines where the page is narrow."""
    narrow = current_page().is_narrow
    shown = [_over_lines(name) for name in names] if narrow else list(names)
    size: dict[str, Any] = {"fontsize": 5.5} if narrow else {}
    figure = axes[0].get_figure(root=True)
    tallest = max(name.count("\n") + 1 for name in shown)
    if figure is not None and narrow and tallest > 1 and current_page().height_inches is None:
        width, height = figure.get_size_inches()
        rows = -(-len(axes) // _columns_of(axes[0]))
        figure.set_size_inches(width, max(height, rows * row_height(names)))
    for panel in axes:
        place = panel.get_subplotspec()
        first = place is None or place.is_first_col()
        if first:  # the others share this axis, and its names
            panel.set_yticks(range(len(names)), shown, **size)
        panel.tick_params(axis="y", labelleft=first)
        panel.set_ylim(-0.6, len(names) - 0.4)


def _over_lines(name: str) -> str:
    """Break a name behind its commas, and within a part only where it is longer than a line."""
    import textwrap

    lines = [""]
    for part in name.split(", "):
        joined = f"{lines[-1]}, {part}" if lines[-1] else part
        if len(joined) <= ROW_NAME_CHARACTERS or not lines[-1]:
            lines[-1] = joined
        else:
            lines[-1] += ","
            lines.append(part)
    return "\n".join(textwrap.fill(line, ROW_NAME_CHARACTERS) for line in lines)


def row_height(names: Sequence[str]) -> float:
    """Return how high a panel of named rows is on a narrow page, inches."""
    return 0.8 + 0.105 * max(_over_lines(name).count("\n") + 1 for name in names) * len(names)


def name_lines(
    figure: Figure,
    axes: Sequence[Axes],
    columns: Sequence[str],
    looks: dict[tuple[Any, ...], Look],
    ends: dict[tuple[Any, ...], tuple[float, float]],
    most: int = 9,
) -> None:
    """Say which line is which: at the lines' ends where there is one panel and at most `most`, else in a legend."""
    if not columns:
        return
    if len(axes) > 1 or len(ends) > most or current_page().is_narrow:
        legend_outside(figure, columns, looks)
        return
    names = {key: setting_label(columns, key) for key in ends}
    label_line_ends(
        axes[0], {names[key]: end for key, end in ends.items()}, {names[key]: looks[key].color for key in ends}
    )


def footnote(figure: Figure, *notes: str) -> None:
    """Write notes under the figure, small and grey; empty ones are left out."""
    import textwrap

    if not current_page().footnotes:
        return
    room = int(figure.get_size_inches()[0] / INCHES_PER_LETTER)
    lines = [line for note in notes if note for line in textwrap.wrap(note, room, subsequent_indent="  ")]
    if lines:
        figure.supxlabel("\n".join(lines), fontsize=7, color=GREY, x=0.01, horizontalalignment="left")


def usual_notes(table: pd.DataFrame) -> list[str]:
    """Return the notes that the rows call for: what a band is, what a hollow marker is."""
    notes = []
    widths = [name for name in table.columns if name.endswith("_half_width")]
    if widths and table[widths].notna().any(axis=None):
        notes.append(f"{BAND} ({int(table['runs'].min())} or more)")
        notes.append(PAIRED)
    if bool(table["growing"].any()):
        notes.append(GROWING)
    return notes
