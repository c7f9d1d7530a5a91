"""Published tables of whole static batches, imported by name into points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mbexp.errors import UserError, nearest, unknown_choice
from mbexp.fit.points import Points
from mbexp.hardware.grid import read_number, read_rows


def read_published(path: str, origin: str, where: Sequence[str] = ()) -> Points:
    """Read a published table.

    Parameters
    ----------
    origin
        Name in `ORIGINS`.
    where
        ``COLUMN=VALUE`` each: which rows are meant.

    Raises
    ------
    UserError
        In one line: where the rows are of several cards, engines or models, with what there is; and as for any table.
    """
    if origin not in ORIGINS:
        raise unknown_choice("--from", origin, ORIGINS)
    return ORIGINS[origin](Path(path).expanduser(), where)


def _llm_inference_bench(file: Path, where: Sequence[str]) -> Points:
    """Read Plots/All_results.csv of argonne-lcf/LLM-Inference-Bench: prompts as long as outputs, latency of a batch."""
    columns = ("Hardware", "Num of Hardware", "Framework", "Model")
    numbers = ("Batch Size", "Input Output Length", "Latency")
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    names, every = read_rows(file)
    for name in (*columns, *numbers):
        if name not in names:
            raise UserError(f"{file}: no column {name}{nearest(name, names)}; it has {', '.join(names)}")
    rows = list(enumerate(every, 2))
    chosen = dict(word.partition("=")[::2] for word in where)
    for word in where:
        if "=" not in word or chosen.keys() - set(columns):
            raise UserError(f"--where {word}: must be COLUMN=VALUE, of the columns {', '.join(columns)}")
    for name in columns:
        if name in chosen:
            choices = sorted({row[name] for _, row in rows})
            if chosen[name] not in choices:
                raise unknown_choice(f"--where {name}", chosen[name], choices)
            rows = [(line, row) for line, row in rows if row[name] == chosen[name]]
    for name in columns:
        if len(choices := sorted({row[name] for _, row in rows})) > 1:
            shown = ", ".join(choices[:8]) + (", ..." if len(choices) > 8 else "")
            raise UserError(f"{file}: has several {name}; choose one with --where '{name}=...': {shown}")
    b, length, seconds = (
        np.array([read_number(file, line, row, name, positive=True) for line, row in rows]) for name in numbers
    )
    for size in np.unique(b):
        order = np.argsort(length[b == size])
        if np.any(np.diff(seconds[b == size][order]) <= 0):
            raise UserError(
                f"{file}: batches of {size:g} do not take longer with longer outputs: their runs stopped early, and "
                "are not usable"
            )
    first = rows[0][1]
    source = f"LLM-Inference-Bench, {', '.join(first[name] for name in ('Framework', 'Hardware', 'Model'))}"
    if len(rows) < 4 or len(np.unique(b)) < 2:
        raise UserError(f"{file}: {len(rows)} rows of {source}; a law needs four, of two batch sizes or more")
    return Points(
        phase=np.full(len(rows), "static"),
        batch_size=b,
        prompt_tokens=length,
        output_tokens=length,
        context_tokens=np.zeros(len(rows)),
        seconds=seconds,
        source=source,
        grid=None,
        split=True,
        machine={},
        notes=("one measurement a point; prompt and output are equally long",),
    )


ORIGINS: dict[str, Callable[[Path, Sequence[str]], Points]] = {"llm-inference-bench": _llm_inference_bench}
