"""Any file of named columns, whose names are in the configuration: CSV, TSV, JSON lines, Parquet; packed or not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mbexp.config.workload_keys import WorkloadConfig
from mbexp.errors import UserError
from mbexp.workload.hashes import read_hashes
from mbexp.workload.kinds._columns import read_rows
from mbexp.workload.rows import Rows
from mbexp.workload.table_file import Column

DEFAULT_FILE = None
CLOCK_RESOLUTION_S = 0.0
VERSION = 2
READS = ("columns",)


def cache_settings(workload: WorkloadConfig) -> tuple[object, ...]:
    """Return what the rows depend on besides the file and what all kinds depend on."""
    columns = workload.columns
    hashes = (columns.hash_ids, columns.hash_block_tokens) if columns.hash_ids else ()
    return columns.arrival, columns.prompt, columns.output, *columns.extra, *hashes


def read(path: Path, workload: WorkloadConfig) -> Rows:
    """Read the named columns; arrivals are numbers of ``time_unit_s`` seconds, or dates and times."""
    names = workload.columns
    wanted = [names.arrival, names.prompt, names.output, *names.extra]
    for name in wanted:
        if wanted.count(name) > 1:
            raise UserError(f"workload.columns: column '{name}' is named {wanted.count(name)} times")
    roles = {"arrival": "time", "prompt": "tokens", "output": "tokens"}
    columns = [Column(getattr(names, name), role, key=f"workload.columns.{name}") for name, role in roles.items()]
    rows = read_rows(path, workload, columns, "CSV trace")[0]
    if names.hash_ids is None:
        return rows
    hashes = read_hashes(path, names.hash_ids, [column.name for column in columns], names.hash_block_tokens)
    return dataclasses.replace(rows, hashes=hashes)
