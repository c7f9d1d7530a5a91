"""A law from first principles: what a GPU card must read and multiply for a model card, prefill and decode apart.

Of a mixture of experts a step reads the experts that its tokens are expected to meet, beside the other weights.
"""

from __future__ import annotations

import numpy as np

from mbexp.config.cards import GPU_CARDS, find_gpu_card, find_model_card
from mbexp.config.gpu_keys import GpuConfig, LawConfig
from mbexp.errors import UserError
from mbexp.hardware.iteration import ClosedForm
from mbexp.hardware.law import LatencyLaw, Price, batch_price
from mbexp.hardware.laws import step

ASSUMPTIONS = (
    "bandwidth_efficiency_weights",
    "bandwidth_efficiency_attention",
    "compute_efficiency",
    "compute_efficiency_attention",
    "step_overhead_ms",
)
KEYS = ("card", "bandwidth_gb_per_s", "dense_tflops", "model", *ASSUMPTIONS)


@batch_price
def roofline(parameters, batch_size, longest_prompt, longest_output, longest_total, sum_prompt, sum_output):  # type: ignore[no-untyped-def]
    """Price a static batch: every prompt padded to the longest, every member decoded as long as the longest.

    Parameters: t0, weights, compute per sequence, context per token, prefill per token, per sequence, per square (s).

    The prefill of b prompts of n = longest_prompt tokens yields the first tokens. Then o - 1 decode steps follow
    (o = longest_output): in step k = 1 .. o - 1 each sequence attends to n + k tokens, so the steps read
    b ((o - 1) n + o (o - 1) / 2) tokens of context in all. The time between tokens is the mean of these steps; where
    o = 1 there is none, and it is the step that would follow.
    """
    fixed_s = parameters[0]
    weights_s = parameters[1]
    tokens = float(batch_size) * longest_prompt
    prefill_s = (
        fixed_s
        + max(weights_s, parameters[4] * tokens + parameters[5] * batch_size)
        + parameters[6] * tokens * longest_prompt
    )
    step_s = fixed_s + max(weights_s, parameters[2] * batch_size)
    steps = longest_output - 1.0
    if steps < 1.0:
        return prefill_s, prefill_s, step_s + parameters[3] * batch_size * (longest_prompt + 1.0)
    mean_context = longest_prompt + 0.5 * longest_output
    step_s += parameters[3] * batch_size * mean_context
    return prefill_s + steps * step_s, prefill_s, step_s


def iteration_form(law: LawConfig) -> ClosedForm:
    """Return the roofline's price of an iteration, for the card, the model and the efficiencies of `law`."""
    bandwidth, flops = _peaks(law)
    model = find_model_card(law.model)
    expert_s = model.expert_weights * model.bytes_per_value / (bandwidth * law.bandwidth_efficiency_weights)
    return ClosedForm(
        fixed_s=law.step_overhead_ms / 1e3,
        sequence_s=0.0,
        floor_s=model.step_weight_bytes / (bandwidth * law.bandwidth_efficiency_weights) - expert_s,
        compute_s=model.decode_flops_per_token / (flops * law.compute_efficiency),
        context_s=model.kv_bytes_per_token / (bandwidth * law.bandwidth_efficiency_attention),
        prefill_token_s=model.prefill_flops_per_token / (flops * law.compute_efficiency),
        prefill_sequence_s=model.prefill_flops_per_sequence / (flops * law.compute_efficiency),
        prefill_square_s=model.prefill_flops_per_square / (flops * law.compute_efficiency_attention),
        experts_s=expert_s,
        experts_idle=1.0 - model.active_experts / model.experts if model.experts else 0.0,
    )


def build(gpu: GpuConfig) -> LatencyLaw:
    """Return the roofline law; its ranges and padding refer to prompt + output, the context."""
    law = gpu.law
    if law.length != "prompt_plus_output":
        raise UserError(
            f"gpu.law.length={law.length}: the roofline prices prompt and output apart; "
            "leave it at prompt_plus_output, which its range refers to"
        )
    form = iteration_form(law)
    model, card = find_model_card(law.model), find_gpu_card(law.card)
    usual = LawConfig()
    assumed = all(getattr(law, key) == getattr(usual, key) for key in ASSUMPTIONS)
    if model.experts:
        batch = step.batch(form)  # the output head of a prefill, which it leaves out, is below 0.1 % of it
    else:
        numbers = (form.fixed_s, form.floor_s, form.compute_s, form.context_s, form.prefill_token_s,
                   form.prefill_sequence_s, form.prefill_square_s)  # fmt: skip
        batch = Price(roofline, np.array(numbers), rising=True)
    return LatencyLaw.configured(
        gpu,
        f"roofline of {model.name} on {card.name if card else 'a card as configured'}, "
        f"efficiencies {'assumed' if assumed else 'as configured'}",
        batch,
        form.price,
        length_range_tokens=(1, model.longest_context_tokens),
    )


def _peaks(law: LawConfig) -> tuple[float, float]:
    card = find_gpu_card(law.card)
    bandwidth_gb = law.bandwidth_gb_per_s or (card.bandwidth_gb_per_s if card else None)
    tflops = law.dense_tflops or (card.dense_tflops if card else None)
    if bandwidth_gb is None or tflops is None:
        raise UserError(
            f"gpu.law.card={law.card or 'null'}: the roofline needs a card ({', '.join(GPU_CARDS)}), "
            "or both gpu.law.bandwidth_gb_per_s and gpu.law.dense_tflops"
        )
    return bandwidth_gb * 1e9, tflops * 1e12
