"""What a model card is: the architecture of a decoder, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelCard:
    """The architecture of a decoder-only transformer with grouped queries and a gated MLP, held in 16 bits.

    Everything else follows from these numbers; see the properties.
    """

    name: str
    layers: int
    hidden: int
    query_heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocabulary: int
    tied_embeddings: bool
    query_key_norm: bool
    longest_context_tokens: int
    bytes_per_value: int = 2
    experts: int = 0  # of a mixture of experts, whose MLPs have `mlp` each; 0: one MLP a layer
    active_experts: int = 0

    @property
    def block_weights(self) -> int:
        """Weights of the matrix products in all layers, without the output head; all experts and their router."""
        attention = 2 * self.hidden * self.head_dim * (self.query_heads + self.kv_heads)
        mlps = max(self.experts, 1) * 3 * self.hidden * self.mlp + self.hidden * self.experts
        return self.layers * (attention + mlps)

    @property
    def expert_weights(self) -> int:
        """Weights of all experts in all layers; 0 of a dense model."""
        return self.layers * self.experts * 3 * self.hidden * self.mlp

    @property
    def active_block_weights(self) -> int:
        """Of `block_weights`, those that one token is multiplied with."""
        idle = self.experts - self.active_experts
        return self.block_weights - self.layers * idle * 3 * self.hidden * self.mlp

    @property
    def head_weights(self) -> int:
        """Weights of the output head."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters, norms included."""
        norms = self.layers * (2 * self.hidden + (2 * self.head_dim if self.query_key_norm else 0)) + self.hidden
        embeddings = self.head_weights * (1 if self.tied_embeddings else 2)
        return self.block_weights + norms + embeddings

    @property
    def weight_bytes(self) -> int:
        """Memory that the parameters take."""
        return self.parameters * self.bytes_per_value

    @property
    def step_weight_bytes(self) -> int:
        """Bytes of weights that a decode step reads: all of them but an input embedding of its own."""
        unread = 0 if self.tied_embeddings else self.head_weights
        return (self.parameters - unread) * self.bytes_per_value

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values that one token leaves in the cache."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.bytes_per_value

    @property
    def decode_flops_per_token(self) -> int:
        """Operations of the matrix products for one token of a decode step."""
        return 2 * (self.active_block_weights + self.head_weights)

    @property
    def prefill_flops_per_token(self) -> int:
        """Operations for one prompt token: the output head is not needed for it."""
        return 2 * self.active_block_weights

    @property
    def prefill_flops_per_sequence(self) -> int:
        """Operations of the output head, once a prompt."""
        return 2 * self.head_weights

    @property
    def prefill_flops_per_square(self) -> int:
        """Operations of causal attention over a prompt of n tokens, per n**2: two products, half of each needed."""
        return 2 * self.layers * self.query_heads * self.head_dim
