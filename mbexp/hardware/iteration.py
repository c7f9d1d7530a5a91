"""The price of one iteration as a compiled function: the closed form of `IterationPrice`, or an interpolated table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, types

from mbexp.compiled import compiled
from mbexp.errors import UserError
from mbexp.hardware.law import IterationPrice, LatencyLaw

FloatArray = npt.NDArray[np.float64]

# iteration(parameters, decodes, context_tokens, prompt_tokens, prompt_squares, square_growth, prompts_ended)
#     -> (seconds, growth_s, iterations)
# The price of an iteration of `decodes` sequences with `context_tokens` in total and `prompt_tokens` of prefill, whose
# chunks of n tokens after x have sum((x + n)^2 - x^2) = `prompt_squares`; `prompts_ended` prompts end in it. Repeated,
# the context grows by `decodes` and the squares by `square_growth` each time, and the price by `growth_s`; that holds
# for `iterations` of them, this one included.
ITERATION_SIGNATURE = types.UniTuple(types.float64, 3)(
    types.Array(types.float64, 1, "C"), *[types.int64] * 3, types.float64, types.float64, types.int64
)
ITERATION_TYPE = types.FunctionType(ITERATION_SIGNATURE)


def iteration_law(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a price by iteration; a decorator. Arguments and result: see `ITERATION_SIGNATURE`."""
    return compiled(ITERATION_SIGNATURE)(function)


@iteration_law
def closed_form(parameters, decodes, context_tokens, prompt_tokens, prompt_squares, square_growth, prompts_ended):  # type: ignore[no-untyped-def]
    """Parameters: the fields of `IterationPrice`, in their order."""
    seconds = parameters[0]
    compute_s = 0.0
    growth_s = 0.0
    if decodes > 0:
        seconds += parameters[1] * decodes + parameters[8] * (decodes - 1) / decodes
        compute_s = parameters[3] * decodes
        growth_s = parameters[4] * decodes
    if prompt_tokens > 0:
        compute_s += parameters[5] * prompt_tokens + parameters[6] * prompts_ended
        seconds += parameters[9] + parameters[7] * prompt_squares
        growth_s += parameters[7] * square_growth
    return seconds + max(parameters[2], compute_s) + parameters[4] * context_tokens, growth_s, np.inf


@njit
def _cell(parameters, first, count, value):  # type: ignore[no-untyped-def]
    """Return the place of the last of `count` points from `first` on, but not the last of all, at or below `value`."""
    low, high = 0, count - 1
    while high - low > 1:
        middle = (low + high) // 2
        if parameters[first + middle] <= value:
            low = middle
        else:
            high = middle
    return low


@njit
def _bilinear(parameters, rows_at, rows, columns_at, columns, table_at, row, column):  # type: ignore[no-untyped-def]
    """Return the value at (row, column) and its slope along the columns."""
    row = max(row, parameters[rows_at])
    column = max(column, parameters[columns_at])
    i = _cell(parameters, rows_at, rows, row)
    j = _cell(parameters, columns_at, columns, column)
    weight = (row - parameters[rows_at + i]) / (parameters[rows_at + i + 1] - parameters[rows_at + i])
    here = table_at + i * columns + j
    left = parameters[here] + weight * (parameters[here + columns] - parameters[here])
    right = parameters[here + 1] + weight * (parameters[here + columns + 1] - parameters[here + 1])
    slope = (right - left) / (parameters[columns_at + j + 1] - parameters[columns_at + j])
    return left + slope * (column - parameters[columns_at + j]), slope


@iteration_law
def interpolated(parameters, decodes, context_tokens, prompt_tokens, prompt_squares, square_growth, prompts_ended):  # type: ignore[no-untyped-def]
    """Parameters: those of `mbexp.hardware.iteration_table.IterationTable`.

    A prefill of N tokens with squares Q counts as m = N^2/Q prompts of Q/N tokens (what it is, where they are equal);
    where that is less than one prompt, as a chunk of N tokens after x = (Q/N - N)/2, which costs the difference that it
    makes. Beside decoding sequences, only what the prompts add to a prefill of no tokens is paid.
    """
    sizes, contexts = int(parameters[0]), int(parameters[1])
    sequences, lengths = int(parameters[2]), int(parameters[3])
    contexts_at = 4 + sizes
    step_at = contexts_at + contexts
    sequences_at = step_at + sizes * contexts
    lengths_at = sequences_at + sequences
    prefill_at = lengths_at + lengths
    seconds, growth_s, iterations = 0.0, 0.0, np.inf
    if decodes > 0:
        mean = context_tokens / decodes
        seconds, growth_s = _bilinear(parameters, 4, sizes, contexts_at, contexts, step_at, decodes, mean)
        if mean < parameters[contexts_at]:
            growth_s = 0.0
            iterations = np.floor(parameters[contexts_at] - mean) + 1.0
        else:
            after = _cell(parameters, contexts_at, contexts, mean) + 1
            if after < contexts - 1:
                iterations = np.floor(parameters[contexts_at + after] - mean) + 1.0
    if prompt_tokens > 0:
        iterations = 1.0
        tokens = float(prompt_tokens)
        prompts = tokens * tokens / prompt_squares
        before, after = 0.0, prompt_squares / tokens
        if prompts < 1.0:
            prompts = 1.0
            before = 0.5 * (prompt_squares / tokens - tokens)
            after = before + tokens
        whole_s, _ = _bilinear(parameters, sequences_at, sequences, lengths_at, lengths, prefill_at, prompts, after)
        before_s, _ = _bilinear(parameters, sequences_at, sequences, lengths_at, lengths, prefill_at, prompts, before)
        seconds += whole_s - before_s
        if decodes == 0:
            empty_s, _ = _bilinear(parameters, sequences_at, sequences, lengths_at, lengths, prefill_at, prompts, 0.0)
            seconds += empty_s
    return seconds, growth_s, iterations


def compiled_iteration(law: LatencyLaw) -> tuple[Any, FloatArray]:
    """Return the compiled price by iteration of `law`, and its parameters.

    Raises
    ------
    UserError
        If the law has no price by iteration, or a decode step takes no time.
    """
    price = law.iteration
    if price is None:
        raise UserError(
            f"execution=continuous: the latency law {law.name} has no price for a decode step; use "
            "gpu.law.kind=linear, roofline, affine or a grid, or give your law an `iteration` (mbexp/hardware/own.py)"
        )
    if not price.decode_step_s(1, 1) > 0:
        raise UserError(f"execution=continuous: under the latency law {law.name} a decode step takes no time")
    if isinstance(price, IterationPrice):
        return closed_form, np.array(dataclasses.astuple(price), np.float64)
    return interpolated, price.parameters
