"""Measured loads of an engine, to which the host's terms are fitted: a table, or what benchmarks write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError
from mbexp.fit.units import check_unit
from mbexp.hardware.grid import read_number, read_rows

FloatArray = npt.NDArray[np.float64]

COLUMNS = ("concurrency", "prompt_tokens", "output_tokens", "tpot_ms")
UNITS_MS = {"ms": 1.0, "us": 1e-3, "ns": 1e-6, "s": 1e3, "sec": 1e3}


@dataclass(frozen=True)
class Loads:
    """Measured loads: `concurrency` users in a closed loop, tokens of each request, and the mean TPOT; shape (n,).

    `ttft_ms`, the mean time to the first token, is NaN where a load does not have it, and None where none has.
    """

    concurrency: FloatArray
    prompt_tokens: FloatArray
    output_tokens: FloatArray
    tpot_ms: FloatArray
    source: str
    ttft_ms: FloatArray | None = None


def read_loads(paths: Sequence[str]) -> Loads:
    """Read loads: CSV files with the columns `COLUMNS` and perhaps ``ttft_ms``, and results of benchmarks.

    A result is the JSON file of ``vllm bench serve --save-result`` with ``--max-concurrency``, or the aggregates of
    genai-perf (``profile_export_genai_perf.json``) or AIPerf (``profile_export_aiperf.json``) at a concurrency.

    Raises
    ------
    UserError
        In one line, naming the file and the column, line or key at fault; or if all loads have one concurrency.
    """
    parts = [_read(Path(path).expanduser()) for path in paths]
    concurrency, prompt, output, tpot_ms = (np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS)
    ttft_ms = np.concatenate([np.full(len(p.tpot_ms), np.nan) if p.ttft_ms is None else p.ttft_ms for p in parts])
    source = ", ".join(part.source for part in parts)
    if len(np.unique(concurrency)) < 2:
        raise UserError(f"{source}: two or more concurrencies are needed to tell a step's host time from a sequence's")
    return Loads(concurrency, prompt, output, tpot_ms, source, ttft_ms if np.isfinite(ttft_ms).any() else None)


def _read(file: Path) -> Loads:
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    loads = _result(file) if file.suffix == ".json" else _table(file)
    check_unit(str(file), "time per token", loads.tpot_ms / 1e3)
    return loads


def _table(file: Path) -> Loads:
    names, rows = read_rows(file)
    for name in COLUMNS:
        if name not in names:
            raise UserError(f"{file}: no column {name}; loads have {', '.join(COLUMNS)}; it has {', '.join(names)}")

    def column(name: str) -> FloatArray:
        return np.array([read_number(file, line, row, name, positive=True) for line, row in enumerate(rows, 2)])

    concurrency, prompt, output, tpot_ms = (column(name) for name in COLUMNS)
    return Loads(concurrency, prompt, output, tpot_ms, file.name, column("ttft_ms") if "ttft_ms" in names else None)


def _result(file: Path) -> Loads:
    """Read one load from the result of a benchmark."""
    try:
        values: Any = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(f"{file}: is no JSON; it must be the result of a benchmark") from None
    if not isinstance(values, dict):
        raise UserError(f"{file}: must hold an object of keys, as the result of a benchmark does")
    if "mean_tpot_ms" in values:
        numbers = _vllm_bench(file, values)
    elif "inter_token_latency" in values:
        numbers = _genai_perf(file, values)
    else:
        raise UserError(
            f"{file}: has neither mean_tpot_ms (vllm bench serve) nor inter_token_latency (genai-perf, AIPerf); per-"
            "request records do not say the concurrency"
        )
    for name, value in zip((*COLUMNS, "ttft_ms"), numbers, strict=True):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e12:
            raise UserError(f"{file}: {name}={value!r}: must be a number above 0")
    concurrency, prompt, output, tpot_ms, ttft_ms = (np.array([float(value)]) for value in numbers)
    return Loads(concurrency, prompt, output, tpot_ms, file.name, ttft_ms)


def _vllm_bench(file: Path, values: dict[str, Any]) -> list[Any]:
    if not values.get("max_concurrency"):
        raise UserError(f"{file}: has no max_concurrency: host terms need closed loops; run it with --max-concurrency")
    done = values.get("completed") or 0
    if not done:
        raise UserError(f"{file}: completed={done}: no request was completed")
    tokens = [values.get(f"total_{name}_tokens", 0) / done for name in ("input", "output")]
    return [values["max_concurrency"], *tokens, values["mean_tpot_ms"], values.get("mean_ttft_ms")]


def _genai_perf(file: Path, values: dict[str, Any]) -> list[Any]:
    concurrency = _find(values.get("input_config"), "concurrency")
    if not concurrency:
        raise UserError(f"{file}: its input_config has no concurrency: host terms need closed loops; run it with one")

    def mean(key: str, in_ms: bool) -> Any:
        entry = values.get(key)
        if not isinstance(entry, dict) or "avg" not in entry:
            raise UserError(f"{file}: has no {key}.avg, which the aggregates of genai-perf have")
        if in_ms and entry.get("unit", "ms") not in UNITS_MS:
            raise UserError(f"{file}: {key}.unit={entry['unit']}: must be one of {', '.join(UNITS_MS)}")
        return entry["avg"] * UNITS_MS[entry.get("unit", "ms")] if in_ms else entry["avg"]

    lengths = [mean(f"{name}_sequence_length", False) for name in ("input", "output")]
    return [concurrency, *lengths, mean("inter_token_latency", True), mean("time_to_first_token", True)]


def _find(values: Any, key: str) -> Any:
    """Return the first value of a key at any depth, None where there is none."""
    if not isinstance(values, dict):
        return None
    if values.get(key) is not None:
        return values[key]
    return next((found for inner in values.values() if (found := _find(inner, key)) is not None), None)
