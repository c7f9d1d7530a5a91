"""Roofline times and memory against the values derived by hand, and against the latency law that the simulator uses."""

from __future__ import annotations

import pytest

from mbexp.theory import roofline


def test_the_size_of_qwen3_1_7b() -> None:
    model = roofline.QWEN3_1_7B
    assert model.parameters == 1_720_574_976
    assert model.weight_bytes / 1e9 == pytest.approx(3.441, abs=5e-4)
    assert model.kv_bytes_per_token == 114_688
    assert model.attention_flop_per_square_token == 114_688
    assert model.layer_matrices / 1e9 == pytest.approx(1.4093, abs=5e-5)
    assert 2 * model.output_matrix / 1e9 == pytest.approx(0.6223, abs=5e-5)
    assert (model.layer_matrices + model.output_matrix) / 1e9 == pytest.approx(1.7204, abs=6e-5)
    # the original's figure: 24 layers, no grouped queries
    assert roofline.ModelShape(layers=24, kv_heads=16).kv_bytes_per_token == 196_608


@pytest.mark.parametrize(
    ("card", "fixed", "short", "long"),
    [
        ("RTX 4080 16 GB", 6.248, 0.1092, 0.2185),
        ("RTX 4080 Laptop 12 GB", 9.971, 0.1812, 0.3625),
        ("A100 40 GB", 3.203, 0.0503, 0.1007),
        ("A100 80 GB", 2.585, 0.0384, 0.0768),
        ("H100 SXM", 1.808, 0.0234, 0.0467),
        ("H200", 1.443, 0.0163, 0.0326),
    ],
)
def test_the_cards(card: str, fixed: float, short: float, long: float) -> None:
    assert roofline.step_fixed_ms(roofline.CARDS[card]) == pytest.approx(fixed, abs=5.1e-4)
    assert roofline.step_per_request_ms(roofline.CARDS[card], 512) == pytest.approx(short, abs=5.1e-5)
    assert roofline.step_per_request_ms(roofline.CARDS[card], 1024) == pytest.approx(long, abs=5.1e-5)


@pytest.mark.parametrize(
    ("card", "steps"),
    [
        ("RTX 4080 16 GB", [6.36, 7.12, 9.74, 13.24, 22.11]),
        ("A100 80 GB", [2.62, 2.89, 3.81, 5.04, 7.87]),
        ("H100 SXM", [1.83, 2.00, 2.56, 3.30, 4.80]),
    ],
)
def test_decode_steps(card: str, steps: list[float]) -> None:
    for batch, step in zip((1, 8, 32, 64, 128), steps, strict=True):
        assert roofline.decode_step_ms(roofline.CARDS[card], batch, 512) == pytest.approx(step, abs=5.1e-3)


def test_prefill() -> None:
    for tokens, slow, fast in ((256, 13.1, 1.84), (1024, 53.0, 5.77), (4096, 247, 24.9)):
        assert roofline.prefill_ms(roofline.CARDS["RTX 4080 16 GB"], tokens) == pytest.approx(slow, rel=5e-3)
        assert roofline.prefill_ms(roofline.CARDS["H100 SXM"], tokens) == pytest.approx(fast, rel=3e-3)


def test_kv_capacity() -> None:
    for memory, tokens in ((12e9, 55_444), (16e9, 86_834), (80e9, 589_066), (141e9, 1_067_756)):
        assert roofline.kv_capacity_tokens(memory) == tokens


def test_the_originals_step_is_below_one_reading_of_the_weights() -> None:
    # desktop RTX 4070 (504 GB/s) and RTX 4080 Laptop (432 GB/s), 12 GB each, at their full bandwidth
    for bandwidth, time in ((504, 6.8), (432, 8.0)):
        bare = roofline.Card(bandwidth, 60, bandwidth_efficiency_weights=1)
        assert roofline.weights_ms(bare) == pytest.approx(time, abs=0.05)
        assert roofline.weights_ms(bare) > 5.742
