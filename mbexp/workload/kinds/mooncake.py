"""Mooncake traces, one JSON object a line (github.com/kvcache-ai/Mooncake, FAST '25)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mbexp.config.workload_keys import WorkloadConfig
from mbexp.workload.kinds._columns import read_rows
from mbexp.workload.rows import Rows
from mbexp.workload.table_file import Column

DEFAULT_FILE = "mooncake_conversation_trace.jsonl"
CLOCK_RESOLUTION_S = 0.0  # arrivals come in batches every 3 s: spread_ties_s=3.0 spreads them, if that is wanted
VERSION = 1

_COLUMNS = (Column("timestamp", "number"), Column("input_length", "tokens"), Column("output_length", "tokens"))
_UNIT_S = 0.001  # other files of this form have seconds: see `mbexp.workload.clock`


def read(path: Path, workload: WorkloadConfig) -> Rows:
    """Read a Mooncake file; ``hash_ids`` (blocks of a shared prefix) are left out, and a note says so."""
    rows, table = read_rows(path, workload, _COLUMNS, "Mooncake format", unit_s=_UNIT_S)
    left_out = "shared prefixes (hash_ids) are left out: every prompt is taken in full"
    return dataclasses.replace(rows, notes=(*rows.notes, *((left_out,) if "hash_ids" in table.names else ())))
