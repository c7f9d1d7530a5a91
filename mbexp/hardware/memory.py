"""How many tokens of KV cache fit one GPU."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mbexp.config.kernel_tables import KIND
from mbexp.errors import UserError

if TYPE_CHECKING:
    from mbexp.config.gpu_keys import GpuConfig


def kv_capacity_tokens(gpu: GpuConfig) -> int:
    """Return eta, the tokens of KV cache that one GPU holds (P2, Algorithm 1).

    ``floor((usable_fraction memory - weights - overhead) / kv_bytes_per_token)``, or `gpu.kv_capacity_tokens` where
    that is given. A law of an engine's tables counts as the engine does: `engine_kv_tokens`.

    Raises
    ------
    UserError
        Where the weights and the overhead leave no room for a single token.
    """
    if gpu.kv_capacity_tokens is not None:
        return gpu.kv_capacity_tokens
    if gpu.law.kind == KIND:
        return _of_engine(gpu)
    free_bytes = (gpu.usable_fraction * gpu.memory_gb - gpu.weights_gb - gpu.overhead_gb) * 1e9
    capacity = math.floor(free_bytes / gpu.kv_bytes_per_token + 1e-9)
    if capacity < 1:
        raise UserError(
            f"gpu.memory_gb={gpu.memory_gb:g}: no room for the KV cache: {gpu.usable_fraction:g} of it is usable, and "
            f"weights ({gpu.weights_gb:g} GB) and overhead ({gpu.overhead_gb:g} GB) leave {free_bytes / 1e9:.2f} GB"
        )
    return capacity


def _of_engine(gpu: GpuConfig) -> int:
    """Return the capacity of an engine; TensorRT-LLM takes its share of what the weights leave free."""
    cards, weights = gpu.law.tensor_parallel, gpu.weights_gb * 1e9
    card_bytes, overhead_bytes = gpu.memory_gb * 1e9 / cards, gpu.overhead_gb * 1e9 / cards
    share = gpu.usable_fraction
    if gpu.law.engine == "tensorrt_llm":
        free_bytes = card_bytes - weights / cards - overhead_bytes
        if free_bytes > 0:
            return engine_kv_tokens(free_bytes, 0.0, gpu.kv_bytes_per_token, cards, share, overhead_bytes=0.0)
    return engine_kv_tokens(card_bytes, weights, gpu.kv_bytes_per_token, cards, share, overhead_bytes=overhead_bytes)


ENGINE_SHARE = 0.92  # gpu_memory_utilization of vLLM since 0.21; 0.9 before
ENGINE_OVERHEAD_BYTES = 1.2e9  # chosen on recorded engines


def engine_kv_tokens(
    card_bytes: float,
    weight_bytes: float,
    kv_bytes_per_token: float,
    tensor_parallel: int = 1,
    utilization: float = ENGINE_SHARE,
    block_tokens: int = 16,
    overhead_bytes: float = ENGINE_OVERHEAD_BYTES,
) -> int:
    """Return the tokens of KV cache that an engine of the kind of vLLM has on one card, or on several.

    ``block floor((utilization card - weights/tp - 1.2 GB) / (block kv/tp)) - block``: of each of the tp cards the
    engine takes a share, and weights and KV cache are spread evenly; one block serves as null.

    Parameters
    ----------
    card_bytes
        Memory of one card as CUDA reports it: about 25.25e9 of 24 GB, 85.0e9 of 80 GB.
    weight_bytes, kv_bytes_per_token
        Of the whole model.

    Raises
    ------
    UserError
        Where nothing is left for a block.
    """
    free_bytes = utilization * card_bytes - weight_bytes / tensor_parallel - overhead_bytes
    blocks = math.floor(free_bytes / (block_tokens * kv_bytes_per_token / tensor_parallel)) - 1
    if blocks < 1:
        raise UserError(
            f"KV capacity: {utilization:g} of {card_bytes / 1e9:g} GB leaves no room beside "
            f"{weight_bytes / tensor_parallel / 1e9:.2f} GB of weights a card; take more cards or a smaller model"
        )
    return block_tokens * blocks
