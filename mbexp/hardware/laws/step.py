"""A law of a step: a handful of numbers that price decode, prefill and mixed iterations of an engine on a card."""

from __future__ import annotations

import numpy as np

from mbexp.config.gpu_keys import STEP_KEYS, GpuConfig, LawConfig
from mbexp.errors import UserError
from mbexp.hardware.iteration import ClosedForm
from mbexp.hardware.law import BatchFunction, LatencyLaw, Price, batch_price

KEYS = ("card", "model", "tensor_parallel", *STEP_KEYS)


@batch_price
def step(parameters, batch_size, longest_prompt, longest_output, longest_total, sum_prompt, sum_output):  # type: ignore[no-untyped-def]
    """Price a static batch: one prefill of every prompt, padded to the longest, then the decode steps, one by one.

    Parameters: fixed, sequence, floor, compute, context, prefill per token, per square, extra, all experts (s), and
    the share of experts that a token leaves idle.

    The prefill of b prompts of n = longest_prompt tokens is one iteration with N = b n and Q = b n^2, and yields the
    first tokens. Then o - 1 decode steps follow (o = longest_output), of b sequences each, none leaving: in step
    k = 1 .. o - 1 a sequence attends to n + k tokens, so the steps read b ((o - 1) n + o (o - 1) / 2) tokens of context
    in all. The time between tokens is the mean of these steps; where o = 1 it is the step that would follow.
    """
    fixed_s = parameters[0]
    floor_s = parameters[2]
    tokens = float(batch_size) * longest_prompt
    prefill_s = fixed_s + parameters[7] + max(floor_s, parameters[5] * tokens) + parameters[6] * tokens * longest_prompt
    step_s = fixed_s + parameters[1] * batch_size + max(floor_s, parameters[3] * batch_size)
    if parameters[8] > 0.0:
        prefill_s += parameters[8] * (1.0 - parameters[9] ** tokens)
        step_s += parameters[8] * (1.0 - parameters[9] ** float(batch_size))
    steps = longest_output - 1.0
    if steps < 1.0:
        return prefill_s, prefill_s, step_s + parameters[4] * batch_size * (longest_prompt + 1.0)
    step_s += parameters[4] * batch_size * (longest_prompt + 0.5 * longest_output)
    return prefill_s + steps * step_s, prefill_s, step_s


def iteration_form(law: LawConfig) -> ClosedForm:
    """Return the price of an iteration: that of the engine's kernels, and the host's time around them."""
    return ClosedForm(
        fixed_s=(law.fixed_ms + law.host_ms) / 1e3,
        sequence_s=law.sequence_ms / 1e3 + law.host_us_per_sequence / 1e6,
        floor_s=law.floor_ms / 1e3,
        compute_s=law.compute_ms / 1e3,
        context_s=law.context_us / 1e6,
        prefill_token_s=law.prefill_token_ms / 1e3,
        prefill_sequence_s=0.0,
        prefill_square_s=law.prefill_square_ns / 1e9,
        prefill_extra_s=law.prefill_extra_ms / 1e3,
        mixed_context_s=law.mixed_context_us / 1e6,
        experts_s=law.experts_ms / 1e3,
        experts_idle=1.0 - law.experts_active_share,
        mixed_extra_s=law.mixed_extra_ms / 1e3,
    )


def batch(form: ClosedForm) -> Price[BatchFunction]:
    """Return the price of a static batch with the numbers of an iteration."""
    numbers = (form.fixed_s, form.sequence_s, form.floor_s, form.compute_s, form.context_s, form.prefill_token_s,
               form.prefill_square_s, form.prefill_extra_s, form.experts_s, form.experts_idle)  # fmt: skip
    return Price(step, np.array(numbers))


def build(gpu: GpuConfig) -> LatencyLaw:
    """Return the law of a step; its ranges and padding refer to prompt + output, the context.

    Raises
    ------
    UserError
        Where a decode step would take no time, or experts have no share of active ones.
    """
    law = gpu.law
    if law.length != "prompt_plus_output":
        raise UserError(
            f"gpu.law.length={law.length}: a step prices prompt and output apart; "
            "leave it at prompt_plus_output, which its range refers to"
        )
    if law.experts_ms > 0 and law.experts_active_share == 0:
        raise UserError(
            "gpu.law.experts_active_share=0: experts_ms needs the share of experts that a token activates, "
            "such as 0.0625 for 8 of 128"
        )
    form = iteration_form(law)
    if not form.fixed_s + form.sequence_s + form.floor_s + form.compute_s + form.context_s + form.experts_s > 0:
        raise UserError(
            "gpu.law.kind=step: a decode step would take no time; set gpu.law.fixed_ms, floor_ms, sequence_ms and "
            "context_us, or choose a card, such as gpu=h100_llama31_8b"
        )
    return LatencyLaw.configured(
        gpu,
        "law of a step, numbers as configured",
        batch(form),
        form.price,
        request_overhead_s=law.request_overhead_ms / 1e3,
    )
