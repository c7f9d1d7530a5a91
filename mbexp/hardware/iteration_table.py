"""A measured price by iteration: tables of decode steps and prefills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


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

    @property
    def parameters(self) -> FloatArray:
        """The numbers that `interpolated` reads."""
        return np.concatenate(
            [
                [
                    len(self.batch_sizes),
                    len(self.contexts_tokens),
                    len(self.prefill_sequences),
                    len(self.prefill_tokens),
                ],
                self.batch_sizes,
                self.contexts_tokens,
                self.step_table_s.ravel(),
                self.prefill_sequences,
                self.prefill_tokens,
                self.prefill_table_s.ravel(),
            ]
        ).astype(np.float64)

    def decode_step_s(self, batch_size: float, context_tokens: float) -> float:
        """Price one decode step of `batch_size` sequences holding `context_tokens` tokens in total."""
        from mbexp.hardware.iteration_grid import interpolated

        return float(interpolated(self.parameters, int(batch_size), int(context_tokens), 0, 0.0, 0.0, 0)[0])

    def prefill_s(self, sequences: float, prompt_tokens: float) -> float:
        """Price one prefill of `sequences` prompts of `prompt_tokens` tokens each."""
        from mbexp.hardware.iteration_grid import interpolated

        tokens = int(sequences * prompt_tokens)
        return float(interpolated(self.parameters, 0, 0, tokens, float(tokens * prompt_tokens), 0.0, int(sequences))[0])


def table_of_whole_batches(
    function: Any, parameters: FloatArray, batch_sizes: FloatArray, lengths_tokens: FloatArray
) -> IterationTable:
    """Return the price by iteration that a law of whole batches T(b, L) implies.

    A step at context x takes dT/dL at L = x: the rise of T between two lengths, divided by their distance, holds in the
    middle between them. The prefill of s prompts of n tokens takes T(s, n), of no tokens the time to the first token. A
    grid of whole batches tells no more: what its prompts and its outputs cost cannot be told apart.

    Parameters
    ----------
    function : compiled function
        Of `mbexp.hardware.law.LAW_SIGNATURE`, that reads one length of a batch.
    batch_sizes : array, shape (n,), increasing, n >= 2
    lengths_tokens : array, shape (m,), increasing from 0, m >= 3
    """
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
