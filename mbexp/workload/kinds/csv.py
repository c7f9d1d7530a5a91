"""Any file of named columns, whose names are in the configuration: CSV, TSV, JSON lines, Parquet; packed or not."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np

from mbexp.config.workload_keys import WorkloadConfig
from mbexp.errors import UserError
from mbexp.workload.kinds._columns import read_rows
from mbexp.workload.rows import Codes, Rows
from mbexp.workload.table_file import Column
from mbexp.workload.text_column import TextColumn

DEFAULT_FILE = None
CLOCK_RESOLUTION_S = 0.0
VERSION = 2
# A number that is written in one way only and that 64 bits hold: anything else ('00123', '1e3', '1830000000000000001')
# may be a name.
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?")
_DIGITS = 15


def cache_settings(workload: WorkloadConfig) -> tuple[object, ...]:
    """Return what the rows depend on besides the file and what all kinds depend on."""
    columns = workload.columns
    return columns.arrival, columns.prompt, columns.output, *columns.extra


def read(path: Path, workload: WorkloadConfig) -> Rows:
    """Read the named columns; arrivals are numbers of ``time_unit_s`` seconds, or dates and times."""
    names = workload.columns
    wanted = [names.arrival, names.prompt, names.output, *names.extra]
    for name in wanted:
        if wanted.count(name) > 1:
            raise UserError(f"workload.columns: column '{name}' is named {wanted.count(name)} times")
    columns = [Column(names.arrival, "time"), Column(names.prompt, "tokens"), Column(names.output, "tokens")]
    columns += [Column(name, "text") for name in names.extra]
    rows, table = read_rows(path, workload, columns, "CSV trace")
    extra: dict[str, Codes] = {}
    categories: dict[str, tuple[str, ...]] = {}
    for name in names.extra:
        if name not in table.texts:
            continue
        text = table.texts[name]
        numbers = _as_numbers(text)
        extra[name] = text.codes if numbers is None else numbers
        if numbers is None:
            categories[name] = text.texts
    return dataclasses.replace(rows, extra=extra, categories=categories)


def _as_numbers(text: TextColumn) -> Codes | None:
    """Return the column as whole numbers, or as float64 with NaN where blank, if that loses nothing of any text."""
    if not text.texts or not all(
        _NUMBER.fullmatch(each) and sum(map(str.isdigit, each)) <= _DIGITS for each in text.texts
    ):
        return None
    if not any("." in each for each in text.texts) and text.codes.min() >= 0:
        return np.array(text.texts, dtype=np.int64)[text.codes]
    return np.array([*text.texts, "nan"], dtype=np.float64)[text.codes]
