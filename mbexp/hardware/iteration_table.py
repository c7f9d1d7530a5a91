"""The price of an iteration by interpolation in tables of decode steps and prefills."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from mbexp.hardware.law import BatchFunction, FloatArray, IterationFunction, Price, iteration_price


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


@iteration_price
def interpolated(parameters, decodes, context_tokens, prompt_tokens, prompt_squares, square_growth, prompts_ended):  # type: ignore[no-untyped-def]
    """Parameters: those of `IterationTable`.

    A prefill of N tokens with squares Q counts as m = N^2/Q prompts of Q/N tokens (what it is, where they are equal);
    where that is less than one prompt, as a chunk of N tokens after x = (Q/N - N)/2, which costs the difference that it
    makes; on measured engines that errs by 16-63 %, so that modes of execution refuse chunks. Beside decoding
    sequences, only what the prompts add to a prefill of no tokens is paid.
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


@dataclass(frozen=True)
class IterationTable:
    """A measured price by iteration, interpolated linearly; beyond the last points the last slope continues.

    Attributes
    ----------
    batch_sizes : float64 array, shape (n,), increasing, n >= 2
    contexts_tokens : float64 array, shape (m,), increasing, m >= 2
        Mean context of a sequence; below the first the price is that of the first.
    step_table_s : float64 array, shape (n, m)
        Time of a decode step.
    prefill_sequences : float64 array, shape (i,), increasing, i >= 2
    prefill_tokens : float64 array, shape (j,), increasing from 0, j >= 2
        Length of each prompt.
    prefill_table_s : float64 array, shape (i, j)
        Time of a prefill.
    """

    batch_sizes: FloatArray
    contexts_tokens: FloatArray
    step_table_s: FloatArray
    prefill_sequences: FloatArray
    prefill_tokens: FloatArray
    prefill_table_s: FloatArray

    def price(self, notes: tuple[str, ...] = ()) -> Price[IterationFunction]:
        """Return the price of this table."""
        axes = (self.batch_sizes, self.contexts_tokens, self.prefill_sequences, self.prefill_tokens)
        parameters = np.concatenate(
            [
                [len(axis) for axis in axes],
                self.batch_sizes,
                self.contexts_tokens,
                self.step_table_s.ravel(),
                self.prefill_sequences,
                self.prefill_tokens,
                self.prefill_table_s.ravel(),
            ]
        )
        return Price(interpolated, parameters, notes, prices_chunks=False)


def table_of_whole_batches(
    price: Price[BatchFunction], batch_sizes: FloatArray, lengths_tokens: FloatArray
) -> IterationTable:
    """Return the price by iteration that a law of whole batches T(b, L) implies.

    A step at context x takes dT/dL at L = x: the rise of T between two lengths, divided by their distance, holds in the
    middle between them. The prefill of s prompts of n tokens takes T(s, n), of no tokens the time to the first token. A
    grid of whole batches tells no more: what its prompts and its outputs cost cannot be told apart.

    Parameters
    ----------
    price : Price
        That reads one length of a batch.
    batch_sizes : array, shape (n,), increasing, n >= 2
    lengths_tokens : array, shape (m,), increasing from 0, m >= 3
    """
    function, parameters = price.function, price.parameters
    times = np.array(
        [
            [function(parameters, int(b), 0, 1, 1, 0, 0)[1]]
            + [function(parameters, int(b), 0, int(x), int(x), 0, 0)[0] for x in lengths_tokens[1:]]
            for b in batch_sizes
        ]
    )
    return IterationTable(
        batch_sizes=np.asarray(batch_sizes, np.float64),
        contexts_tokens=0.5 * (lengths_tokens[1:] + lengths_tokens[:-1]),
        step_table_s=np.diff(times, axis=1) / np.diff(lengths_tokens),
        prefill_sequences=np.asarray(batch_sizes, np.float64),
        prefill_tokens=np.asarray(lengths_tokens, np.float64),
        prefill_table_s=times,
    )
