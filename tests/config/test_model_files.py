"""Models from a Hugging Face config.json: the shipped cards again, parameter counts of their makers, and bad files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from mbexp import UserError, configure
from mbexp.config.cards import GPU_CARDS, MODEL_CARDS, find_model_card
from mbexp.hardware import build_law
from mbexp.hardware.laws.roofline import iteration_form

# What the published files hold of these keys.
LLAMA = {"model_type": "llama", "torch_dtype": "bfloat16", "vocab_size": 128_256, "tie_word_embeddings": False,
         "max_position_embeddings": 131_072, "num_key_value_heads": 8}  # fmt: skip
QWEN = {"model_type": "qwen3", "torch_dtype": "bfloat16", "vocab_size": 151_936, "max_position_embeddings": 40_960,
        "head_dim": 128, "num_key_value_heads": 8, "sliding_window": None, "use_sliding_window": False}  # fmt: skip
FILES = {
    "llama31_8b": LLAMA | {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
                           "intermediate_size": 14_336},
    "llama31_70b": LLAMA | {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64,
                            "intermediate_size": 28_672},
    "qwen3_1_7b": QWEN | {"hidden_size": 2048, "num_hidden_layers": 28, "num_attention_heads": 16,
                          "intermediate_size": 6144, "tie_word_embeddings": True},
    "qwen3_8b": QWEN | {"hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32,
                        "intermediate_size": 12_288, "tie_word_embeddings": False},
    "qwen3_32b": QWEN | {"hidden_size": 5120, "num_hidden_layers": 64, "num_attention_heads": 64,
                         "intermediate_size": 25_600, "tie_word_embeddings": False},
    "qwen3_30b_a3b": QWEN | {"model_type": "qwen3_moe", "hidden_size": 2048, "num_hidden_layers": 48,
                             "num_attention_heads": 32, "num_key_value_heads": 4, "intermediate_size": 6144,
                             "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8,
                             "decoder_sparse_step": 1, "mlp_only_layers": [], "tie_word_embeddings": False},
}  # fmt: skip
MIXTRAL = {"model_type": "mixtral", "torch_dtype": "bfloat16", "hidden_size": 4096, "num_hidden_layers": 32,
           "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14_336, "vocab_size": 32_000,
           "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None, "tie_word_embeddings": False,
           "max_position_embeddings": 32_768}  # fmt: skip


def write(folder: Path, values: object) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
    return str(folder / "config.json")


@pytest.mark.parametrize("name", FILES)
def test_a_file_says_what_the_shipped_card_says(name, tmp_path):
    path = write(tmp_path / "It is named so", FILES[name])
    card = MODEL_CARDS[name]
    assert dataclasses.replace(find_model_card(path), name=card.name) == card
    gpu = configure(gpu="roofline_h100", **{"gpu.law.model": path}).gpu
    other = configure(gpu="roofline_h100", **{"gpu.law.model": name}).gpu
    assert (gpu.weights_gb, gpu.kv_bytes_per_token) == (other.weights_gb, other.kv_bytes_per_token)
    assert gpu.name == "roofline_h100_it_is_named_so"
    assert iteration_form(gpu.law) == iteration_form(other.law)
    law = build_law(gpu)
    assert law.notes == ()
    assert law.service(8, 500, 100) == build_law(other).service(8, 500, 100)


def test_parameters_are_those_that_the_makers_count(tmp_path):
    mixtral = find_model_card(write(tmp_path / "a", MIXTRAL))
    assert mixtral.parameters == 46_702_792_704
    # 12.9e9 active, of which the embedding of 131e6 is looked up and not multiplied.
    assert mixtral.decode_flops_per_token / 2 == pytest.approx(12.88e9 - 0.131e9, rel=1e-3)
    mistral = {key: value for key, value in MIXTRAL.items() if "experts" not in key} | {"vocab_size": 32_768}
    assert find_model_card(write(tmp_path / "b", mistral)).parameters == 7_248_023_552
    no_groups = {key: value for key, value in mistral.items() if key != "num_key_value_heads"}
    assert find_model_card(write(tmp_path / "c", no_groups)).kv_bytes_per_token == 4 * 32 * 4096
    assert find_model_card(str(tmp_path / "c")).kv_heads == 32  # a folder is enough


def test_a_step_of_experts_reads_those_that_its_tokens_meet(tmp_path):
    path = write(tmp_path / "mixtral", MIXTRAL)
    law = build_law(configure(gpu="roofline_h100", **{"gpu.law.model": path}).gpu)
    bandwidth = GPU_CARDS["h100"].bandwidth_gb_per_s * 1e9 * 0.85
    expert_bytes = 2 * 32 * 3 * 4096 * 14_336
    other_bytes = 2 * (46_702_792_704 - 32_000 * 4096) - 8 * expert_bytes
    for b in (1, 4):
        read_s = (other_bytes + 8 * expert_bytes * (1 - 0.75**b)) / bandwidth
        assert law.decode_step_s(b, 0) == pytest.approx(0.6e-3 + read_s, rel=1e-9)
    # Two experts of eight for one token; far more tokens read them all.
    assert law.decode_step_s(256, 0) > other_bytes / bandwidth + 8 * expert_bytes / bandwidth
    # A batch run to completion is a prefill and its decode steps.
    service_s, first_s, step_s = law.service(4, 100, 11)
    assert first_s == pytest.approx(law.prefill_s(4, 100), rel=1e-3)  # but for the output head
    assert service_s == pytest.approx(first_s + sum(law.decode_step_s(4, 4 * (100 + k)) for k in range(1, 11)))
    assert step_s == pytest.approx((service_s - first_s) / 10)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([1], "must hold an object of keys"),
        ({"hidden_size": 4096}, "has no num_attention_heads"),
        (MIXTRAL | {"hidden_size": "big"}, "hidden_size='big': must be a whole number of at least 1"),
        (MIXTRAL | {"num_hidden_layers": 0}, "num_hidden_layers=0: must be a whole number of at least 1"),
        (MIXTRAL | {"torch_dtype": "int4"}, "torch_dtype=int4: must be one of bfloat16"),
        (MIXTRAL | {"quantization_config": {"quant_method": "fp8"}}, "has quantization_config: quantised weights"),
        (MIXTRAL | {"kv_lora_rank": 512}, "has kv_lora_rank: latent attention"),
        (MIXTRAL | {"shared_expert_intermediate_size": 512}, "shared experts are not supported"),
        (MIXTRAL | {"sliding_window": 4096}, "has sliding_window: attention to a window is not supported"),
        (MIXTRAL | {"num_experts_per_tok": 9}, "num_experts_per_tok=9: exceeds the 8 experts"),
        (MIXTRAL | {"num_key_value_heads": 5}, "num_key_value_heads=5: does not divide the 32 attention heads"),
        (MIXTRAL | {"decoder_sparse_step": 2}, "has decoder_sparse_step"),
    ],
)
def test_a_bad_file_is_one_line(values, told, tmp_path):
    path = write(tmp_path, values)
    with pytest.raises(UserError) as raised:
        configure(gpu="roofline_h100", **{"gpu.law.model": path})
    assert str(raised.value).startswith(f"gpu.law.model={path}: ")
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_file_and_no_json_are_one_line(tmp_path):
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    for name, told in (("broken.json", "is no JSON"), ("none.json", "cannot be read")):
        with pytest.raises(UserError, match=f"gpu.law.model=.*{name}: {told}"):
            configure(gpu="roofline_h100", **{"gpu.law.model": str(tmp_path / name)})


def test_a_run_is_known_by_what_the_file_holds(tmp_path):
    from mbexp.results.store import named_files, names_files

    path = write(tmp_path, MIXTRAL)
    config = configure(gpu="roofline_h100", **{"gpu.law.model": path})
    before = named_files(config)
    assert names_files(config)
    write(tmp_path, MIXTRAL | {"vocab_size": 32_001})
    assert named_files(config) != before
