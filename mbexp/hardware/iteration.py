"""The price of an iteration that nearly all laws have: a closed form in batch, context and prompt tokens."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from mbexp.hardware.law import IterationFunction, Price, iteration_price


@iteration_price
def closed_form(parameters, decodes, context_tokens, prompt_tokens, prompt_squares, square_growth, prompts_ended):  # type: ignore[no-untyped-def]
    """Parameters: the fields of `ClosedForm`, in their order."""
    seconds = parameters[0]
    compute_s = 0.0
    growth_s = 0.0
    context_s = parameters[4]
    if prompt_tokens > 0:
        context_s += parameters[10]
    if decodes > 0:
        seconds += parameters[1] * decodes + parameters[8] * (decodes - 1) / decodes
        compute_s = parameters[3] * decodes
        growth_s = context_s * decodes
    if prompt_tokens > 0:
        compute_s += parameters[5] * prompt_tokens + parameters[6] * prompts_ended
        seconds += parameters[9] + parameters[7] * prompt_squares
        growth_s += parameters[7] * square_growth
    if parameters[11] > 0.0:  # the same in like iterations, whose sequences and prompt tokens are as many
        seconds += parameters[11] * (1.0 - parameters[12] ** float(decodes + prompt_tokens))
    return seconds + max(parameters[2], compute_s) + context_s * context_tokens, growth_s, np.inf


@dataclass(frozen=True)
class ClosedForm:
    """The parameters of `closed_form`, all in seconds.

    A decode step of b sequences with C tokens of context in total takes
    ``fixed_s + sequence_s b + saturating_s (b - 1) / b + max(floor_s, compute_s b) + context_s C``.
    A prefill of s prompts of n tokens each takes ``fixed_s + prefill_extra_s
    + max(floor_s, prefill_token_s sum(n) + prefill_sequence_s s) + prefill_square_s sum(n**2)``.
    An iteration with prompt tokens beside C tokens of decoding context takes mixed_context_s C more. One of b sequences
    and N prompt tokens loads experts of a mixture-of-experts model in ``experts_s (1 - experts_idle ** (b + N))``:
    `experts_idle`, a share, is the chance that one token leaves an expert unused.
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
    mixed_context_s: float = 0.0
    experts_s: float = 0.0
    experts_idle: float = 0.0

    def price(self, notes: tuple[str, ...] = ()) -> Price[IterationFunction]:
        """Return the price of these parameters."""
        return Price(closed_form, np.array(dataclasses.astuple(self)), notes)
