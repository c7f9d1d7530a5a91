"""The price of an iteration that nearly all laws have: a closed form in batch, context and prompt tokens."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from mbexp.hardware.law import IterationFunction, Price


@dataclass(frozen=True)
class ClosedForm:
    """The parameters of `mbexp.hardware.closed_form.closed_form`, all in seconds.

    A decode step of b sequences with C tokens of context in total takes
    ``fixed_s + sequence_s b + saturating_s (b - 1) / b + max(floor_s, compute_s b) + context_s C``.
    A prefill of s prompts of n tokens each takes ``fixed_s + prefill_extra_s
    + max(floor_s, prefill_token_s sum(n) + prefill_sequence_s s) + prefill_square_s sum(n**2)``.
    An iteration with prompt tokens beside C tokens of decoding context takes mixed_extra_s + mixed_context_s C more.
    One of b sequences and N prompt tokens loads experts of a mixture-of-experts model in
    ``experts_s (1 - experts_idle ** (b + N))``: `experts_idle`, a share, is the chance that one token leaves an expert
    unused.
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
    mixed_extra_s: float = 0.0

    def price(self, notes: tuple[str, ...] = ()) -> Price[IterationFunction]:
        """Return the price of these parameters."""
        from mbexp.hardware.closed_form import closed_form

        return Price(closed_form, np.array(dataclasses.astuple(self)), notes)
