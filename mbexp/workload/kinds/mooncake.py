"""Mooncake traces, one JSON object a line (github.com/kvcache-ai/Mooncake, FAST '25)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mbexp.config.workload_keys import WorkloadConfig
from mbexp.workload.hashes import read_hashes
from mbexp.workload.kinds._columns import read_rows
from mbexp.workload.rows import Rows
from mbexp.workload.table_file import Column

DEFAULT_FILE = "mooncake_conversation_trace.jsonl"
CLOCK_RESOLUTION_S = 0.0  # arrivals come in batches every 3 s: spread_ties_s=3.0 spreads them, if that is wanted
VERSION = 3
BLOCK_TOKENS = 512  # of a hash_id

_COLUMNS = (Column("timestamp", "number"), Column("input_length", "tokens"), Column("output_length", "tokens"))
_UNIT_S = 0.001  # other files of this form have seconds: see `mbexp.workload.clock`


def read(path: Path, workload: WorkloadConfig) -> Rows:
    """Read a Mooncake file with its ``hash_ids``, the blocks of each prompt."""
    rows, table = read_rows(path, workload, _COLUMNS, "Mooncake format", unit_s=_UNIT_S)
    if "hash_ids" not in table.names:
        return rows
    hashes = read_hashes(path, "hash_ids", [column.name for column in _COLUMNS], BLOCK_TOKENS)
    return dataclasses.replace(rows, hashes=hashes)
