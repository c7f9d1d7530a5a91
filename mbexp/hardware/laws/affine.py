"""The original's law: T(b, L) = alpha + beta L h(b), h(b) = 1 + gamma (b - 1) / b."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from mbexp.config.gpu_keys import GpuConfig
from mbexp.hardware.iteration import ClosedForm
from mbexp.hardware.law import LatencyLaw, Price, batch_price

KEYS = ("alpha_ms", "beta_ms", "gamma")


@batch_price
def affine(parameters, batch_size, longest_prompt, longest_output, longest_total, sum_prompt, sum_output):  # type: ignore[no-untyped-def]
    """Parameters: alpha_s, beta_s, gamma, 1 where L is prompt + output (0 where it is the output)."""
    step_s = parameters[1] * (1.0 + parameters[2] * (batch_size - 1.0) / batch_size)
    length = longest_total if parameters[3] > 0.5 else longest_output
    return parameters[0] + step_s * length, parameters[0], step_s


def affine_law(
    gpu: GpuConfig, alpha_s: float, beta_s: float, gamma: float, provenance: str, **given: Any
) -> LatencyLaw:
    """Return the law of the given coefficients; time to the first token is alpha, time between tokens beta h(b).

    Its price by iteration is what the law implies, not what it was made for: a decode step takes beta h(b), whatever
    the context, and a prefill alpha, plus, where L counts the prompt, beta for every prompt token. `given` goes to
    `LatencyLaw.configured`.
    """
    counts_prompt = gpu.law.length == "prompt_plus_output"
    iteration = ClosedForm(
        fixed_s=beta_s,
        sequence_s=0.0,
        floor_s=0.0,
        compute_s=0.0,
        context_s=0.0,
        prefill_token_s=beta_s if counts_prompt else 0.0,
        prefill_sequence_s=0.0,
        prefill_square_s=0.0,
        saturating_s=beta_s * gamma,
        prefill_extra_s=alpha_s - beta_s,
    )
    prompts = "a prompt token costs as much as a decode step of one request" if counts_prompt else "prompts are free"
    note = (
        "the original's law, taken iteration by iteration: a decode step takes the same time whatever its context, "
        f"every prefill pays alpha, and {prompts}"
    )
    batch = Price(affine, np.array([alpha_s, beta_s, gamma, float(counts_prompt)]), rising=True)
    return LatencyLaw.configured(gpu, provenance, batch, partial(iteration.price, (note,)), **given)


def build(gpu: GpuConfig) -> LatencyLaw:
    """Return the affine law with the coefficients of the configuration."""
    law = gpu.law
    return affine_law(gpu, law.alpha_ms / 1e3, law.beta_ms / 1e3, law.gamma, "affine law, coefficients as configured")
