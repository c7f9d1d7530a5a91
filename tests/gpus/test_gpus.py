"""The cards that ship: every file complete, sane and consistent with its model and memory; the list fits a terminal."""

from __future__ import annotations

import json
import math
import re

import pytest

from mbexp.config.cards import GPU_CARDS, MODEL_CARDS
from mbexp.config.compose import configure
from mbexp.errors import UserError
from mbexp.gpus.__main__ import main, shipped_cards, table
from mbexp.hardware import build_law, kv_capacity_tokens
from mbexp.hardware.memory import engine_kv_tokens
from tests import ROOT, SHARED

CARDS = [
    path for path in sorted((ROOT / "conf" / "gpu").glob("*.yaml")) if "kind: step" in path.read_text(encoding="utf-8")
]
ERRORS = re.compile(
    r"median and worst of [^:]+: decode ([\d.]+) and ([\d.]+) %, prefill ([\d.]+) and ([\d.]+) %, "
    r"mixed ([\d.]+) and ([\d.]+) %"
)
RUN = SHARED / "measured" / "llmservingsim" / "runs" / "RTX4090" / "Llama-3.1-8B" / "meta.json"
# Parameters and KV bytes a token as the models' pages state them: 8.03, 70.6, 8.2, 32.8 and 30.5 billion.
BILLIONS = {"llama31_8b": 8.03, "llama31_70b": 70.6, "qwen3_8b": 8.2, "qwen3_32b": 32.8, "qwen3_30b_a3b": 30.5}
KV_BYTES = {
    "llama31_8b": 131_072,
    "llama31_70b": 327_680,
    "qwen3_8b": 147_456,
    "qwen3_32b": 262_144,
    "qwen3_30b_a3b": 98_304,
}


@pytest.mark.parametrize("model", BILLIONS)
def test_models_have_the_size_that_their_pages_state(model):
    card = MODEL_CARDS[model]
    assert card.parameters / 1e9 == pytest.approx(BILLIONS[model], rel=0.005)
    assert card.kv_bytes_per_token == KV_BYTES[model]


def test_the_pairs_that_people_use_are_there():
    laws = [configure(gpu=path.stem).gpu.law for path in CARDS]
    assert len(laws) >= 20
    assert {law.model for law in laws} == set(BILLIONS)
    assert {law.card for law in laws} >= {"rtx4090", "rtxpro6000", "l40s", "a100_80gb", "h100", "h200", "b200"}


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_card_is_complete(path):
    gpu = configure(gpu=path.stem).gpu
    law, text = gpu.law, path.read_text(encoding="utf-8")
    tp, model = law.tensor_parallel, MODEL_CARDS[law.model]
    start = law.card.removesuffix("_80gb")
    assert gpu.name == path.stem == f"{start}_{law.model}" + (f"_tp{tp}" if tp > 1 else "")
    assert re.search(r"vLLM \d+\.\d+\.\d+", law.provenance)
    for part in ("made by: python scripts/make_gpu_cards.py", "error against an engine:", "USD a card", "20"):
        assert part in text
    errors = [float(value) for value in ERRORS.search(text).groups()]
    assert all(0 < median <= worst for median, worst in zip(errors[::2], errors[1::2], strict=True))
    assert errors[0] < 6 and errors[2] < 10 and errors[4] < 10  # noqa: PT018
    assert gpu.price_per_hour > 0
    assert law.batch_size_range == [1, 256]
    assert law.length_range_tokens[1] >= 8192
    # Memory: the weights, the cache that is stated and the overhead fit the share; and the cache is the formula's.
    held_gb = gpu.weights_gb + gpu.kv_capacity_tokens * gpu.kv_bytes_per_token / 1e9
    assert held_gb + gpu.overhead_gb < gpu.usable_fraction * gpu.memory_gb
    assert gpu.memory_gb / tp == pytest.approx(GPU_CARDS[law.card].memory_gb, rel=0.08)
    formula = engine_kv_tokens(
        gpu.memory_gb * 1e9 / tp, model.weight_bytes, model.kv_bytes_per_token, tp, gpu.usable_fraction
    )
    assert kv_capacity_tokens(gpu) == pytest.approx(formula, rel=0.015)
    # A decode step of one request reads every weight that is active: no faster than the memory of its cards.
    built = build_law(gpu)
    shared = model.layers * 2 * model.hidden * model.head_dim * (model.query_heads + model.kv_heads)
    active = shared + model.layers * 3 * model.hidden * model.mlp * max(model.active_experts, 1)
    assert built.decode_step_s(1, 128) > 2 * active / (1.05e9 * tp * GPU_CARDS[law.card].bandwidth_gb_per_s)
    # Nor does a prompt compute faster than the peak.
    assert built.prefill_s(1, 8192) > 2 * active * 8192 / (1.05e12 * tp * GPU_CARDS[law.card].dense_tflops)


@pytest.mark.skipif(not RUN.exists(), reason="recorded runs are not ours to ship")
def test_the_kv_capacity_is_what_an_engine_recorded():
    recorded = json.loads(RUN.read_text(encoding="utf-8"))
    blocks = recorded["kv_cache"]["num_gpu_blocks"] - 1
    total = recorded["hardware"]["device_total_memory_bytes"]
    model = MODEL_CARDS["llama31_8b"]
    formula = engine_kv_tokens(total, model.weight_bytes, model.kv_bytes_per_token, 1, 0.9)
    assert formula == pytest.approx(16 * blocks, rel=0.015)
    assert configure(gpu="rtx4090_llama31_8b").gpu.kv_capacity_tokens == 16 * blocks


def test_the_kv_capacity_worked_out_by_hand():
    # 0.9 x 25.25 GB - 16 GB - 1.2 GB = 5.525 GB; a block of 16 tokens takes 2,097,152 bytes: 2634 blocks, one null.
    assert engine_kv_tokens(25.25e9, 16e9, 131_072, 1, 0.9) == 16 * (math.floor(5.525e9 / 2_097_152) - 1) == 42_128
    # Two cards hold half the weights each, and half of every token.
    assert engine_kv_tokens(25.25e9, 16e9, 131_072, 2, 0.9) == 16 * (math.floor(13.525e9 / 1_048_576) - 1)
    with pytest.raises(UserError, match=r"leaves no room beside 16\.00 GB of weights a card; take more cards"):
        engine_kv_tokens(17e9, 16e9, 131_072, 1, 0.9)


@pytest.mark.parametrize("width", [80, 200])
def test_the_list_fits_and_has_every_card(width):
    cards = shipped_cards()
    lines = table(cards, width)
    assert max(len(line) for line in lines) <= width
    text = "\n".join(lines)
    assert [path.stem for path in CARDS] == sorted(card.name for card in cards)
    for card in cards:
        (line,) = [line for line in lines if line.split()[:1] == [card.name]]
        assert f"{card.kv_tokens:,}" in line
        assert f"{card.step_1_ms:.1f}" in line
        assert f"{card.price_per_hour:.2f}" in line
    assert "kernel tables" in text
    if width == 200:
        assert all(f"{card.card}: {card.source}" in text for card in cards)


def test_a_row_shows_the_steps_of_its_law():
    (card,) = [card for card in shipped_cards() if card.name == "h100_llama31_8b"]
    law = configure(gpu="h100_llama31_8b").gpu.law
    step_ms = law.fixed_ms + max(law.floor_ms, 64 * law.compute_ms) + 64 * law.sequence_ms
    assert card.step_64_ms == pytest.approx(step_ms + law.context_us * 64 * 1024 / 1e3)


def test_a_word_that_no_card_has_is_one_line(capsys):
    assert main(["h300"]) == 1
    assert capsys.readouterr().err.startswith("mbexp.gpus: h300: no card has it in its name; there are a100, b200")
    assert main(["h100", "tp4"]) == 0
    assert "h100_llama31_70b_tp4" in capsys.readouterr().out
