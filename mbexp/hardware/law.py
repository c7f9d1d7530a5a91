"""What a latency law is: a compiled function of a batch, its parameters, its provenance and its range of validity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numba import types

from mbexp.compiled.decorators import compiled

if TYPE_CHECKING:
    from mbexp.hardware.iteration_table import IterationTable

# law(parameters, batch_size, longest_prompt, longest_output, longest_total, sum_prompt, sum_output)
#     -> (service_s, first_token_s, step_s)
# service_s: the whole batch, run to completion; first_token_s: from its start to the first token (prefill);
# step_s: mean time between tokens (TBT) while it decodes. All lengths in tokens.
LAW_SIGNATURE = types.UniTuple(types.float64, 3)(types.Array(types.float64, 1, "C"), *[types.int64] * 6)
LAW_TYPE = types.FunctionType(LAW_SIGNATURE)


def latency_law(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a law; a decorator. Arguments and result: see `LAW_SIGNATURE`."""
    return compiled(LAW_SIGNATURE)(function)


UNBOUNDED = (1, 2**31 - 1)


def as_range(configured: Sequence[int] | None, default: tuple[int, int]) -> tuple[int, int]:
    """Return the (lowest, highest) of a configuration, or `default` where it gives none."""
    return default if configured is None else (configured[0], configured[1])


@dataclass(frozen=True)
class IterationPrice:
    """Price of one iteration of continuous batching, in seconds: a closed form in b sequences and C tokens of context.

    A decode step takes
    ``fixed_s + sequence_s b + saturating_s (b - 1) / b + max(floor_s, compute_s b) + context_s C``.
    A prefill of s prompts of n tokens each takes ``fixed_s + prefill_extra_s
    + max(floor_s, prefill_token_s sum(n) + prefill_sequence_s s) + prefill_square_s sum(n**2)``.
    """

    fixed_s: float
    sequence_s: float
    floor_s: float
    compute_s: float
    context_s: float
    prefill_token_s: float
    prefill_sequence_s: float
    prefill_square_s: float
    saturating_s: float = 0.0
    prefill_extra_s: float = 0.0

    def decode_step_s(self, batch_size: float, context_tokens: float) -> float:
        """Price one decode step of `batch_size` sequences holding `context_tokens` tokens in total."""
        return (
            self.fixed_s
            + self.sequence_s * batch_size
            + self.saturating_s * (batch_size - 1) / batch_size
            + max(self.floor_s, self.compute_s * batch_size)
            + self.context_s * context_tokens
        )

    def prefill_s(self, sequences: float, prompt_tokens: float) -> float:
        """Price one prefill of `sequences` prompts of `prompt_tokens` tokens each."""
        tokens = sequences * prompt_tokens
        return (
            self.fixed_s
            + self.prefill_extra_s
            + max(self.floor_s, self.prefill_token_s * tokens + self.prefill_sequence_s * sequences)
            + self.prefill_square_s * tokens * prompt_tokens
        )


@dataclass(frozen=True)
class LatencyLaw:
    """A latency law ready for the loop.

    Attributes
    ----------
    function : compiled function
        Of `LAW_SIGNATURE`.
    parameters : float64 array, C-contiguous
        Handed to `function` unread by anyone else.
    provenance : str
        Where the numbers come from ("fitted to a generated grid", "measured on ...", "roofline, efficiencies assumed").
    batch_size_range, length_range_tokens : (int, int)
        Inclusive range in which the law is supported by its source; outside it a run says that it extrapolates.
    length : str
        ``output`` or ``prompt_plus_output``: which longest length of a batch the range and padding refer to.
    iteration : IterationPrice, IterationTable or None
        The same law for continuous batching; None where it cannot be priced by iteration.
    notes : tuple of str
        Sentences a reader of the results must see (a grid with missing points, times made monotone).
    """

    name: str
    function: Any
    parameters: npt.NDArray[np.float64]
    provenance: str
    batch_size_range: tuple[int, int]
    length_range_tokens: tuple[int, int]
    length: str
    iteration: IterationPrice | IterationTable | None = None
    notes: tuple[str, ...] = ()

    def service(
        self,
        batch_size: int,
        longest_prompt: int,
        longest_output: int,
        longest_total: int | None = None,
        sum_prompt: int | None = None,
        sum_output: int | None = None,
    ) -> tuple[float, float, float]:
        """Price one batch from Python; omitted sums and totals are those of equal members."""
        total = longest_prompt + longest_output if longest_total is None else longest_total
        sums = (
            batch_size * longest_prompt if sum_prompt is None else sum_prompt,
            batch_size * longest_output if sum_output is None else sum_output,
        )
        service_s, first_token_s, step_s = self.function(
            self.parameters, batch_size, longest_prompt, longest_output, total, *sums
        )
        return float(service_s), float(first_token_s), float(step_s)
