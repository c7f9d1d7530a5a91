"""Any CSV file whose columns are named in the configuration."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mbexp.config.keys import WorkloadConfig
from mbexp.errors import UserError
from mbexp.workload.csv_file import Column, read_csv
from mbexp.workload.rows import Codes, Rows
from mbexp.workload.text_column import TextColumn

DEFAULT_FILE = None
CLOCK_RESOLUTION_S = 0.0
VERSION = 1
NAMED_CATEGORIES = 1000  # an extra column of more different texts keeps only which rows are alike


def cache_settings(workload: WorkloadConfig) -> tuple[object, ...]:
    """Return what the rows depend on besides the file."""
    columns = workload.columns
    return columns.arrival, columns.prompt, columns.output, *columns.extra, workload.time_unit_s


def read(path: Path, workload: WorkloadConfig) -> Rows:
    """Read the named columns; arrivals are numbers of ``time_unit_s`` seconds, or dates and times."""
    names = workload.columns
    wanted = [names.arrival, names.prompt, names.output, *names.extra]
    for name in wanted:
        if wanted.count(name) > 1:
            raise UserError(f"workload.columns: column '{name}' is named {wanted.count(name)} times")
    columns, texts = read_csv(
        path,
        [
            Column(names.arrival, "time", unit_s=workload.time_unit_s),
            Column(names.prompt, "tokens"),
            Column(names.output, "tokens"),
            *(Column(name, "text") for name in names.extra),
        ],
    )
    extra: dict[str, Codes] = {}
    categories: dict[str, tuple[str, ...]] = {}
    for name in names.extra:
        text = texts[name]
        numbers = _as_numbers(text)
        if numbers is not None:
            extra[name] = numbers
            continue
        extra[name] = text.codes
        if len(text.texts) <= NAMED_CATEGORIES:
            categories[name] = text.texts
    return Rows(
        arrival_s=columns[names.arrival],
        prompt_tokens=columns[names.prompt],
        output_tokens=columns[names.output],
        source="CSV trace",
        extra=extra,
        categories=categories,
    )


def _as_numbers(text: TextColumn) -> Codes | None:
    """Return the column as float64, NaN where blank, if every text is a number."""
    try:
        values = np.array([*text.texts, "nan"], dtype=np.float64)
    except ValueError:
        return None
    return values[text.codes] if text.texts else None
