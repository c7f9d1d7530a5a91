"""What a metric is, and the table of all metrics: one row says everything about a metric but how it is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from mbexp.errors import UserError

# The unit that the end of a name stands for; of two ends that fit, the first.
UNITS = {
    "_requests_per_s": "requests/s",
    "_tokens_per_s": "tokens/s",
    "_per_s": "1/s",
    "_tokens": "tokens",
    "_pct": "%",
    "_ms": "ms",
    "_s": "s",
    "_gb": "GB",
}
EVERY_MODE: tuple[str, ...] = ()
SECTION_OF_OWN = "Metrics of your own"
HALF_WIDTH = "_half_width"
OF_CLASS = "@"  # between a metric and the class of requests that it is of


@dataclass(frozen=True)
class Metric:
    """One row of the catalogue.

    Attributes
    ----------
    key : str
        Name in the summary. Where it ends in a unit (`UNITS`), that is the metric's unit.
    unit : str
        Empty for plain numbers and flags.
    label : str
        Short words for axes and tables, without the unit.
    definition : str
        Full sentences for docs/metrics.md, in Markdown; they also say what differs between modes of execution.
    better : {"higher", "lower"} or None
        Direction of verdicts; None where more is neither better nor worse.
    modes : tuple of str
        Modes of execution (`execution.name`) whose runs have the metric; empty for every mode.
    section : str
        Heading of docs/metrics.md under which it stands.
    column : str or None
        Name in tidy tables: the key where nothing is given, None for a metric that stands in no table.

    Raises
    ------
    UserError
        If the unit is not the one that the key ends in.
    """

    key: str
    unit: str
    label: str
    definition: str
    better: Literal["higher", "lower"] | None = None
    modes: tuple[str, ...] = EVERY_MODE
    section: str = "Other metrics"
    column: str | None = ""

    def __post_init__(self) -> None:
        if self.column == "":
            object.__setattr__(self, "column", self.key)
        named = unit_of_name(self.key)
        if named not in ("", self.unit) and not (named == "1/s" and self.unit.endswith("/s")):
            raise UserError(f"metric {self.key}: unit={self.unit}: a name with this ending is in {named}")

    @property
    def axis_label(self) -> str:
        """The label with its unit, unless the label names the unit already."""
        return self.label if self.unit in ("", *self.label.lower().split()) else f"{self.label} ({self.unit})"

    def is_of(self, mode: str) -> bool:
        """Return whether runs of a mode of execution have the metric."""
        return not self.modes or mode in self.modes


_ROWS: dict[str, Metric] = {}
_OWN: set[str] = set()  # keys of the user's


def register(*rows: Metric) -> None:
    """Add rows to the catalogue.

    Raises
    ------
    UserError
        If there is another row of the same key.
    """
    for row in rows:
        if _ROWS.setdefault(row.key, row) != row:
            raise UserError(f"metric {row.key}: the catalogue has another metric of this name; choose another name")


def register_own(row: Metric) -> None:
    """Add a row of the user's, which takes the place of an earlier one of theirs: a notebook cell is run again.

    Raises
    ------
    UserError
        If mbexp has a metric of that key.
    """
    if (row.key in _ROWS and row.key not in _OWN) or row.key.endswith(HALF_WIDTH):
        raise UserError(f"metric {row.key}: mbexp has a metric of this name; choose another name")
    _OWN.add(row.key)
    _ROWS[row.key] = row


def rows() -> Mapping[str, Metric]:
    """Return a view of all rows by key, in the order in which they were added."""
    return MappingProxyType(_ROWS)


def find_column(name: str) -> Metric | None:
    """Return the metric that a column of a tidy table holds, or None if it holds something else.

    The half width of a metric's interval has its metric's unit. A metric that stands in no table is found by its key.
    """
    name, at, one = name.partition(OF_CLASS)
    if at:  # of a class: what is known of the metric over all requests
        one, half, _ = one.partition(HALF_WIDTH)
        found = find_column(name + half)
        return found and dataclasses.replace(found, key=f"{name}@{one}{half}", label=f"{found.label}, {one}")
    by_column = {row.column or row.key: row for row in _ROWS.values()}
    stem = by_column.get(name.removesuffix(HALF_WIDTH))
    if stem is None or name in by_column:
        return by_column.get(name)
    label = f"{stem.label}, half width"
    return dataclasses.replace(
        _ROWS[f"<metric>{HALF_WIDTH}"], key=name, unit=stem.unit, label=label, modes=stem.modes, column=name
    )


def as_columns(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return a summary under the names that its metrics have in tidy tables; a key without a row keeps its name."""
    columns = {}
    for key, value in summary.items():
        stem = key.partition(OF_CLASS)[0].removesuffix(HALF_WIDTH)
        column = _ROWS[stem].column if stem in _ROWS else stem
        if column is not None:
            columns[column + key.removeprefix(stem)] = value
    return columns


def unit_of_name(name: str) -> str:
    """Return the unit that a name ends in, or an empty string."""
    return next((unit for suffix, unit in UNITS.items() if name.endswith(suffix)), "")
