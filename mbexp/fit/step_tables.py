"""Tables of steps with named columns and units, and the published tables that are imported by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mbexp.errors import UserError, nearest, unknown_choice
from mbexp.fit.steps import StepPoints
from mbexp.fit.units import check_unit
from mbexp.hardware.grid import read_number, read_rows

UNITS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "us": 1e-6}
TIMES = tuple(f"{name}_{unit}" for name in ("time", "step", "latency", "median") for unit in UNITS)


@dataclass(frozen=True)
class Asked:
    """What a table leaves open: `layers` of the model, and which rows are meant."""

    layers: int | None = None
    model: str | None = None
    hardware: str | None = None
    tensor_parallel: int | None = None


def read_steps(path: str, origin: str | None, asked: Asked) -> StepPoints:
    """Read steps of an engine.

    Parameters
    ----------
    path
        A table of steps, or what `origin` publishes; a leading ``~`` is the home folder.
    origin
        Name in `ORIGINS`; None for a table with the columns below.
    asked
        What the table leaves open.

    Raises
    ------
    UserError
        In one line, naming the file and the column, line and value at fault.
    """
    place = Path(path).expanduser()
    if origin is not None and origin not in ORIGINS:
        raise unknown_choice("--from", origin, ORIGINS)
    if not place.exists():
        raise UserError(f"{path}: no such file or folder")
    points = ORIGINS[origin](place, asked) if origin else _table(place)
    decodes = (points.prompt_tokens == 0) & (points.sequences > 0)
    if decodes.any():
        check_unit(path, "time of a decode step", points.seconds[decodes])
    return _medians(points)


def _table(file: Path) -> StepPoints:
    """Read sequences, context_tokens (of each; or total_context_tokens), prompt_tokens, prefix_tokens and a time."""
    names, rows = read_rows(file)
    timed = next((name for name in TIMES if name in names), None)
    if timed is None:
        raise UserError(f"{file}: no column of a time with its unit, such as time_ms; it has {', '.join(names)}")
    sequences = next((name for name in ("sequences", "batch_size") if name in names), None)
    if sequences is None:
        raise UserError(f"{file}: no column sequences{nearest('sequences', names)}; it has {', '.join(names)}")
    if not {"context_tokens", "total_context_tokens", "prompt_tokens"} & set(names):
        raise UserError(f"{file}: no column context_tokens or prompt_tokens; it has {', '.join(names)}")

    def column(name: str) -> np.ndarray:
        if name not in names:
            return np.zeros(len(rows))
        return np.array([read_number(file, line, row, name, positive=False) for line, row in enumerate(rows, 2)])

    b, prompt, prefix = column(sequences), column("prompt_tokens"), column("prefix_tokens")
    context = column("total_context_tokens") if "total_context_tokens" in names else b * column("context_tokens")
    unit = UNITS[timed.rpartition("_")[2]]
    seconds = unit * np.array([read_number(file, line, row, timed, positive=True) for line, row in enumerate(rows, 2)])
    return StepPoints(b, context, prompt, prompt**2 + 2 * prompt * prefix, seconds, file.name)


def _llmservingsim(folder: Path, asked: Asked) -> StepPoints:
    """Add up the layers of a profile (dense.csv, per_sequence.csv, attention.csv) to whole steps."""
    if asked.layers is None:
        raise UserError(f"{folder}: the profile is of one layer; say how many the model has: --layers 32")
    dense = _by_layer(folder / "dense.csv", "tokens")
    ends = _by_layer(folder / "per_sequence.csv", "sequences")
    file = folder / "attention.csv"
    names = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us")
    chunk, prefix, b, context, attention_us = _columns(file, names)
    used = (chunk > 0) | ((b > 0) & (context > 0))
    chunk, prefix, b, context, attention_us = (column[used] for column in (chunk, prefix, b, context, attention_us))
    tokens = chunk + b
    layer_us = 2 * dense("layernorm", tokens) + attention_us
    for name in ("qkv_proj", "rotary_emb", "o_proj", "gate_up_proj", "act_fn", "down_proj"):
        layer_us = layer_us + dense(name, tokens)
    ended = b + (chunk > 0)
    step_us = dense("embedding", tokens) + asked.layers * layer_us + dense("final_layernorm", tokens)
    step_us = step_us + ends("lm_head", ended) + ends("sampler", ended)
    source = f"LLMServingSim profile {folder.name}"
    notes = ("layers are timed one by one: no host time, and no gaps between kernels",)
    return StepPoints(b, b * context, chunk, chunk**2 + 2 * chunk * prefix, step_us / 1e6, source, notes)


def read_skew(path: str, sequences: int) -> float:
    """Return how many times longer decode attention of a profile takes where contexts differ than where all are alike.

    It is the mean over the points of ``skew.csv`` without prompts that have so many sequences.

    Raises
    ------
    UserError
        If the file is missing, or has no such point.
    """
    file = Path(path).expanduser() / "skew.csv"
    if not file.is_file():
        raise UserError(f"{file}: no such file; the profile has no steps of unequal contexts")
    names, every = read_rows(file)
    for name in ("regime", "n", "t_skew_us", "t_mean_us"):
        if name not in names:
            raise UserError(f"{file}: no column {name}{nearest(name, names)}; it has {', '.join(names)}")
    rows = [(line, row) for line, row in enumerate(every, 2) if row["regime"] == "pure"]
    found = [(line, row) for line, row in rows if row["n"] == str(sequences)]
    if not found:
        sizes = sorted({int(row["n"]) for _, row in rows})
        raise UserError(f"--skew-sequences={sequences}: {file} has {', '.join(map(str, sizes))}")
    skewed_us, alike_us = _columns(file, ("t_skew_us", "t_mean_us"), found)
    return float(np.mean(skewed_us / alike_us))


def _by_layer(file: Path, size: str) -> Callable[[str, np.ndarray], np.ndarray]:
    """Return the time of a layer, microseconds, interpolated between the sizes of a profile."""
    names, rows = read_rows(file)
    for name in ("layer", size, "time_us"):
        if name not in names:
            raise UserError(f"{file}: no column {name}{nearest(name, names)}; it has {', '.join(names)}")
    table: dict[str, list[tuple[float, float]]] = {}
    for line, row in enumerate(rows, 2):
        pair = tuple(read_number(file, line, row, name, positive=True) for name in (size, "time_us"))
        table.setdefault(row["layer"], []).append(pair)  # type: ignore[arg-type]

    def time_us(layer: str, sizes: np.ndarray) -> np.ndarray:
        if layer not in table:
            raise UserError(f"{file}: has no layer {layer}{nearest(layer, table)}; it is read for dense Llama models")
        known, times = np.array(sorted(table[layer])).T
        return np.interp(sizes, known, times)

    return time_us


def _splitwise(file: Path, asked: Asked) -> StepPoints:
    """Read prompt_time and token_time (ms) of static batches: a prefill and a mean decode step each."""
    keys: dict[str, object] = {
        "model": asked.model,
        "hardware": asked.hardware,
        "tensor_parallel": asked.tensor_parallel,
    }
    rows = _chosen(file, keys)
    names = ("prompt_size", "batch_size", "token_size", "prompt_time", "token_time")
    prompt, b, output, prefill_ms, token_ms = _columns(file, names, rows)
    none = np.zeros(len(b))
    source = f"splitwise-sim, {', '.join(str(value) for value in keys.values())}"
    return StepPoints(
        np.concatenate([none, b]),
        np.concatenate([none, b * (prompt + 0.5 * output)]),
        np.concatenate([b * prompt, none]),
        np.concatenate([b * prompt**2, none]),
        np.concatenate([prefill_ms, token_ms]) / 1e3,
        source,
        ("a decode step is the mean of its batch, at the middle of its context",),
    )


def _chosen(file: Path, keys: dict[str, object]) -> list[tuple[int, dict[str, str]]]:
    """Return the rows with the values asked for; a value not given is asked for, with what there is."""
    names, every = read_rows(file)
    rows = list(enumerate(every, 2))
    for name, value in keys.items():
        if name not in names:
            raise UserError(f"{file}: no column {name}{nearest(name, names)}; it has {', '.join(names)}")
        choices = sorted({row[name] for _, row in rows})
        option = f"--{name.replace('_', '-')}"
        if value is None and len(choices) > 1:
            raise UserError(f"{file}: has several {name}; choose one with {option}: {', '.join(choices)}")
        if value is not None and str(value) not in choices:
            raise unknown_choice(option, str(value), choices)
        rows = [(line, row) for line, row in rows if value is None or row[name] == str(value)]
    if keys.get("hardware") and "pcap" in str(keys["hardware"]):
        raise UserError(f"{file}: hardware={keys['hardware']} is not measured: its prompt_time is h100-80gb times 1.3")
    return rows


def _columns(
    file: Path, names: tuple[str, ...], rows: list[tuple[int, dict[str, str]]] | None = None
) -> list[np.ndarray]:
    """Return columns of numbers, 0 or more."""
    known, every = read_rows(file)
    for name in names:
        if name not in known:
            raise UserError(f"{file}: no column {name}{nearest(name, known)}; it has {', '.join(known)}")
    rows = list(enumerate(every, 2)) if rows is None else rows
    return [
        np.array([read_number(file, line, row, name, positive=False) for line, row in rows], np.float64)
        for name in names
    ]


def _medians(points: StepPoints) -> StepPoints:
    """Join repeated trials of a step: their median."""
    keys = np.stack([points.sequences, points.context_tokens, points.prompt_tokens, points.prompt_squares], axis=1)
    unique, place = np.unique(keys, axis=0, return_inverse=True)
    if len(unique) == len(points):
        return points
    place = place.ravel()
    seconds = np.array([np.median(points.seconds[place == index]) for index in range(len(unique))])
    note = f"{len(points):,} trials of {len(unique):,} steps: the median of each step"
    b, context, prompt, squares = unique.T
    return StepPoints(b, context, prompt, squares, seconds, points.source, (*points.notes, note))


ORIGINS: dict[str, Callable[[Path, Asked], StepPoints]] = {
    "llmservingsim": _llmservingsim,
    "splitwise-sim": _splitwise,
}
