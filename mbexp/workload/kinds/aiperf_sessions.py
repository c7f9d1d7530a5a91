"""Conversations as AIPerf replays them (``mooncake_trace``): a line a turn, with ``session_id`` and ``delay``.

github.com/ai-dynamo/aiperf, docs/benchmark-modes/trace-replay.md: the first turn of a session comes at its
``timestamp``, each later one ``delay`` after the answer before it, or as long after it as the timestamps are apart.
Both are milliseconds. A turn is sent with all that was said before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mbexp.config.workload_keys import MAX_TOKENS, WorkloadConfig
from mbexp.errors import UserError
from mbexp.workload.clock import refuse_unit
from mbexp.workload.rows import Rows
from mbexp.workload.sources import open_source, shown

DEFAULT_FILE = None
CLOCK_RESOLUTION_S = 0.0
VERSION = 1
KEEPS_COLUMNS = False

_MS = 1e-3


def read(path: Path, workload: WorkloadConfig) -> Rows:
    """Read the turns; one without a time of its own stands at that of the turn before it and its delay.

    A line without a session is a conversation of its own. What ``hash_ids`` name is left out: a conversation says what
    its turns share.
    """
    refuse_unit(workload, "whose times are milliseconds")
    for key, value in (("where", workload.where), ("columns.extra", workload.columns.extra)):
        if value:
            raise UserError(f"workload.{key}={value}: has no effect with workload=aiperf_sessions")
    numbers: dict[Any, int] = {}
    last_s: dict[Any, float] = {}
    rows: list[tuple[float, float, int, int, int]] = []
    for place, record in open_source(path, ["input_length", "output_length"]).cells():
        session = record.get("session_id")
        session = (session is None, place if session is None else str(session))
        at_ms, delay_ms = (_milliseconds(path, place, record, name) for name in ("timestamp", "delay"))
        before_s = last_s.get(session)
        if before_s is None:
            if at_ms is None and last_s:
                raise UserError(f"{path} {place}: the first turn of a session has no 'timestamp'")
            at_s, think_s = (at_ms or 0.0) * _MS, 0.0
        elif delay_ms is not None:
            think_s = delay_ms * _MS
            at_s = before_s + think_s if at_ms is None else at_ms * _MS
        elif at_ms is not None:
            at_s = at_ms * _MS
            think_s = at_s - before_s
        else:
            raise UserError(f"{path} {place}: a later turn has neither 'delay' nor 'timestamp'")
        if before_s is not None and at_s < before_s:
            raise UserError(f"{path} {place}: a turn comes before the one that it follows")
        last_s[session] = at_s
        prompt, output = (_tokens(path, place, record, name) for name in ("input_length", "output_length"))
        rows.append((at_s, think_s, numbers.setdefault(session, len(numbers)), prompt, output))
    columns = np.array(rows, np.float64).reshape(-1, 5).T
    return Rows(
        arrival_s=columns[0],
        prompt_tokens=columns[3].astype(np.int32),
        output_tokens=columns[4].astype(np.int32),
        source="sessions of AIPerf",
        extra={"session": columns[2].astype(np.int64), "think_s": columns[1]},
    )


def _milliseconds(path: Path, place: str, record: Mapping[str, Any], name: str) -> float | None:
    value = record.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < np.inf:
        raise UserError(f"{path} {place}: '{name}' is {shown(value)}, not a number of ms from 0 on")
    return float(value)


def _tokens(path: Path, place: str, record: Mapping[str, Any], name: str) -> int:
    value = record.get(name)
    if value is None:
        return -1  # a prompt given as text: it has no count
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_TOKENS:
        raise UserError(f"{path} {place}: '{name}' is {shown(value)}, not a number of tokens up to {MAX_TOKENS}")
    return value
