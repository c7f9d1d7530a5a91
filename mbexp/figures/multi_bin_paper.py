"""Figures of P1 (Guldogan et al., arXiv 2412.04504): simulated points and the exact curve through them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from mbexp.figures.aggregate import first_row, means, settings, swept
from mbexp.figures.exact import KEYS, exact_batch, latency_without_queue_s
from mbexp.figures.labels import label_line_ends, setting_label
from mbexp.figures.lines import footnote, from_zero, log_axis, looks_of, numeric_axis
from mbexp.figures.registry import figure
from mbexp.figures.style import BLACK, GREY, Look, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RATE = "workload.arrivals.rate_per_s"
ERROR = "predictor.error_probability"
THROUGHPUT = "throughput_requests_per_s"
Looks = dict[tuple[Any, ...], Look]
BACKLOG = (
    "the saturated points lie a little below the line: requests of the warm-up are left out of their number, but the "
    "time to serve those of them that still waited is not"
)
LINE_AND_POINTS = "line: exact; points: simulated"


@figure(
    "Saturated throughput against K (P1, Fig. 3)",
    needs=(*KEYS, THROUGHPUT),
    varies=("k_bins",),
    studies=("multi_bin_throughput",),
)
def multi_bin_throughput(frame: pd.DataFrame) -> Figure:
    """Throughput of always busy GPUs over the number of bins: simulated points on the exact line B / E[t, k].

    The dashed line is the limit of many bins, where no slot waits for a longer request.
    """
    series = swept(frame, leave_out=["k_bins"])

    def limits(axes: Axes, looks: Looks) -> None:
        for key, rows in settings(frame, series):
            limit = exact_batch(first_row(rows)).limit_per_s
            axes.axhline(limit, color=looks[key].color, linewidth=1, linestyle=(0, (4, 2)))

    picture = points_and_curves(
        frame, "k_bins", THROUGHPUT, series, lambda row, k: exact_batch(row, k_bins=k).capacity_per_s, limits
    )
    footnote(picture, f"{LINE_AND_POINTS}; dashed: no padding at all", interval_note(frame, ["k_bins", *series]))
    return picture


@figure(
    "Latency against arrival rate (P1, Fig. 4)",
    needs=(*KEYS, RATE, "latency_mean_s"),
    varies=(RATE,),
    studies=("multi_bin_latency",),
)
def multi_bin_latency(frame: pd.DataFrame) -> Figure:
    """Mean latency over the arrival rate: points on the exact line E[t, k] + (B - 1) k / (2 lambda) where GPUs abound.

    With more bins, batches take longer to fill. Few bins therefore win at low rates. With few GPUs, a line would end at
    the dotted capacity.
    """
    series = swept(frame, leave_out=[RATE])

    def exact(row: Any, rate: float) -> float:
        return latency_without_queue_s(exact_batch(row), int(row["k_bins"]), rate)

    capacities = {key: exact_batch(first_row(rows)).capacity_per_s for key, rows in settings(frame, series)}
    reached = {key: value for key, value in capacities.items() if value <= 1.05 * frame[RATE].max()}

    def ends(axes: Axes, looks: Looks) -> None:
        for key, value in reached.items():
            axes.axvline(value, color=looks[key].color, linewidth=1, linestyle=(0, (1, 1.2)))

    picture = points_and_curves(frame, RATE, "latency_mean_s", series, exact, ends)
    footnote(
        picture,
        f"{LINE_AND_POINTS}; the line counts no wait for a GPU",
        "dotted: capacity" if reached else "",
        interval_note(frame, [RATE, *series]),
    )
    return picture


@figure(
    "K on 8 servers (P1, Fig. 6)",
    needs=(*KEYS, RATE, "latency_mean_s", THROUGHPUT, "warm_up.share_pct"),
    varies=("k_bins", RATE),
    studies=("multi_bin_servers",),
)
def multi_bin_servers(frame: pd.DataFrame) -> Figure:
    """Mean latency over the arrival rate for each K, up to its exact capacity (dotted), and capacity over K.

    Each K is best at some rate. Few bins are best at low rates, where batches take long to fill. Many bins are best at
    rates that only many bins can carry.
    """
    table = means(frame, ["k_bins", RATE], ["latency_mean_s", THROUGHPUT])
    looks = looks_of(table, ["k_bins"])
    picture, (left, right) = panels(2, width=4.0, height=3.2)
    configs = {int(k): first_row(rows) for (k,), rows in settings(frame, ["k_bins"])}
    capacity = {k: exact_batch(row).capacity_per_s for k, row in configs.items()}
    for key, rows in settings(table, ["k_bins"]):
        stable = rows[rows[RATE] < capacity[int(key[0])]]
        draw_points(left, stable, RATE, "latency_mean_s", looks[key], line=True)
        left.axvline(capacity[int(key[0])], color=looks[key].color, linewidth=1, linestyle=(0, (1, 1.2)))
    numeric_axis(left, "x", RATE, [])
    numeric_axis(left, "y", "latency_mean_s", [])
    log_axis(left)
    _legend_below(left, [(looks[(k,)], f"K = {k}") for k in capacity])
    ks = whole_numbers(capacity)
    first = next(iter(configs.values()))
    right.plot(ks, [exact_batch(first, k_bins=k).capacity_per_s for k in ks], color=BLACK, linewidth=1.2)
    for key, rows in settings(table, ["k_bins"]):
        beyond = rows[rows[RATE] >= capacity[int(key[0])]]
        if len(beyond):
            top = beyond.sort_values(RATE).iloc[[-1]].assign(k_bins=int(key[0]))
            draw_points(right, top, "k_bins", THROUGHPUT, looks[key])
    right.axhline(exact_batch(first).limit_per_s, color=GREY, linewidth=1, linestyle=(0, (4, 2)))
    numeric_axis(right, "x", "k_bins", list(capacity))
    right.set_ylabel("Capacity (requests/s)")
    from_zero(right)
    footnote(
        picture,
        "dotted, and the line on the right: exact capacity; points: simulated, on the right at the highest rate",
        "dashed: no padding at all",
        BACKLOG if float(frame["warm_up.share_pct"].max()) > 0 else "",
        interval_note(frame, ["k_bins", RATE]),
    )
    return picture


@figure(
    "Throughput against prediction error (P1, Fig. 8)",
    needs=(*KEYS, THROUGHPUT),
    varies=(ERROR,),
    studies=("multi_bin_prediction_error",),
)
def multi_bin_prediction_error(frame: pd.DataFrame) -> Figure:
    """Saturated throughput over the chance p of each neighbouring bin being predicted, with the exact line.

    Large batches forgive few errors: one member from the bin above makes the whole batch wait.
    """
    series = swept(frame, leave_out=[ERROR])
    picture = points_and_curves(
        frame, ERROR, THROUGHPUT, series, lambda row, p: exact_batch(row, error_probability=p).capacity_per_s
    )
    footnote(picture, LINE_AND_POINTS, interval_note(frame, [ERROR, *series]))
    return picture


@figure(
    "Exponential lengths (P1, Fig. 9)",
    needs=(*KEYS, THROUGHPUT),
    varies=("k_bins",),
    studies=("multi_bin_exponential",),
)
def multi_bin_exponential(frame: pd.DataFrame) -> Figure:
    """Saturated throughput over K for exponential lengths: P1's edges for them against bins of equal mass, both exact.

    The dashed line is P1's lower bound for its edges.
    """
    from mbexp.theory.multi_bin import exponential_throughput_bound

    series = [name for name in swept(frame, leave_out=["k_bins"]) if name != "bins"]
    series = ["bins.kind", *[name for name in series if name != "bins.kind"]]
    ks = whole_numbers(frame["k_bins"])

    def bounds(axes: Axes, looks: Looks) -> None:
        for key, rows in settings(frame, series):
            row = first_row(rows)
            if row["bins.kind"] == "exponential":
                one = exact_batch(row, k_bins=1)
                bound = [one.num_gpus * exponential_throughput_bound(one.shortest_s, k, one.batch_size) for k in ks]
                axes.plot(ks, bound, color=looks[key].color, linewidth=1, linestyle=(0, (4, 2)))

    picture = points_and_curves(
        frame, "k_bins", THROUGHPUT, series, lambda row, k: exact_batch(row, k_bins=k).capacity_per_s, bounds
    )
    footnote(picture, f"{LINE_AND_POINTS}; dashed: P1's lower bound", interval_note(frame, ["k_bins", *series]))
    return picture


def points_and_curves(
    frame: pd.DataFrame,
    x: str,
    y: str,
    series: list[str],
    exact: Callable[[Any, Any], float],
    also: Callable[[Axes, Looks], None] | None = None,
) -> Figure:
    """Draw simulated points with intervals, and `exact(row, x)` through them, for each setting of `series`.

    `also` draws what else belongs into the axes, before their limits are set.
    """
    table = means(frame, [*series, x], [y])
    looks = looks_of(table, series)
    picture, (axes,) = panels(1, extra_width=0.8 if series else 0.0)
    ends, colors = {}, {}
    for key, rows in settings(table, series):
        first = first_row(frame[_in_setting(frame, series, key)])
        at = whole_numbers(rows[x]) if x == "k_bins" else between(rows[x])
        values = [exact(first, place) for place in at]
        axes.plot(at, values, **looks[key].plain, linewidth=1.3)
        draw_points(axes, rows, x, y, looks[key])
        name = setting_label(series, key)
        ends[name], colors[name] = (float(at[-1]), values[-1]), looks[key].color
    if also:
        also(axes, looks)
    numeric_axis(axes, "x", x, table[x])
    numeric_axis(axes, "y", y, [])
    from_zero(axes)
    if series:
        label_line_ends(axes, ends, colors)
    return picture


def draw_points(axes: Axes, rows: pd.DataFrame, x: str, y: str, look: Look, line: bool = False) -> None:
    """Draw means with their intervals."""
    half = rows[f"{y}_half_width"]
    axes.errorbar(
        rows[x],
        rows[y],
        yerr=half if half.notna().any() else None,
        **{**look.points, "linestyle": look.dash if line else "none"},
        elinewidth=1.0,
        capsize=2.5,
    )


def whole_numbers(values: Iterable[float]) -> list[int]:
    """Return every whole number between the least and the greatest of `values`."""
    whole = sorted({int(value) for value in values})
    return list(range(whole[0], whole[-1] + 1))


def between(values: Iterable[float], count: int = 81) -> list[float]:
    """Return places between the least and the greatest of `values`, close enough for a smooth line."""
    import numpy as np

    points = sorted({float(value) for value in values})
    even = np.linspace(points[0], points[-1], count)
    # throughput falls steeply near an error of zero
    near = points[0] + (points[-1] - points[0]) * np.geomspace(1e-4, 1, 25)
    return [float(place) for place in sorted({*even, *near})]


def interval_note(frame: pd.DataFrame, by: list[str]) -> str:
    """Return what the bars are, or an empty string where there is one run a setting."""
    runs = int(frame.groupby(by, dropna=False).size().min())
    return f"bars: 95 % confidence interval over {runs} seeds or more" if runs > 1 else ""


def _in_setting(frame: pd.DataFrame, columns: list[str], key: tuple[Any, ...]) -> Any:
    import numpy as np

    chosen = np.ones(len(frame), bool)
    for column, value in zip(columns, key, strict=True):
        chosen &= (frame[column] == value).to_numpy()
    return chosen


def _legend_below(axes: Axes, entries: list[tuple[Look, str]]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.transforms import ScaledTranslation

    under = axes.transAxes + ScaledTranslation(0, -0.42, axes.figure.dpi_scale_trans)
    handles = [Line2D([], [], **look.line, label=text) for look, text in entries]
    axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=under, ncols=3, handlelength=2.6
    )
