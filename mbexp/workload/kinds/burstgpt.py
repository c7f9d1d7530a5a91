"""BurstGPT files 1, 2 and 3 (github.com/HPMLL/BurstGPT; arXiv 2401.17644)."""

from __future__ import annotations

from pathlib import Path

from mbexp.config.keys import WorkloadConfig
from mbexp.workload.csv_file import Column, read_csv
from mbexp.workload.rows import Rows

DEFAULT_FILE = "BurstGPT_1.csv"
CLOCK_RESOLUTION_S = 1.0  # times are whole seconds
VERSION = 1

_COLUMNS = (
    Column("Timestamp", "number"),
    Column("Request tokens", "tokens"),
    Column("Response tokens", "tokens"),
    Column("Model", "text", optional=True),
    Column("Log Type", "text", optional=True),
    Column("Session ID", "text", optional=True),  # file 3 only, blank on API rows
)


def read(path: Path, workload: WorkloadConfig) -> Rows:
    """Read a BurstGPT file; a row without response tokens is a failed request."""
    columns, texts = read_csv(path, _COLUMNS)
    extra, categories = {}, {}
    for column, name in (("Model", "model"), ("Log Type", "log_type"), ("Session ID", "session")):
        if column in texts:
            extra[name] = texts[column].codes
            if name != "session":  # an opaque identifier: only which rows share it matters
                categories[name] = texts[column].texts
    return Rows(
        arrival_s=columns["Timestamp"],
        prompt_tokens=columns["Request tokens"],
        output_tokens=columns["Response tokens"],
        source="BurstGPT format",
        zero_output="failed",
        extra=extra,
        categories=categories,
    )
