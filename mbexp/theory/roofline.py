"""Roofline times and KV memory of a decoder-only transformer: bytes over bandwidth, operations over FLOP/s."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ModelShape:
    """Shape of a dense decoder with grouped queries, gated MLP and RMS norms (Qwen3-1.7B by default).

    Query and key vectors are normalised per head, embeddings are shared with the output layer.
    """

    layers: int = 28
    hidden: int = 2048
    query_heads: int = 16
    kv_heads: int = 8
    head_size: int = 128
    mlp: int = 6144
    vocabulary: int = 151_936
    bytes_per_value: int = 2

    @property
    def layer_matrices(self) -> int:
        """Weights of all layers' matrices: each is multiplied by every token."""
        attention = self.hidden * self.head_size * (2 * self.query_heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.mlp)

    @property
    def output_matrix(self) -> int:
        """Weights of the output layer, multiplied by the last token of a prompt and by every decoded one."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters."""
        norms = self.layers * (2 * self.hidden + 2 * self.head_size) + self.hidden
        return self.layer_matrices + self.output_matrix + norms

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights, W."""
        return self.parameters * self.bytes_per_value

    @property
    def kv_bytes_per_token(self) -> int:
        """KV cache of one token: keys and values of every layer."""
        return 2 * self.layers * self.kv_heads * self.head_size * self.bytes_per_value

    @property
    def attention_flop_per_square_token(self) -> int:
        """Operations of causal attention over a prompt of n tokens, divided by n squared."""
        return 2 * self.layers * self.query_heads * self.head_size


QWEN3_1_7B = ModelShape()


@dataclass(frozen=True)
class Card:
    """A GPU as the roofline sees it; the efficiencies and the overhead are assumptions until calibrated."""

    bandwidth_gb_per_s: float
    dense_tflop_per_s: float
    bandwidth_efficiency_weights: float = 0.85
    bandwidth_efficiency_attention: float = 0.75
    compute_efficiency: float = 0.60
    compute_efficiency_attention: float = 0.40
    step_overhead_ms: float = 0.6


CARDS = {
    "RTX 4080 16 GB": Card(716.8, 97.5),
    "RTX 4080 Laptop 12 GB": Card(432, 67.7),
    "A100 40 GB": Card(1555, 312),
    "A100 80 GB": Card(2039, 312),
    "H100 SXM": Card(3350, 989.4),
    "H200": Card(4800, 989.4),
}


def weights_ms(card: Card, model: ModelShape = QWEN3_1_7B) -> float:
    """Return the time to read the weights once."""
    return model.weight_bytes / (card.bandwidth_gb_per_s * card.bandwidth_efficiency_weights) / 1e6


def step_fixed_ms(card: Card, model: ModelShape = QWEN3_1_7B) -> float:
    """Return c0: overhead and one reading of the weights."""
    return card.step_overhead_ms + weights_ms(card, model)


def step_per_request_ms(card: Card, context_tokens: float, model: ModelShape = QWEN3_1_7B) -> float:
    """Return c1: reading the KV cache of one sequence of `context_tokens`."""
    read_bytes = context_tokens * model.kv_bytes_per_token
    return read_bytes / (card.bandwidth_gb_per_s * card.bandwidth_efficiency_attention) / 1e6


def decode_step_ms(card: Card, batch: int, context_tokens: float, model: ModelShape = QWEN3_1_7B) -> float:
    """Return the time of one decode step of `batch` sequences of `context_tokens` each.

    t0 + max(W / (BW e_w), 2 P b / (F e_f)) + b C KV / (BW e_a): the matrices are bound by memory or by compute, and the
    attention's reading of the cache comes on top.
    """
    operations = 2 * (model.layer_matrices + model.output_matrix) * batch
    compute_ms = operations / (card.dense_tflop_per_s * card.compute_efficiency) / 1e9
    return (
        card.step_overhead_ms
        + max(weights_ms(card, model), compute_ms)
        + batch * step_per_request_ms(card, context_tokens, model)
    )


def prefill_ms(card: Card, prompt_tokens: int, sequences: int = 1, model: ModelShape = QWEN3_1_7B) -> float:
    """Return the time to prefill `sequences` prompts of `prompt_tokens` each."""
    matrices = sequences * (2 * model.layer_matrices * prompt_tokens + 2 * model.output_matrix)
    attention = sequences * model.attention_flop_per_square_token * prompt_tokens**2
    compute_ms = matrices / (card.dense_tflop_per_s * card.compute_efficiency) / 1e9
    attention_ms = attention / (card.dense_tflop_per_s * card.compute_efficiency_attention) / 1e9
    return card.step_overhead_ms + max(weights_ms(card, model), compute_ms) + attention_ms


def kv_capacity_tokens(
    memory_bytes: float, usable_fraction: float = 0.9, overhead_bytes: float = 1e9, model: ModelShape = QWEN3_1_7B
) -> int:
    """Return how many tokens of KV cache fit beside the weights and `overhead_bytes`."""
    return math.floor((usable_fraction * memory_bytes - model.weight_bytes - overhead_bytes) / model.kv_bytes_per_token)
