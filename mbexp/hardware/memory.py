"""How many tokens of KV cache fit one GPU."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mbexp.errors import UserError

if TYPE_CHECKING:
    from mbexp.config.keys import GpuConfig


def kv_capacity_tokens(gpu: GpuConfig) -> int:
    """Return eta, the tokens of KV cache that one GPU holds (P2, Algorithm 1).

    ``floor((usable_fraction memory - weights - overhead) / kv_bytes_per_token)``, or `gpu.kv_capacity_tokens` where
    that is given.

    Raises
    ------
    UserError
        Where the weights and the overhead leave no room for a single token.
    """
    if gpu.kv_capacity_tokens is not None:
        return gpu.kv_capacity_tokens
    free_bytes = (gpu.usable_fraction * gpu.memory_gb - gpu.weights_gb - gpu.overhead_gb) * 1e9
    capacity = math.floor(free_bytes / gpu.kv_bytes_per_token + 1e-9)
    if capacity < 1:
        raise UserError(
            f"gpu.memory_gb={gpu.memory_gb:g}: no room for the KV cache: {gpu.usable_fraction:g} of it is usable, and "
            f"weights ({gpu.weights_gb:g} GB) and overhead ({gpu.overhead_gb:g} GB) leave {free_bytes / 1e9:.2f} GB"
        )
    return capacity
