"""Mooncake traces, one JSON object a line (github.com/kvcache-ai/Mooncake, FAST '25)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from mbexp.config.keys import MAX_TOKENS, WorkloadConfig
from mbexp.errors import UserError, nearest
from mbexp.workload.rows import Rows
from mbexp.workload.text_file import LINE_BYTES, BadRowsError, first_lines, parse_in_pieces, shown
from mbexp.workload.trace import FloatArray

DEFAULT_FILE = "mooncake_conversation_trace.jsonl"
CLOCK_RESOLUTION_S = 0.0  # arrivals come in batches every 3 s: spread_ties_s=3.0 spreads them, if that is wanted
VERSION = 1

_FIELDS = ("timestamp", "input_length", "output_length")
_BOM = b"\xef\xbb\xbf"
_LARGEST = 1e300  # of a time; a NaN is not below it either


def read(path: Path, workload: WorkloadConfig) -> Rows:
    """Read a Mooncake file; ``hash_ids`` (blocks of a shared prefix) are left out, and a note says so."""
    head = first_lines(path, 1)
    if not head:
        raise UserError(f"{path}: is empty")
    start = len(_BOM) if head[0].startswith(_BOM) else 0
    pieces = list(parse_in_pieces(path, start, 0, _parse, _explain))
    time_ms, prompt, output = np.concatenate(pieces, axis=1) if pieces else np.empty((3, 0))
    left_out = "shared prefixes (hash_ids) are left out: every prompt is taken in full"
    return Rows(
        arrival_s=time_ms / 1000.0,
        prompt_tokens=prompt.astype(np.int32),
        output_tokens=output.astype(np.int32),
        source="Mooncake format",
        notes=(left_out,) if b"hash_ids" in head[0] else (),
    )


def _parse(piece: memoryview) -> FloatArray:
    # Python's own parser: pyarrow's crashes the process on some malformed files (found by tests/workload/test_fuzz.py)
    return np.array([_record(line) for line in bytes(piece).splitlines() if line]).T


def _explain(line: bytes) -> str | None:
    try:
        _record(line)
    except BadRowsError as error:
        return str(error)
    return None


def _record(line: bytes) -> tuple[float, float, float]:
    """Return time in milliseconds, prompt and output tokens of one line."""
    if len(line) > LINE_BYTES:
        raise BadRowsError(f"is longer than {LINE_BYTES:,} bytes")
    try:
        record = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise BadRowsError("is not UTF-8 text") from None
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise BadRowsError(f"is not a JSON object ({shown(line.decode('utf-8'))})")
    for name in _FIELDS:
        if name not in record:
            raise BadRowsError(f"has no '{name}'{nearest(name, record)}")
    time_ms, prompt, output = (_number(name, record[name]) for name in _FIELDS)
    return time_ms, prompt, output


def _number(name: str, value: Any) -> float:
    whole = name != "timestamp"
    fault = ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        fault = "not a whole number" if whole else "not a number"
    elif value < 0:
        fault = "below 0"
    elif whole and value > MAX_TOKENS and value < math.inf:
        fault = f"above {MAX_TOKENS}"
    elif not value < _LARGEST:
        fault = "not a whole number" if whole else "not a finite number"
    elif whole and value != int(value):
        fault = "not a whole number"
    if fault:
        raise BadRowsError(f"'{name}' is {shown(json.dumps(value))}, {fault}")
    return float(value)
