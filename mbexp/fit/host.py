"""The host's time in a step, which kernel tables do not hold: fitted to measured time per token at several loads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError
from mbexp.fit.steps import nonnegative
from mbexp.hardware.grid import read_number, read_rows
from mbexp.hardware.law import LatencyLaw

FloatArray = npt.NDArray[np.float64]

COLUMNS = ("concurrency", "prompt_tokens", "output_tokens", "tpot_ms")


@dataclass(frozen=True)
class Loads:
    """Measured loads: `concurrency` users in a closed loop, tokens of each request, and the mean TPOT; shape (n,)."""

    concurrency: FloatArray
    prompt_tokens: FloatArray
    output_tokens: FloatArray
    tpot_ms: FloatArray
    source: str


@dataclass(frozen=True)
class HostFit:
    """The host's terms, both >= 0, and errors of the time per token in percent, (predicted - measured) / measured.

    Attributes
    ----------
    host_ms, host_us_per_sequence : float
        Keys of ``gpu.law`` with ``kind: step``.
    before_pct, after_pct, left_out_pct : float64 arrays, shape (n,)
        Without host terms; with them; and each load predicted by a fit to the others.
    """

    host_ms: float
    host_us_per_sequence: float
    before_pct: FloatArray
    after_pct: FloatArray
    left_out_pct: FloatArray


def read_loads(path: str) -> Loads:
    """Read a CSV file with the columns `COLUMNS`.

    Raises
    ------
    UserError
        In one line, naming the column, or the line and the value.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"{path}: no such file")
    names, rows = read_rows(file)
    for name in COLUMNS:
        if name not in names:
            raise UserError(f"{file}: no column {name}; loads have {', '.join(COLUMNS)}; it has {', '.join(names)}")
    columns = [
        np.array([read_number(file, line, row, name, positive=True) for line, row in enumerate(rows, 2)])
        for name in COLUMNS
    ]
    if len(np.unique(columns[0])) < 2:
        raise UserError(f"{file}: two or more concurrencies are needed to tell a step's host time from a sequence's")
    concurrency, prompt, output, tpot_ms = columns
    return Loads(concurrency, prompt, output, tpot_ms, file.name)


def kernel_tpot_ms(law: LatencyLaw, loads: Loads) -> FloatArray:
    """Return the time per token that a law says of closed loops in which every user's request is running.

    In a step b requests decode, with half of their output in context. A request starts in b of `output_tokens` steps,
    or in every one where there are more; such a step holds its prompt too.
    """
    found = []
    for b, prompt, output in zip(loads.concurrency, loads.prompt_tokens, loads.output_tokens, strict=True):
        context = b * (prompt + 0.5 * output)
        share = min(1.0, b / output)
        tokens = prompt * b / output / share
        alone_s = law.iteration_s(b, context)
        mixed_s = law.iteration_s(b, context, tokens, tokens * prompt, tokens / prompt)
        found.append(1e3 * ((1 - share) * alone_s + share * mixed_s))
    return np.array(found)


def fit_host(law: LatencyLaw, loads: Loads) -> HostFit:
    """Fit ``host_ms + host_us_per_sequence b`` to what the law's times per token lack, by relative errors."""
    kernels_ms = kernel_tpot_ms(law, loads)
    measured = loads.tpot_ms
    columns = np.stack([np.ones(len(measured)), loads.concurrency], axis=1)

    def fitted(rows: npt.NDArray[np.bool_]) -> FloatArray:
        weight = 1 / measured[rows]
        terms = nonnegative(columns[rows] * weight[:, None], (measured - kernels_ms)[rows] * weight)
        return np.array(terms)

    every = np.ones(len(measured), np.bool_)
    terms = fitted(every)
    left_out_ms = np.empty(len(measured))
    for index in range(len(measured)):
        others = every.copy()
        others[index] = False
        left_out_ms[index] = kernels_ms[index] + columns[index] @ fitted(others)
    after_ms = kernels_ms + columns @ terms

    def error_pct(predicted_ms: FloatArray) -> FloatArray:
        return 100 * (predicted_ms / measured - 1)

    return HostFit(
        float(terms[0]), 1e3 * float(terms[1]), error_pct(kernels_ms), error_pct(after_ms), error_pct(left_out_ms)
    )
