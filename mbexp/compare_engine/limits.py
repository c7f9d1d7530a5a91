"""Limits of the engine that a benchmark wrote beside its record: what the engine held back must not be guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def limits_beside(file: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return keys of the configuration, and a sentence that names them, from ``meta.json`` of LLMServingSim's bench.

    The blocks are all that vLLM reports; ``execution.reserved_blocks`` says that one of them is the null block.
    """
    path = file.with_name("meta.json")
    try:
        about: Any = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError):
        return (), (f"{path.name} beside the record cannot be read; the engine's limits are those you give",)
    if not isinstance(about, dict):
        return (), ()
    given, cache = about.get("engine_kwargs") or {}, about.get("kv_cache") or {}
    found = {
        "scheduler.fixed_batch_size": given.get("max_num_seqs"),
        "execution.token_budget": given.get("max_num_batched_tokens"),
        "execution.block_tokens": cache.get("block_size"),
    }
    if cache.get("num_gpu_blocks") and cache.get("block_size"):
        found["gpu.kv_capacity_tokens"] = cache["num_gpu_blocks"] * cache["block_size"]
    overrides = tuple(f"{key}={value}" for key, value in found.items() if isinstance(value, int))
    return overrides, (f"limits from {path.name} beside the record: {', '.join(overrides)}",) if overrides else ()
