"""GPU cards and model cards: the published numbers that the roofline law is made of; add yours here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mbexp.errors import UserError, unknown_choice


@dataclass(frozen=True)
class GpuCard:
    """What a data sheet says of a GPU.

    Attributes
    ----------
    name : str
        As the maker writes it.
    memory_gb : float
        1e9 bytes.
    bandwidth_gb_per_s : float
        Peak memory bandwidth, 1e9 bytes per second.
    dense_tflops : float
        Peak of 16-bit matrix products without sparsity, 1e12 operations per second.
    """

    name: str
    memory_gb: float
    bandwidth_gb_per_s: float
    dense_tflops: float


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
        return 2 * (self.block_weights + self.head_weights)

    @property
    def prefill_flops_per_token(self) -> int:
        """Operations for one prompt token: the output head is not needed for it."""
        return 2 * self.block_weights

    @property
    def prefill_flops_per_sequence(self) -> int:
        """Operations of the output head, once a prompt."""
        return 2 * self.head_weights

    @property
    def prefill_flops_per_square(self) -> int:
        """Operations of causal attention over a prompt of n tokens, per n**2: two products, half of each needed."""
        return 2 * self.layers * self.query_heads * self.head_dim


# Sources: NVIDIA data sheets of the A100 (2021), L40S and H100 (2023), H200 (2024), B200 and RTX PRO 6000 (2025), and
# the Ada GPU architecture white paper (16-bit tensor peak with 32-bit accumulation); the laptop's peak is at its boost
# clock and depends on its power limit.
GPU_CARDS: dict[str, GpuCard] = {
    "rtx4080_16gb": GpuCard("NVIDIA GeForce RTX 4080 16 GB", 16.0, 716.8, 97.5),
    "rtx4080_laptop_12gb": GpuCard("NVIDIA GeForce RTX 4080 Laptop 12 GB", 12.0, 432.0, 67.7),
    "rtx4090": GpuCard("NVIDIA GeForce RTX 4090", 24.0, 1008.0, 165.2),
    "rtxpro6000": GpuCard("NVIDIA RTX PRO 6000 Blackwell Server Edition", 96.0, 1597.0, 503.8),
    "l40s": GpuCard("NVIDIA L40S", 48.0, 864.0, 362.05),
    "a100_40gb": GpuCard("NVIDIA A100 40 GB", 40.0, 1555.0, 312.0),
    "a100_80gb": GpuCard("NVIDIA A100 80 GB", 80.0, 2039.0, 312.0),
    "h100": GpuCard("NVIDIA H100 SXM", 80.0, 3350.0, 989.4),
    "h200": GpuCard("NVIDIA H200", 141.0, 4800.0, 989.4),
    "b200": GpuCard("NVIDIA B200", 180.0, 8000.0, 2250.0),
}

# Source: the models' published configurations; "tiny" is none, and lets mbexp.measure be tried on any machine.
MODEL_CARDS: dict[str, ModelCard] = {
    "qwen3_1_7b": ModelCard(
        name="Qwen3-1.7B",
        layers=28,
        hidden=2048,
        query_heads=16,
        kv_heads=8,
        head_dim=128,
        mlp=6144,
        vocabulary=151_936,
        tied_embeddings=True,
        query_key_norm=True,
        longest_context_tokens=40_960,
    ),
    "llama31_8b": ModelCard("Llama-3.1-8B", 32, 4096, 32, 8, 128, 14_336, 128_256, False, False, 131_072),
    "llama31_70b": ModelCard("Llama-3.1-70B", 80, 8192, 64, 8, 128, 28_672, 128_256, False, False, 131_072),
    "qwen3_8b": ModelCard("Qwen3-8B", 36, 4096, 32, 8, 128, 12_288, 151_936, False, True, 40_960),
    "qwen3_32b": ModelCard("Qwen3-32B", 64, 5120, 64, 8, 128, 25_600, 151_936, False, True, 40_960),
    "qwen3_30b_a3b": ModelCard(
        "Qwen3-30B-A3B", 48, 2048, 32, 4, 128, 768, 151_936, False, True, 40_960, experts=128, active_experts=8
    ),
    "tiny": ModelCard(
        name="a tiny model for tests",
        layers=2,
        hidden=64,
        query_heads=4,
        kv_heads=2,
        head_dim=16,
        mlp=96,
        vocabulary=256,
        tied_embeddings=True,
        query_key_norm=True,
        longest_context_tokens=4096,
    ),
}

USUAL_MODEL = "qwen3_1_7b"  # labels name any other

# Keys of the group `gpu` that card and model fill where they are null.
FACTS = ("name", "memory_gb", "weights_gb", "kv_bytes_per_token")


def find_gpu_card(name: str | None) -> GpuCard | None:
    """Return the card that ``gpu.law.card`` names, None where it is null."""
    if name is not None and name not in GPU_CARDS:
        raise unknown_choice("gpu.law.card", name, GPU_CARDS)
    return None if name is None else GPU_CARDS[name]


def find_model_card(name: str) -> ModelCard:
    """Return the model that ``gpu.law.model`` names."""
    if name not in MODEL_CARDS:
        raise unknown_choice("gpu.law.model", name, MODEL_CARDS)
    return MODEL_CARDS[name]


def facts(kind: str, card_name: str | None, model_name: str) -> dict[str, Any]:
    """Return what `FACTS` are under a kind of law, of a card and a model; the memory is None without a card."""
    card, model = find_gpu_card(card_name), find_model_card(model_name)
    label = [kind.rpartition(".")[2], card_name, None if model_name == USUAL_MODEL else model_name]
    return {
        "name": "_".join(part for part in label if part),
        "memory_gb": card and card.memory_gb,
        "weights_gb": round(model.weight_bytes / 1e9, 5),
        "kv_bytes_per_token": model.kv_bytes_per_token,
    }


def fill_facts(gpu: Mapping[str, Any], kind: str, card: str | None, model: str) -> dict[str, Any]:
    """Return the values of the group `gpu` with those of `FACTS` that are null filled from card and model.

    Raises
    ------
    UserError
        If the card or the model is unknown, or the memory is null and no card is named.
    """
    known = facts(kind, card, model)
    if gpu.get("memory_gb", 0) is None and known["memory_gb"] is None:
        raise UserError("gpu.memory_gb=null: no card to take it from; set it, or gpu.law.card")
    return fill(gpu, known)


def fill(gpu: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the group `gpu`, those that are null taken from what is known."""
    return {key: known.get(key) if value is None else value for key, value in gpu.items()}


# What a driver's name of a GPU holds; the first that matches. Variants with other numbers (H100 PCIe) match none.
_DRIVER_NAMES = {
    "H200": "h200",
    "H100 80GB HBM3": "h100",
    "A100-SXM4-80GB": "a100_80gb",
    "A100-SXM4-40GB": "a100_40gb",
    "A100-PCIE-40GB": "a100_40gb",
    "RTX 4080 Laptop": "rtx4080_laptop_12gb",
    "RTX 4080": "rtx4080_16gb",
}


def find_card(driver_name: str) -> str | None:
    """Return the card of `GPU_CARDS` that a driver calls `driver_name`, None where none is known to be it."""
    if "SUPER" in driver_name or "H200 NVL" in driver_name:
        return None
    return next((card for part, card in _DRIVER_NAMES.items() if part in driver_name), None)
