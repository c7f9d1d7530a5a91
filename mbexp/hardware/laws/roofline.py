"""A law from first principles: what a GPU card must read and multiply for a model card, prefill and decode apart."""

from __future__ import annotations

import dataclasses

import numpy as np

from mbexp.config.keys import GpuConfig, LawConfig
from mbexp.errors import UserError, unknown_choice
from mbexp.hardware.cards import GPU_CARDS, MODEL_CARDS, ModelCard
from mbexp.hardware.law import UNBOUNDED, IterationPrice, LatencyLaw, as_range, latency_law


@latency_law
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


def iteration_price(law: LawConfig) -> IterationPrice:
    """Return the roofline's price of an iteration, for the card, the model and the efficiencies of `law`."""
    bandwidth, flops = _peaks(law)
    model = _model(law)
    return IterationPrice(
        fixed_s=law.step_overhead_ms / 1e3,
        sequence_s=0.0,
        floor_s=model.step_weight_bytes / (bandwidth * law.bandwidth_efficiency_weights),
        compute_s=model.decode_flops_per_token / (flops * law.compute_efficiency),
        context_s=model.kv_bytes_per_token / (bandwidth * law.bandwidth_efficiency_attention),
        prefill_token_s=model.prefill_flops_per_token / (flops * law.compute_efficiency),
        prefill_sequence_s=model.prefill_flops_per_sequence / (flops * law.compute_efficiency),
        prefill_square_s=model.prefill_flops_per_square / (flops * law.compute_efficiency_attention),
    )


def build(gpu: GpuConfig) -> LatencyLaw:
    """Return the roofline law; its ranges and padding refer to prompt + output, the context."""
    law = gpu.law
    if law.length != "prompt_plus_output":
        raise UserError(
            f"gpu.law.length={law.length}: the roofline prices prompt and output apart; "
            "leave it at prompt_plus_output, which its range refers to"
        )
    price = iteration_price(law)
    model = _model(law)
    card = GPU_CARDS[law.card].name if law.card else "a card as configured"
    assumed = all(
        getattr(law, field.name) == field.default
        for field in dataclasses.fields(law)
        if "efficiency" in field.name or field.name == "step_overhead_ms"
    )
    return LatencyLaw(
        name=gpu.name,
        function=roofline,
        parameters=np.array(
            [
                price.fixed_s,
                price.floor_s,
                price.compute_s,
                price.context_s,
                price.prefill_token_s,
                price.prefill_sequence_s,
                price.prefill_square_s,
            ]
        ),
        provenance=law.provenance
        or f"roofline of {model.name} on {card}, efficiencies {'assumed' if assumed else 'as configured'}",
        batch_size_range=as_range(law.batch_size_range, UNBOUNDED),
        length_range_tokens=as_range(law.length_range_tokens, (1, model.longest_context_tokens)),
        length=law.length,
        iteration=price,
    )


def _model(law: LawConfig) -> ModelCard:
    if law.model not in MODEL_CARDS:
        raise unknown_choice("gpu.law.model", law.model, MODEL_CARDS)
    return MODEL_CARDS[law.model]


def _peaks(law: LawConfig) -> tuple[float, float]:
    if law.card is not None and law.card not in GPU_CARDS:
        raise unknown_choice("gpu.law.card", law.card, GPU_CARDS)
    card = GPU_CARDS[law.card] if law.card else None
    bandwidth_gb = law.bandwidth_gb_per_s or (card.bandwidth_gb_per_s if card else None)
    tflops = law.dense_tflops or (card.dense_tflops if card else None)
    if bandwidth_gb is None or tflops is None:
        raise UserError(
            f"gpu.law.card={law.card or 'null'}: the roofline needs a card ({', '.join(GPU_CARDS)}), "
            "or both gpu.law.bandwidth_gb_per_s and gpu.law.dense_tflops"
        )
    return bandwidth_gb * 1e9, tflops * 1e12
