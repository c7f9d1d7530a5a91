"""The tables of a report: best configurations, verdicts and results, as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mbexp.figures.aggregate import means, swept
from mbexp.figures.labels import axis_label
from mbexp.figures.study import StoredStudy
from mbexp.results.catalogue.metric import HALF_WIDTH
from mbexp.sweep.text import short_number

if TYPE_CHECKING:
    import pandas as pd

HEADLINES = (
    "request_sla_violation_pct",
    "latency_mean_s",
    "latency_p95_s",
    "throughput_requests_per_s",
    "goodput_requests_per_s",
    "gpu_utilization_pct",
    "padding_waste_pct",
)
MOST_ROWS = 300


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes
    ----------
    title, note : str
    header : list of str
    rows : list of list of str
    numeric : list of bool
        Columns of numbers, set to the right.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    numeric: list[bool]
    note: str = ""


def best_table(study: StoredStudy) -> Table | None:
    """Return the best configuration of each load."""
    best = study.table("best")
    if best is None:
        return None
    halves = {name.removesuffix(HALF_WIDTH): name for name in best.columns if name.endswith(HALF_WIDTH)}
    shown = best.drop(columns=["run", "target_pct", "targets", "runs", "meets_target"], errors="ignore")
    for metric, half in halves.items():
        if shown[half].notna().any():
            pairs = zip(shown[metric], shown[half], strict=True)
            shown[metric] = [cell(mean) + (f" ± {width:.2g}" if width == width else "") for mean, width in pairs]
    return as_table(
        shown.drop(columns=list(halves.values())),
        "Best configuration of each load",
        "The fewest GPUs whose 95 % intervals meet every target, with the K and the side of a comparison that do "
        "best. A choice from many reads better than it is: run it with other seeds.",
    )


def verdict_table(study: StoredStudy) -> Table | None:
    """Return the verdicts of paired comparisons."""
    told = study.table("verdicts")
    if told is None:
        return None
    kept = [name for name in told.columns if name in swept(study.results) and told[name].nunique() > 1]
    corrected = [name for name in ("p_value_corrected",) if name in told]
    shown = told[[*kept, "metric", "verdict", "seeds", *corrected]]
    shown = shown.assign(metric=[axis_label(name) for name in told["metric"]])
    note = (
        f"From differences seed by seed, on the same requests. All {len(told):,} are decided together (Holm): at "
        "most 1 table in 20 holds a wrong verdict."
    )
    return as_table(shown.head(MOST_ROWS), "Verdicts", note + _left_out(len(shown), "verdicts.csv"))


def results_table(study: StoredStudy) -> Table:
    """Return the headline metrics of each setting, with their half widths where there are several seeds."""
    frame = study.results
    asked = [name for name in study.info.get("swept", []) if name in swept(frame)]
    keys = [*asked, *[name for name in swept(frame) if name not in asked]]
    metrics = [name for name in HEADLINES if name in frame.columns]
    table = in_order_of(frame, means(frame, keys, metrics), keys)
    rows = []
    for row in table.head(MOST_ROWS).to_dict("records"):
        cells = [cell(row[key]) for key in keys]
        for metric in metrics:
            half = row[f"{metric}_half_width"]
            cells.append(cell(row[metric]) + (f" ± {half:.2g}" if half == half else ""))
        cells.append("yes" if row["growing"] else "")
        rows.append(cells)
    text = [not _is_number(frame[key]) for key in keys]
    note = "Means over seeds ± half width of the 95 % confidence interval." if table["runs"].max() > 1 else ""
    note += " Every metric of every run: results.csv." if not study.is_single_run else ""
    return Table(
        "Results",
        [*[axis_label(key) for key in keys], *[axis_label(metric) for metric in metrics], "Queue grows"],
        rows,
        [*[not is_text for is_text in text], *[True] * len(metrics), False],
        (note + _left_out(len(table), "results.csv")).strip(),
    )


def in_order_of(frame: pd.DataFrame, table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return the rows of `table` in the order in which `frame` first has their settings: as they were asked for."""
    if not keys:
        return table
    first = {tuple(row): place for place, row in reversed([*enumerate(frame[keys].itertuples(index=False, name=None))])}
    places = [first.get(tuple(row), len(frame)) for row in table[keys].itertuples(index=False, name=None)]
    return table.assign(_place=places).sort_values("_place", kind="stable").drop(columns="_place")


def as_table(frame: pd.DataFrame, title: str, note: str = "") -> Table:
    """Return a frame as a table of text."""
    numeric = [_is_number(frame[name]) for name in frame.columns]
    rows = [[cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    return Table(title, [axis_label(str(name)) for name in frame.columns], rows, numeric, note)


def _left_out(count: int, file: str) -> str:
    return f" The first {MOST_ROWS} of {count:,} rows; all are in {file}." if count > MOST_ROWS else ""


def _is_number(column: pd.Series) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_numeric_dtype(column)) and not pd.api.types.is_bool_dtype(column)


def is_true(value: Any) -> bool:
    """Return whether a value of a stored table means yes."""
    return str(value).lower() == "true"


def cell(value: Any) -> str:
    """Return a value as a cell of a table."""
    if value is None or value != value:
        return "-"
    if isinstance(value, bool) or str(value) in ("True", "False"):
        return "yes" if is_true(value) else "no"
    if isinstance(value, str):
        return value
    return short_number(float(value))
