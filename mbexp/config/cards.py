"""GPU cards and model cards: the published numbers that the roofline law is made of; add yours here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mbexp.config.model_card import ModelCard
from mbexp.config.model_files import label_of, model_path, read_model
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
    """Return the model that ``gpu.law.model`` names: one of `MODEL_CARDS`, or the path of a config.json."""
    if (path := model_path(name)) is not None:
        return read_model(path)
    if name not in MODEL_CARDS:
        raise unknown_choice("gpu.law.model", name, MODEL_CARDS)
    return MODEL_CARDS[name]


def facts(kind: str, card_name: str | None, model_name: str) -> dict[str, Any]:
    """Return what `FACTS` are under a kind of law, of a card and a model; the memory is None without a card."""
    card, model = find_gpu_card(card_name), find_model_card(model_name)
    path = model_path(model_name)
    named = model_name if path is None else label_of(path)
    label = [kind.rpartition(".")[2], card_name, None if model_name == USUAL_MODEL else named]
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
