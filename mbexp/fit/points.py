"""Reads what is to be fitted: a latency grid, or the richer file of points that `mbexp.measure` writes."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError
from mbexp.hardware.grid import find_grid, generated_reasons, read_grid, read_number, read_rows, read_whole

FloatArray = npt.NDArray[np.float64]
PHASES = ("prefill", "decode", "static")
MACHINE_FILE = "machine.json"
GRID_FILE = "grid.csv"


@dataclass(frozen=True)
class Points:
    """Times of prefills, decode steps and whole static batches.

    Attributes
    ----------
    phase : str array, shape (n,)
        ``prefill``: `batch_size` prompts of `prompt_tokens`; ``decode``: one step of `batch_size` sequences that attend
        to `context_tokens` each; ``static``: a batch prefilled and decoded to `output_tokens` tokens each.
    batch_size, prompt_tokens, output_tokens, context_tokens : float64 arrays, shape (n,)
        Zero where the phase has no such length.
    seconds : float64 array, shape (n,)
        Median of the repeats; the mean, in a file that gives only that.
    source : str
        Name of the file.
    grid : Path or None
        Grid of static batches that an interpolated law can read.
    split : bool
        Whether prompt and output of static batches are known apart.
    machine : dict
        What `mbexp.measure` recorded of the machine; empty for other files.
    generated : tuple of str
        Why the file cannot be a measurement.
    notes : tuple of str
    """

    phase: npt.NDArray[np.str_]
    batch_size: FloatArray
    prompt_tokens: FloatArray
    output_tokens: FloatArray
    context_tokens: FloatArray
    seconds: FloatArray
    source: str
    grid: Path | None
    split: bool
    machine: dict[str, Any]
    generated: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.seconds)

    def take(self, rows: npt.NDArray[Any]) -> Points:
        """Return the points of a mask or of row numbers."""
        columns = ("phase", "batch_size", "prompt_tokens", "output_tokens", "context_tokens", "seconds")
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in columns})

    @property
    def total_tokens(self) -> FloatArray:
        """Prompt + output of a static batch, context of a decode step, prompt of a prefill."""
        return np.maximum(self.prompt_tokens + self.output_tokens, self.context_tokens)


def read_points(path: str, prompt_tokens: int = 0, cuda_graphs: bool | None = None) -> Points:
    """Read a latency grid or a file of points.

    Parameters
    ----------
    path
        A grid (``batch_size,max_seq_len,mean_latency_sec,...``) or a file with a column ``phase``.
    prompt_tokens
        Of a grid: how many of its `max_seq_len` tokens are prompt; the rest is decoded.
    cuda_graphs
        Of a file of points with both: which to take.

    Raises
    ------
    UserError
        As `mbexp.hardware.grid.read_grid`, or where a file holds points with and without CUDA graphs and neither is
        chosen.
    """
    file = find_grid(str(Path(path).expanduser()))
    header, _ = read_rows(file)
    return _read_rich(file, cuda_graphs) if "phase" in header else _read_grid(file, prompt_tokens)


def _read_grid(file: Path, prompt_tokens: int) -> Points:
    grid = read_grid(str(file))
    if prompt_tokens >= grid.length_range_tokens[0]:
        raise UserError(f"--prompt-tokens={prompt_tokens}: {file} has lengths from {grid.length_range_tokens[0]} on")
    prompt = np.full(len(grid), float(prompt_tokens))
    return Points(
        phase=np.full(len(grid), "static"),
        batch_size=grid.batch_size.astype(np.float64),
        prompt_tokens=prompt,
        output_tokens=grid.length_tokens - prompt,
        context_tokens=np.zeros(len(grid)),
        seconds=grid.mean_s,
        source=file.name,
        grid=file,
        split=prompt_tokens > 0,
        machine={},
        generated=tuple(generated_reasons(grid)),
        notes=grid.notes,
    )


def _read_rich(file: Path, cuda_graphs: bool | None) -> Points:
    rows = list(enumerate(read_rows(file)[1], 2))
    needed = ("phase", "batch_size", "prompt_tokens", "output_tokens", "context_tokens", "cuda_graphs", "median_s")
    for column in (*needed, "status"):
        if rows and column not in rows[0][1]:
            raise UserError(f"{file}: no column {column}, which a file of points has")
    failed = sum(row["status"] != "ok" for _, row in rows)
    rows = [(line, row) for line, row in rows if row["status"] == "ok"]
    modes = {row["cuda_graphs"] for _, row in rows}
    if len(modes) > 1 and cuda_graphs is None:
        raise UserError(f"{file}: has points with and without CUDA graphs; choose with --cuda-graphs on or off")
    if cuda_graphs is not None:
        rows = [(line, row) for line, row in rows if row["cuda_graphs"] == ("on" if cuda_graphs else "off")]
    if not rows:
        raise UserError(f"{file}: no point that was measured{'' if cuda_graphs is None else ' in this mode'}")
    for line, row in rows:
        if row["phase"] not in PHASES:
            raise UserError(f"{file}, line {line}: phase={row['phase']}: must be one of {', '.join(PHASES)}")
    machine_file, grid_file = file.with_name(MACHINE_FILE), file.with_name(GRID_FILE)
    machine = json.loads(machine_file.read_text(encoding="utf-8")) if machine_file.is_file() else {}

    def whole(column: str, least: int) -> FloatArray:
        return np.array([read_whole(file, line, row, column, least) for line, row in rows], dtype=np.float64)

    points = Points(
        phase=np.array([row["phase"] for _, row in rows]),
        batch_size=whole("batch_size", 1),
        prompt_tokens=whole("prompt_tokens", 0),
        output_tokens=whole("output_tokens", 0),
        context_tokens=whole("context_tokens", 0),
        seconds=np.array([read_number(file, line, row, "median_s", positive=True) for line, row in rows]),
        source=file.name,
        grid=grid_file if grid_file.is_file() else None,
        split=True,
        machine=machine,
        notes=(f"{file.name}: {_were(failed)} not measured (out of memory, most often)",) if failed else (),
    )
    _check_duplicates(file, points)
    return points


def _were(count: int) -> str:
    return "1 point was" if count == 1 else f"{count} points were"


def _check_duplicates(file: Path, points: Points) -> None:
    keys = list(zip(points.phase, points.batch_size, points.prompt_tokens, points.output_tokens, points.context_tokens,
                    strict=True))  # fmt: skip
    if len(set(keys)) < len(keys):
        phase, batch_size, *_ = next(key for key in keys if keys.count(key) > 1)
        raise UserError(f"{file}: a {phase} point of batch size {batch_size:g} is given twice")
    static = points.phase == "static"
    if static.any() and len(np.unique(points.batch_size[static])) < 2:
        only = f"one batch_size only ({points.batch_size[static][0]:g})"
        raise UserError(f"{file}: {only}; a law needs at least two to tell its effect")
