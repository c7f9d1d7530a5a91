"""A model card from the config.json that Hugging Face keeps beside weights: dense, grouped queries, experts."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from mbexp.config.model_card import ModelCard
from mbexp.errors import UserError

KEY = "gpu.law.model"
WIDTHS = {"bfloat16": 2, "float16": 2, "float32": 4}
EXPERTS = ("num_experts", "num_local_experts")  # of Qwen3-MoE; of Mixtral
# What changes weights, cache or work in a way that a model card does not hold, and how it is called.
BEYOND = {
    "quantization_config": "quantised weights; gpu=aiconfigurator knows some",
    "kv_lora_rank": "latent attention (MLA)",
    "n_routed_experts": "experts beside shared ones",
    "n_shared_experts": "shared experts",
    "shared_expert_intermediate_size": "shared experts",
    "mlp_only_layers": "layers with and without experts",
    "first_k_dense_replace": "layers with and without experts",
}


def model_path(name: str) -> Path | None:
    """Return the file that ``gpu.law.model`` names where it names one, None where it is the name of a card."""
    if "/" not in name and "\\" not in name and not name.endswith(".json"):
        return None
    path = Path(name).expanduser()
    return path / "config.json" if path.is_dir() else path


def label_of(path: Path) -> str:
    """Return a short name of a model's file: its folder's, where the file has the usual name."""
    stem = path.resolve().parent.name if path.name == "config.json" else path.stem
    return "".join(letter if letter.isalnum() else "_" for letter in stem).strip("_").lower() or "model"


def read_model(path: Path) -> ModelCard:
    """Return the model that a config.json describes.

    Raises
    ------
    UserError
        Where the file cannot be read, lacks a number, or describes what a model card does not hold.
    """
    try:
        return _read(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise UserError(f"{KEY}={path}: cannot be read ({error.strerror or error})") from None


@functools.lru_cache(maxsize=32)
def _read(path: Path, _changed_ns: int) -> ModelCard:
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(f"{KEY}={path}: is no JSON; it must be the config.json of a Hugging Face model") from None
    if not isinstance(values, dict):
        raise UserError(f"{KEY}={path}: must hold an object of keys, as the config.json of a Hugging Face model does")
    for key, what in BEYOND.items():
        if values.get(key):
            raise UserError(f"{KEY}={path}: has {key}: {what} are not supported")
    windows = "sliding_attention" in (values.get("layer_types") or ())
    if windows or (values.get("sliding_window") and values.get("use_sliding_window", True)):
        raise UserError(f"{KEY}={path}: has sliding_window: attention to a window is not supported")
    if values.get("decoder_sparse_step", 1) != 1:
        raise UserError(f"{KEY}={path}: has decoder_sparse_step: layers with and without experts are not supported")

    def number(key: str, usual: int | None = None) -> int:
        value = values.get(key)
        value = usual if value is None else value
        if value is None:
            raise UserError(f"{KEY}={path}: has no {key}, which the config.json of a decoder has")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"{KEY}={path}: {key}={value!r}: must be a whole number of at least 1")
        return value

    width = values.get("torch_dtype") or values.get("dtype") or "bfloat16"
    if width not in WIDTHS:
        raise UserError(f"{KEY}={path}: torch_dtype={width}: must be one of {', '.join(WIDTHS)}")
    hidden, heads = number("hidden_size"), number("num_attention_heads")
    experts = next((number(key) for key in EXPERTS if values.get(key)), 0)
    active = number("num_experts_per_tok") if experts else 0
    if active > experts:
        raise UserError(f"{KEY}={path}: num_experts_per_tok={active}: exceeds the {experts} experts")
    kv_heads = number("num_key_value_heads", heads)
    if heads % kv_heads:
        raise UserError(f"{KEY}={path}: num_key_value_heads={kv_heads}: does not divide the {heads} attention heads")
    return ModelCard(
        name=label_of(path),
        layers=number("num_hidden_layers"),
        hidden=hidden,
        query_heads=heads,
        kv_heads=kv_heads,
        head_dim=number("head_dim", hidden // heads),
        mlp=number("moe_intermediate_size", values.get("intermediate_size"))
        if experts
        else number("intermediate_size"),
        vocabulary=number("vocab_size"),
        tied_embeddings=bool(values.get("tie_word_embeddings", False)),
        query_key_norm=str(values.get("model_type", "")).startswith("qwen3"),
        longest_context_tokens=number("max_position_embeddings", 2**20),
        bytes_per_value=WIDTHS[width],
        experts=experts,
        active_experts=active,
    )
