"""P2's law: a decode step takes tau(b) = c0 + c1 b, whatever the context."""

from __future__ import annotations

import numpy as np

from mbexp.config.gpu_keys import GpuConfig
from mbexp.hardware.iteration import ClosedForm
from mbexp.hardware.law import LatencyLaw, Price, batch_price

KEYS = ("c0_ms", "c1_ms")


@batch_price
def linear(parameters, batch_size, longest_prompt, longest_output, longest_total, sum_prompt, sum_output):  # type: ignore[no-untyped-def]
    """Parameters: c0_s, c1_s, 1 where L is prompt + output (0 where it is the output)."""
    step_s = parameters[0] + parameters[1] * batch_size
    length = longest_total if parameters[2] > 0.5 else longest_output
    return step_s * length, step_s, step_s


def build(gpu: GpuConfig) -> LatencyLaw:
    """Return the linear law: a batch run to completion takes L steps, its first token one step.

    P2 (Section 4, Fig. 3) prices decoding only, so the prompt is free where L is the output; a prefill of s prompts is
    one more step, c0 + c1 s.
    """
    law = gpu.law
    c0_s, c1_s = law.c0_ms / 1e3, law.c1_ms / 1e3
    iteration = ClosedForm(
        fixed_s=c0_s,
        sequence_s=c1_s,
        floor_s=0.0,
        compute_s=0.0,
        context_s=0.0,
        prefill_token_s=0.0,
        prefill_sequence_s=c1_s,
        prefill_square_s=0.0,
    )
    batch = Price(linear, np.array([c0_s, c1_s, float(law.length == "prompt_plus_output")]), rising=True)
    return LatencyLaw.configured(gpu, "linear law, coefficients as configured", batch, iteration.price)
