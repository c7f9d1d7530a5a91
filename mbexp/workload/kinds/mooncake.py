"""Mooncake traces, one JSON object a line (github.com/kvcache-ai/Mooncake, FAST '25)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from mbexp.config import MAX_TOKENS, WorkloadConfig
from mbexp.errors import UserError, nearest
from mbexp.workload.rows import Rows
from mbexp.workload.text_file import LINE_BYTES, BadRowsError, first_lines, parse_in_pieces, shown

DEFAULT_FILE = "mooncake_conversation_trace.jsonl"
CLOCK_RESOLUTION_S = 0.0  # arrivals come in batches every 3 s: spread_ties_s=3.0 spreads them, if that is wanted
VERSION = 1

_FIELDS = ("timestamp", "input_length", "output_length")
_BOM = b"\xef\xbb\xbf"


def read(path: Path, workload: WorkloadConfig) -> Rows:
    """Read a Mooncake file; ``hash_ids`` (blocks of a shared prefix) are left out, and a note says so."""
    head = first_lines(path, 1)
    if not head:
        raise UserError(f"{path}: is empty")
    start = len(_BOM) if head[0].startswith(_BOM) else 0
    pieces = list(parse_in_pieces(path, start, 0, _parse, _explain))
    columns = [np.concatenate(parts) for parts in zip(*pieces, strict=True)] if pieces else [np.empty(0)] * 3
    return Rows(
        arrival_s=columns[0] / 1000.0,
        prompt_tokens=columns[1].astype(np.int32),
        output_tokens=columns[2].astype(np.int32),
        source="Mooncake format",
        notes=("shared prefixes (hash_ids) are left out: every prompt is taken in full",)
        if b"hash_ids" in head[0]
        else (),
    )


def _parse(piece: memoryview) -> tuple[Any, Any, Any]:
    import pyarrow as pa
    import pyarrow.json as pa_json

    schema = pa.schema([(name, pa.float64()) for name in _FIELDS])
    try:
        table = pa_json.read_json(
            pa.BufferReader(pa.py_buffer(piece)),
            read_options=pa_json.ReadOptions(block_size=LINE_BYTES),
            parse_options=pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except pa.ArrowException as error:
        raise BadRowsError(str(error).splitlines()[0] if str(error) else type(error).__name__) from None
    columns = [table.column(name) for name in _FIELDS]
    if any(column.null_count for column in columns):
        raise BadRowsError("a value is missing")
    time, prompt, output = (column.to_numpy() for column in columns)
    if len(time) and not (time.min() >= 0 and time.max() < math.inf):
        raise BadRowsError("'timestamp' is not a finite number, 0 or more")
    for name, values in (("input_length", prompt), ("output_length", output)):
        if len(values) and not (
            values.min() >= 0 and values.max() <= MAX_TOKENS and np.all(values == np.floor(values))
        ):
            raise BadRowsError(f"'{name}' is not a whole number from 0 to {MAX_TOKENS}")
    return time, prompt.astype(np.int32), output.astype(np.int32)


def _explain(line: bytes) -> str | None:
    try:
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return "is not UTF-8 text"
    except (ValueError, RecursionError):
        return f"is not a JSON object ({shown(line.decode('utf-8', 'replace'))})"
    if not isinstance(record, dict):
        return f"is not a JSON object ({shown(line.decode('utf-8', 'replace'))})"
    for name in _FIELDS:
        if name not in record:
            return f"has no '{name}'{nearest(name, record)}"
        value = record[name]
        whole = name != "timestamp"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"'{name}' is {shown(json.dumps(value))}, not {'a whole number' if whole else 'a number'}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"'{name}' is {shown(json.dumps(value))}, not {'a whole number' if whole else 'a finite number'}"
        if whole and value != int(value):
            return f"'{name}' is {shown(json.dumps(value))}, not a whole number"
        if value < 0:
            return f"'{name}' is {shown(json.dumps(value))}, below 0"
        if whole and value > MAX_TOKENS:
            return f"'{name}' is {shown(json.dumps(value))}, above {MAX_TOKENS}"
    return None
