"""Laws and memory against the reference values: published card numbers and values derived by hand from them."""

import numpy as np
import pytest

from mbexp.config.gpu_keys import GpuConfig, LawConfig
from mbexp.config.keys import SlaConfig
from mbexp.config.scheduler_keys import SchedulerConfig
from mbexp.hardware import MODEL_CARDS, build_law, check_sla, kv_capacity_tokens, largest_batch
from mbexp.hardware.grid import PACKAGED_GRIDS, read_grid
from mbexp.hardware.laws.grid_fit import fit_affine
from mbexp.hardware.laws.roofline import iteration_form

ORIGINAL_GRID = "rtx4080_qwen3_1_7b_generated.csv"


def roofline(card):
    return build_law(GpuConfig(name=card, law=LawConfig(kind="roofline", card=card)))


# card: c0 ms, c1 ms per request at context 512 and 1024
STEPS = {
    "rtx4080_16gb": (6.248, 0.1092, 0.2185),
    "rtx4080_laptop_12gb": (9.971, 0.1812, 0.3625),
    "a100_40gb": (3.203, 0.0503, 0.1007),
    "a100_80gb": (2.585, 0.0384, 0.0768),
    "h100": (1.808, 0.0234, 0.0467),
    "h200": (1.443, 0.0163, 0.0326),
}


@pytest.mark.parametrize("card", STEPS)
def test_roofline_fixed_and_per_request_time_of_a_step(card):
    price = iteration_form(LawConfig(kind="roofline", card=card))
    c0_ms, c1_512_ms, c1_1024_ms = STEPS[card]
    assert 1e3 * (price.fixed_s + price.floor_s) == pytest.approx(c0_ms, abs=6e-4)
    assert 1e3 * price.context_s * 512 == pytest.approx(c1_512_ms, abs=6e-5)
    assert 1e3 * price.context_s * 1024 == pytest.approx(c1_1024_ms, abs=6e-5)


@pytest.mark.parametrize(
    ("card", "steps_ms"),
    [
        ("rtx4080_16gb", (6.36, 7.12, 9.74, 13.24, 22.11)),
        ("a100_80gb", (2.62, 2.89, 3.81, 5.04, 7.87)),
        ("h100", (1.83, 2.00, 2.56, 3.30, 4.80)),
    ],
)
def test_roofline_decode_step_at_context_512(card, steps_ms):
    law = roofline(card)
    for batch_size, step_ms in zip((1, 8, 32, 64, 128), steps_ms, strict=True):
        assert 1e3 * law.decode_step_s(batch_size, 512 * batch_size) == pytest.approx(step_ms, abs=6e-3)
        # A batch of outputs of two tokens takes its one decode step at prompt + 1 tokens.
        assert 1e3 * law.service(batch_size, 511, 2)[2] == pytest.approx(step_ms, abs=6e-3)


@pytest.mark.parametrize(("card", "prefills_ms"), [("rtx4080_16gb", (13.1, 53.0, 247)), ("h100", (1.84, 5.77, 24.9))])
def test_roofline_prefill(card, prefills_ms):
    law = roofline(card)
    for prompt_tokens, prefill_ms in zip((256, 1024, 4096), prefills_ms, strict=True):
        assert 1e3 * law.prefill_s(1, prompt_tokens) == pytest.approx(prefill_ms, rel=5e-3)
        assert 1e3 * law.service(1, prompt_tokens, 1)[0] == pytest.approx(prefill_ms, rel=5e-3)


@pytest.mark.parametrize(("memory_gb", "tokens"), [(12, 55_444), (16, 86_834), (80, 589_066), (141, 1_067_756)])
def test_kv_capacity(memory_gb, tokens):
    assert kv_capacity_tokens(GpuConfig(memory_gb=memory_gb, kv_bytes_per_token=114_688)) == tokens


def test_model_card_reproduces_the_published_size():
    card = MODEL_CARDS["qwen3_1_7b"]
    assert card.parameters == 1_720_574_976
    assert card.kv_bytes_per_token == 114_688
    assert card.decode_flops_per_token / 2 == pytest.approx(1.7204e9, rel=1e-4)
    assert card.prefill_flops_per_token / 2 == pytest.approx(1.4093e9, rel=1e-4)
    assert card.prefill_flops_per_sequence == pytest.approx(0.6223e9, rel=1e-4)
    assert card.prefill_flops_per_square == 114_688


@pytest.mark.parametrize(
    ("token_ms", "batch"),
    [(5.7, 0), (6.75, 2), (7.0, 3), (7.2, 5), (7.3, 7), (7.4, 11), (7.5, 32), (7.53, 68), (7.5565, 1_000_000)],
)
def test_largest_batch_that_the_original_law_allows(token_ms, batch):
    law = build_law(GpuConfig())
    # 7.5565 is the limit beta (1 + gamma) rounded up: no batch reaches it.
    assert law.batch.parameters[1] * (1 + law.batch.parameters[2]) < 7.5565e-3
    assert largest_batch(law, token_ms / 1e3, 1_000_000) == batch


def test_original_law_is_the_least_squares_fit_of_its_grid():
    alpha_s, beta_s, gamma = fit_affine(read_grid(ORIGINAL_GRID))
    assert (1e3 * alpha_s, 1e3 * beta_s) == (pytest.approx(59.65, abs=5e-3), pytest.approx(5.742, abs=5e-4))
    assert gamma == pytest.approx(0.316, abs=5e-4)
    assert (PACKAGED_GRIDS / ORIGINAL_GRID).is_file()


def test_linear_law_of_p2_throughput():
    law = build_law(GpuConfig(law=LawConfig(kind="linear", length="output")))
    for token_ms, throughput in ((50, 1818), (80, 2841)):
        # At the real-valued batch of P2's figure, tau = D.
        batch_size = (token_ms - 30) / 0.22
        step_s = np.interp(batch_size, [1, 1000], [law.decode_step_s(size, 0) for size in (1, 1000)])
        assert batch_size / step_s == pytest.approx(throughput, abs=1)
    assert law.service(100, 7, 12) == pytest.approx((12 * 0.052, 0.052, 0.052))


def test_affine_law_with_either_length():
    both = build_law(GpuConfig())
    h = 1 + 0.316 * 7 / 8
    assert both.service(8, 100, 300) == pytest.approx((0.05965 + 0.005742 * 400 * h, 0.05965, 0.005742 * h))
    # The longest total need not be the sum of the longest prompt and the longest output.
    assert both.service(8, 100, 300, 350)[0] == pytest.approx(0.05965 + 0.005742 * 350 * h)
    output = build_law(GpuConfig(law=LawConfig(length="output")))
    assert output.service(8, 100, 300)[0] == pytest.approx(0.05965 + 0.005742 * 300 * h)
    assert both.decode_step_s(8, 12345) == pytest.approx(0.005742 * h)
    assert both.prefill_s(1, 100) == pytest.approx(0.05965 + 0.005742 * 100)
    assert output.prefill_s(3, 100) == pytest.approx(0.05965)


@pytest.mark.parametrize(("batch_size", "prompt", "output"), [(1, 10, 1), (3, 700, 2), (64, 1, 900), (200, 512, 77)])
def test_roofline_closed_form_is_the_sum_of_its_iterations(batch_size, prompt, output):
    law = roofline("a100_80gb")
    steps = [law.decode_step_s(batch_size, batch_size * (prompt + k)) for k in range(1, output)]
    prefill_s = law.prefill_s(batch_size, prompt)
    service_s, first_token_s, step_s = law.service(batch_size, prompt, output)
    assert first_token_s == pytest.approx(prefill_s)
    assert service_s == pytest.approx(prefill_s + sum(steps))
    following = law.decode_step_s(batch_size, batch_size * (prompt + 1))
    assert step_s == pytest.approx(np.mean(steps) if steps else following)


def sentences(sla, scheduler=None, gpu=None):
    return check_sla(build_law(gpu or GpuConfig()), sla, scheduler or SchedulerConfig())


@pytest.mark.parametrize(
    ("token_ms", "expected"),
    [
        (10, "sla.token_ms=10 cannot bind: under this law no batch of up to 128 requests takes more than 7.542 ms"),
        (5.7, "sla.token_ms=5.7 cannot be met: under this law a batch of one request already takes 5.742 ms"),
        (7.4, "sla.token_ms=7.4 allows batches of up to 11 (of at most 128) under this law"),
    ],
)
def test_token_target_that_cannot_bind_or_be_met_is_said(token_ms, expected):
    said = sentences(SlaConfig(token_ms=token_ms))
    assert len(said) == 1
    assert said[0].startswith(expected)


def test_request_target_below_the_shortest_request_is_said():
    # alpha + 2 beta = 71.1 ms
    assert not [s for s in sentences(SlaConfig(request_s=0.072)) if "request_s" in s]
    assert "sla.request_s=0.07 cannot be met" in sentences(SlaConfig(request_s=0.07))[-1]


def test_smallest_batch_beyond_the_token_target_is_said():
    said = sentences(SlaConfig(token_ms=7.0), SchedulerConfig(batch_size_min=4))
    assert "allows no batch of scheduler.batch_size_min=4" in said[-1]


def test_token_target_names_both_contexts_where_the_context_counts():
    gpu = GpuConfig(law=LawConfig(kind="roofline", card="h100", length_range_tokens=[1, 4096]))
    law = build_law(gpu)
    said = sentences(SlaConfig(token_ms=5), SchedulerConfig(batch_size_max=512), gpu)
    short, long = largest_batch(law, 0.005, 512), largest_batch(law, 0.005, 512, 4094)
    assert 512 >= short > long > 0
    assert said == [
        f"sla.token_ms=5 allows batches of up to {short} of short requests, {long} at a context of 4096 tokens "
        "(of at most 512) under this law"
    ]
