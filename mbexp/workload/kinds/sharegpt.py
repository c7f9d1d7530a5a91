"""Conversations of ShareGPT as vLLM's serving benchmark takes them: the first prompt and answer of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mbexp.config.workload_keys import MAX_TOKENS, WorkloadConfig
from mbexp.errors import UserError
from mbexp.workload.clock import refuse_unit
from mbexp.workload.rows import Rows
from mbexp.workload.sources import open_source

DEFAULT_FILE = "ShareGPT_V3_unfiltered_cleaned_split.json"
CLOCK_RESOLUTION_S = 0.0
VERSION = 1

CHARACTERS_PER_TOKEN = 4.0  # of English under byte-pair vocabularies of 32,000 to 150,000 tokens, roughly
SHORTEST_TOKENS, LONGEST_PROMPT_TOKENS, LONGEST_TOKENS = 4, 1024, 2048  # what vLLM's benchmark keeps


def read(path: Path, workload: WorkloadConfig) -> Rows:
    """Read prompts and answers; lengths are estimated from characters, since the file holds texts alone.

    As in vLLM's benchmark, conversations of fewer than two turns are left out. So are requests with fewer than 4 tokens
    either way, with more than 1,024 of prompt, or with more than 2,048 in all. There are no arrivals: all come at once
    unless ``workload.timestamps=generated``.
    """
    refuse_unit(workload, "whose file has no times")
    if workload.where:
        raise UserError(f"workload.where={workload.where}: has no effect with workload=sharegpt, which has no columns")
    lengths: list[tuple[int, int]] = []
    for place, record in open_source(path, ["conversations"]).cells():
        turns = record.get("conversations")
        if not isinstance(turns, list):
            raise UserError(f"{path} {place}: has no list 'conversations'")
        lengths.append((_tokens(path, place, turns[0]), _tokens(path, place, turns[1])) if len(turns) > 1 else (0, 0))
    prompt, output = np.array(lengths, np.int64).reshape(-1, 2).T
    kept = (prompt >= SHORTEST_TOKENS) & (output >= SHORTEST_TOKENS)
    kept &= (prompt <= LONGEST_PROMPT_TOKENS) & (prompt + output <= LONGEST_TOKENS)
    return Rows(
        arrival_s=np.zeros(len(prompt)),
        prompt_tokens=prompt.astype(np.int32),
        output_tokens=output.astype(np.int32),
        source="ShareGPT, lengths estimated from characters",
        notes=(f"lengths are estimated: {CHARACTERS_PER_TOKEN:g} characters of text are taken for a token",),
        asked_for=kept,
    )


def _tokens(path: Path, place: str, turn: Any) -> int:
    text = turn.get("value") if isinstance(turn, dict) else None
    if not isinstance(text, str):
        raise UserError(f"{path} {place}: a turn of 'conversations' has no text 'value'")
    return min(round(len(text) / CHARACTERS_PER_TOKEN), MAX_TOKENS)
