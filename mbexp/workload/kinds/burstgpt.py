"""BurstGPT files 1, 2 and 3 (github.com/HPMLL/BurstGPT; arXiv 2401.17644)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mbexp.config.workload_keys import WorkloadConfig
from mbexp.workload.kinds._columns import as_numbers, read_rows
from mbexp.workload.rows import Rows
from mbexp.workload.table_file import Column

DEFAULT_FILE = "BurstGPT_1.csv"
CLOCK_RESOLUTION_S = 1.0  # times are whole seconds
VERSION = 2

_COLUMNS = (
    Column("Timestamp", "number"),
    Column("Request tokens", "tokens"),
    Column("Response tokens", "tokens"),
    Column("Model", "text", optional=True),
    Column("Log Type", "text", optional=True),
    Column("Session ID", "text", optional=True),  # file 3 only, blank on API rows
    Column("Elapsed time", "text", optional=True),  # file 3 only: seconds that the answer took
)


def read(path: Path, workload: WorkloadConfig) -> Rows:
    """Read a BurstGPT file; a row without response tokens is a failed request."""
    rows, table = read_rows(path, workload, _COLUMNS, "BurstGPT format", zero_output="failed")
    extra, categories = dict(rows.extra), dict(rows.categories)
    for column, name in (("Model", "model"), ("Log Type", "log_type"), ("Session ID", "session")):
        if column in table.texts:
            extra[name] = table.texts[column].codes
            if name != "session":  # an opaque identifier: only which rows share it matters
                categories[name] = table.texts[column].texts
    if "Elapsed time" in table.texts:
        elapsed_s = as_numbers(table.texts["Elapsed time"])
        if elapsed_s is not None:
            extra["elapsed_s"] = elapsed_s
    return dataclasses.replace(rows, extra=extra, categories=categories)
