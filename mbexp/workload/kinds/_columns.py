"""What kinds that read files share: named columns become rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mbexp.config.workload_keys import WorkloadConfig
from mbexp.errors import UserError, nearest
from mbexp.workload.clock import in_seconds, refuse_unit
from mbexp.workload.rows import Codes, Rows
from mbexp.workload.sources import open_source
from mbexp.workload.table_file import Column, Table, match_name, read_table
from mbexp.workload.text_column import TextColumn

VERSION = 2  # of what is common to all kinds; raise it when rows of the same file change
# A number that is written in one way only and that 64 bits hold: anything else ('00123', '1e3', '1830000000000000001')
# may be a name.
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?")
_DIGITS = 15


def read_rows(
    path: Path,
    workload: WorkloadConfig,
    columns: Sequence[Column],
    source: str,
    unit_s: float = 1.0,
    zero_output: str = "zero_output_tokens",
) -> tuple[Rows, Table]:
    """Read arrivals, prompts and outputs (the first three of `columns`, in that order) and the others.

    Returns
    -------
    rows : Rows
        Its `extra` holds the columns that ``workload.columns.extra`` names.
    table : Table
        With all that was read.
    """
    wanted = list(columns)
    for name in workload.columns.extra:
        if all(column.name != name for column in wanted):
            wanted.append(Column(name, "text"))
    filters: dict[str, list[str]] = {}
    if workload.where:
        names = open_source(path, [column.name for column in columns]).names
        for asked, texts in workload.where.items():
            name = match_name(asked, names)
            if any(column.name == name and column.role != "text" for column in columns):
                raise UserError(f"workload.where.{asked}: '{name}' is a column of numbers; only texts are compared")
            filters[name] = texts
            if all(column.name != name for column in wanted):
                wanted.append(Column(name, "text"))
    table = read_table(path, wanted)
    time, prompt, output = (column.name for column in columns[:3])
    if not table.numbers:  # a file without a record
        nothing = np.empty(0)
        return Rows(nothing, nothing.astype(np.int32), nothing.astype(np.int32), source), table
    if columns[0].role == "date":
        refuse_unit(workload, "whose times are dates")
    extra, categories = _kept(table, workload.columns.extra)
    arrival_s, notes = in_seconds(table.numbers[time], time in table.dates, workload, unit_s)
    return (
        Rows(
            arrival_s=arrival_s,
            prompt_tokens=table.numbers[prompt],
            output_tokens=table.numbers[output],
            source=source,
            zero_output=zero_output,
            notes=tuple(notes),
            extra=extra,
            categories=categories,
            asked_for=_asked_for(path, table, filters),
        ),
        table,
    )


def _kept(table: Table, names: Sequence[str]) -> tuple[dict[str, Codes], dict[str, tuple[str, ...]]]:
    """Return the further columns that are kept, and the texts behind the codes of those that hold text."""
    extra: dict[str, Codes] = {}
    categories: dict[str, tuple[str, ...]] = {}
    for name in names:
        if name in table.numbers:
            extra[name] = table.numbers[name]
        elif name in table.texts:
            text = table.texts[name]
            numbers = as_numbers(text)
            extra[name] = text.codes if numbers is None else numbers
            if numbers is None:
                categories[name] = text.texts
    return extra, categories


def as_numbers(text: TextColumn) -> Codes | None:
    """Return the column as whole numbers, or as float64 with NaN where blank, if that loses nothing of any text."""
    if not text.texts or not all(
        _NUMBER.fullmatch(each) and sum(map(str.isdigit, each)) <= _DIGITS for each in text.texts
    ):
        return None
    if not any("." in each for each in text.texts) and text.codes.min() >= 0:
        return np.array(text.texts, dtype=np.int64)[text.codes]
    return np.array([*text.texts, "nan"], dtype=np.float64)[text.codes]


def _asked_for(path: Path, table: Table, filters: Mapping[str, Sequence[str]]) -> npt.NDArray[np.bool_] | None:
    """Return which rows have the values asked for; None where none are asked for."""
    kept: npt.NDArray[np.bool_] | None = None
    for name, texts in filters.items():
        column = table.texts[name]
        codes = [-1 if text == "" else column.texts.index(text) for text in texts if text == "" or text in column.texts]
        here = np.isin(column.codes, codes)
        if not here.any():
            some = ", ".join(repr(text) for text in column.texts[:8]) + (", ..." if len(column.texts) > 8 else "")
            close = nearest(texts[0], column.texts)
            raise UserError(f"workload.where.{name}={texts[0]}: no row of {path} has it{close}; it has {some}")
        kept = here if kept is None else kept & here
    return kept
