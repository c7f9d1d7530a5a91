"""P2's model against printed values and its own definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbexp.errors import UserError
from mbexp.theory import dynamic_batching, lengths, multi_bin


@pytest.mark.parametrize(
    ("capacity", "mean", "sd", "listed", "digits"),
    [
        # the first row was computed from a mean and deviation that are given rounded: 2e-5 of relative difference
        (62_000, 704.1, 360.6, {0.05: 80.499, 0.01: 77.564, 0.001: 74.406}, 2e-3),
        (20_000, 800, 500, {0.05: 20.361, 0.01: 18.711, 0.001: 17.030}, 5.1e-4),
    ],
)
def test_algorithm_1_at_the_listed_points(capacity, mean, sd, listed, digits) -> None:
    for overflow, batch in listed.items():
        closed = dynamic_batching.memory_bound(capacity, mean, sd, overflow)
        assert closed == pytest.approx(batch, abs=digits)
        assert dynamic_batching.memory_bound_fixed_point(capacity, mean, sd, overflow) == pytest.approx(
            closed, rel=1e-9
        )
    assert math.floor(dynamic_batching.memory_bound(capacity, mean, 0, 0.05)) == math.floor(capacity / mean)


def test_without_a_buffer_88_fit() -> None:
    assert math.floor(dynamic_batching.memory_bound(62_000, 704.1, 0, 0.05)) == 88


@settings(max_examples=100, deadline=None)
@given(st.floats(1e3, 1e6), st.floats(10, 5e3), st.floats(1, 3e3), st.sampled_from([0.2, 0.05, 0.01, 0.001]))
def test_the_bound_overflows_exactly_as_often_as_allowed(capacity, mean, sd, overflow) -> None:
    batch = dynamic_batching.memory_bound(capacity, mean, sd, overflow)
    assert dynamic_batching.overflow_chance(capacity, mean, sd, batch) == pytest.approx(overflow, rel=1e-6)


def test_in_the_printed_rule_the_memory_cancels() -> None:
    theta = dynamic_batching.overflow_quantile(0.05)
    bounds = []
    for capacity in (20_000, 62_000, 1e6):
        buffer = dynamic_batching.printed_buffer(capacity, 32, 800, 500, theta)
        bounds.append((capacity - buffer) / 800)
    assert bounds == pytest.approx([dynamic_batching.printed_memory_bound(32, 800, 500, 0.05)] * 3)
    assert bounds[0] > 32  # and so the batch grows without end
    assert dynamic_batching.original_memory_bound(62_000, 704.1) == pytest.approx(0.9 * 62_000 / 704.1)


def test_figure_3_of_p2() -> None:
    step = dynamic_batching.LinearStep(30, 0.22)
    assert step.batch_within(50) == pytest.approx(90.9, abs=0.05)
    assert step.tokens_per_s_within(50) == pytest.approx(1818, abs=0.5)
    assert step.tokens_per_s_within(80) == pytest.approx(2841, abs=0.5)
    assert dynamic_batching.relative_gain_pct(2215, 2569) == pytest.approx(16.0, abs=0.05)
    with pytest.raises(UserError, match="cannot be met"):
        step.batch_within(29)


def test_algorithm_2_settles_near_its_target() -> None:
    step = dynamic_batching.LinearStep(30, 0.22)
    settled = []
    for seed in range(8):
        search = dynamic_batching.SlaSearch(50, 1, 256, alpha=16, delta=4, tolerance_ms=2)
        generator = np.random.default_rng(np.random.SeedSequence([seed, 5]))
        times, sizes = [], []
        for _ in range(2000):
            size = search.limit()
            times.append(step.step_ms(size) * (1 + 0.05 * generator.standard_normal()))
            sizes.append(size)
            search.update(float(np.mean(times[-16:])), float(np.mean(sizes[-16:])))
        settled.append(np.mean(sizes[500:]))
        # it stops moving anywhere in the band: 2 ms are 9 requests
        assert abs(settled[-1] - 90.9) < 2 / 0.22
        assert np.std(sizes[500:]) < 3
    assert 88.5 < np.mean(settled) < 91.5


def test_algorithm_2_moves_both_bounds_from_their_old_values() -> None:
    search = dynamic_batching.SlaSearch(50, 1, 128, alpha=16, delta=4, tolerance_ms=2)
    assert search.limit() == 64
    search.update(60, 64)
    assert (search.low, search.high, search.limit()) == (1, 64, 32)
    search.update(40, 32)
    assert (search.low, search.high, search.limit()) == (32, 68, 50)
    search.update(50, 50)
    assert (search.low, search.high, search.limit()) == (42, 58, 50)
    search.update(60, 50)  # high <- max(50, 42 + 16), low <- 42 - 4
    assert (search.low, search.high) == (38, 58)
    assert search.limit(running=55) == 55


def test_the_original_law_bounds_the_batch_rarely() -> None:
    listed = {6.75: 2, 7.0: 3, 7.2: 5, 7.3: 7, 7.4: 11, 7.5: 32, 7.53: 68, 7.5565: math.inf, 10: math.inf, 5.741: 0}
    for sla, limit in listed.items():
        assert dynamic_batching.original_law_batch_limit(sla) == limit
    assert dynamic_batching.original_law_step_ms(10**9) == pytest.approx(7.5565, abs=5e-5)


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 30, 64, 100])
def test_the_limit_of_an_exactly_met_sla_is_that_batch(batch: int) -> None:
    sla = dynamic_batching.original_law_step_ms(batch)
    assert dynamic_batching.original_law_batch_limit(sla) == batch
    assert dynamic_batching.original_law_batch_limit(sla * (1 - 1e-9)) == batch - 1


def test_slot_occupancy_against_a_walk_through_the_steps() -> None:
    generator = np.random.default_rng(np.random.SeedSequence([7, 6]))
    output = generator.integers(1, 400, 2000)
    prompt = output * 2 + generator.integers(1, 100, 2000)  # correlated, as in real traces
    held, steps = 0, 0
    for start, count in zip(prompt.tolist(), output.tolist(), strict=True):
        held += sum(start + step for step in range(1, count + 1))
        steps += count
    assert dynamic_batching.slot_tokens_after_step(prompt, output) == pytest.approx(held / steps, rel=1e-12)
    assert dynamic_batching.slot_tokens(prompt, output) == pytest.approx(held / steps - 0.5, rel=1e-12)
    # constant lengths: in + out / 2, half an output below Algorithm 1's mean
    assert dynamic_batching.slot_tokens([100, 100], [50, 50]) == pytest.approx(125)
    with pytest.raises(UserError):
        dynamic_batching.slot_tokens([1], [1, 2])


def test_many_bins_approach_continuous_batching() -> None:
    rate = multi_bin.batch_time(multi_bin.equal_mass(lengths.uniform(1, 20), 2000), 8).throughput
    assert rate == pytest.approx(dynamic_batching.continuous_saturation_throughput(8, 10.5), rel=1e-3)


@pytest.mark.parametrize("overflow", [0, 1, -0.1])
def test_an_impossible_probability_is_refused(overflow: float) -> None:
    with pytest.raises(UserError):
        dynamic_batching.memory_bound(1000, 10, 1, overflow)
