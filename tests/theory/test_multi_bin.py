"""P1's model against printed values, closed forms, numerical integrals and plain sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from mbexp.errors import UserError
from mbexp.theory import lengths, multi_bin, prediction_error

UNIFORM = lengths.uniform(1, 20)
EXPONENTIAL = lengths.exponential(10)
GSM8K = lengths.lognormal(1.5533, 0.465)


def throughput(law: lengths.Lengths, k: int, batch: int, confusion=None) -> float:
    return multi_bin.batch_time(multi_bin.equal_mass(law, k), batch, confusion).throughput


@pytest.mark.parametrize(
    ("k", "time", "rate"),
    [
        (1, 17.8889, 0.4472),
        (2, 14.1944, 0.5636),
        (4, 12.3472, 0.6479),
        (8, 11.4236, 0.7003),
        (16, 10.9618, 0.7298),
    ],
)
def test_saturated_uniform_lengths_in_batches_of_8(k: int, time: float, rate: float) -> None:
    result = multi_bin.batch_time(multi_bin.equal_mass(UNIFORM, k), 8)
    assert result.mean == pytest.approx(time, abs=5.1e-5)
    assert result.throughput == pytest.approx(rate, abs=5.1e-5)
    assert result.mean == pytest.approx(multi_bin.uniform_batch_time(1, 20, k, 8), rel=1e-12)


def test_figure_3() -> None:
    listed = {1: 6.4475, 2: 8.4342, 3: 9.3996, 4: 9.9703, 5: 10.3472, 8: 10.9692}
    for k, rate in listed.items():
        assert throughput(UNIFORM, k, 128) == pytest.approx(rate, abs=5.1e-5)
    assert multi_bin.throughput_bounds(UNIFORM, 8, 128)[1] == pytest.approx(12.1905, abs=5.1e-5)


@pytest.mark.parametrize(
    ("k", "listed"),
    [(2, [7.4085, 6.6577, 6.5337, 6.4745, 6.4475]), (4, [8.8802, 8.0624, 7.9252, 7.8586, 7.8221])],
)
def test_figure_8(k: int, listed: list[float]) -> None:
    for probability, rate in zip((0.01, 0.05, 0.1, 0.2, 0.5), listed, strict=True):
        matrix = prediction_error.neighbour(k, probability)
        assert throughput(UNIFORM, k, 128, matrix) == pytest.approx(rate, abs=5.1e-5)


def test_figure_9_and_the_bound_of_the_appendix() -> None:
    for k, rate in {1: 3.4025, 2: 7.2686, 4: 11.8070}.items():
        edges = multi_bin.exponential_edges(10, k, 200)
        result = multi_bin.batch_time(multi_bin.by_edges(EXPONENTIAL, edges), 200)
        assert result.throughput == pytest.approx(rate, abs=5.1e-5)
        assert result.throughput >= multi_bin.exponential_throughput_bound(10, k, 200) * (1 - 1e-9)
    assert throughput(EXPONENTIAL, 2, 200) == pytest.approx(5.5101, abs=5.1e-5)
    assert throughput(EXPONENTIAL, 4, 200) == pytest.approx(8.3140, abs=5.1e-5)


def test_the_exponential_edges_minimise_the_batch_time_priced_at_upper_edges() -> None:
    # P1 prices a low bin at its upper edge; with k = 2: l + exp(-mu l) H_B / mu
    harmonic = sum(1 / n for n in range(1, 201))
    (edge,) = multi_bin.exponential_edges(10, 2, 200)

    def priced(x: float) -> float:
        return x + math.exp(-x / 10) * 10 * harmonic

    assert priced(edge) < min(priced(edge * 1.01), priced(edge * 0.99))
    assert 200 / priced(edge) == pytest.approx(multi_bin.exponential_throughput_bound(10, 2, 200))


def test_figure_4_line() -> None:
    listed = {1: [35.73, 30.44, 27.79], 2: [46.93, 36.34, 31.05], 3: [61.24, 45.37, 37.43]}
    for k, latencies in listed.items():
        time = multi_bin.uniform_batch_time(1, 20, k, 128)
        for rate, latency in zip((4, 6, 8), latencies, strict=True):
            assert multi_bin.latency_infinite_servers(time, 128, k, rate) == pytest.approx(latency, abs=5.1e-3)


def test_figure_6_capacity_ratios_of_a_lognormal() -> None:
    rates = [8 * throughput(GSM8K, k, 8) for k in (1, 2, 4, 8, 16, 32)]
    assert rates[0] == pytest.approx(22.71, abs=5.1e-3)
    for rate, ratio in zip(rates, [1, 1.224, 1.419, 1.566, 1.666, 1.729], strict=True):
        assert rate / rates[0] == pytest.approx(ratio, abs=5.1e-4)


def test_the_best_bin_count_minimises_the_latency() -> None:
    for rate in (0.4, 6.0, 40.0, 400.0):
        latency = [
            multi_bin.latency_infinite_servers(multi_bin.uniform_batch_time(1, 20, k, 128), 128, k, rate)
            for k in range(1, 40)
        ]
        assert multi_bin.best_whole_bin_count(1, 20, 128, rate) == 1 + int(np.argmin(latency))
    real = multi_bin.best_bin_count(19, 128, 40)
    assert real == pytest.approx(math.sqrt(40 * 19 / 129))


@pytest.mark.parametrize("law", [UNIFORM, EXPONENTIAL, GSM8K], ids=lambda law: law.name)
@pytest.mark.parametrize("batch", [1, 2, 8, 200])
def test_the_mean_maximum_agrees_with_the_integral_of_the_survival_function(law, batch: int) -> None:
    def survival(x: float) -> float:
        return 1 - law.cdf(x) ** batch

    top = float(law.quantile(np.array([1 - 1e-15]))[0])
    points = [float(law.quantile(np.array([p]))[0]) for p in (0.01, 0.5, 0.99, 1 - 1e-4, 1 - 1e-7)]
    whole = integrate.quad(survival, 0, top, points=points, limit=400)[0]
    assert multi_bin.batch_time(multi_bin.equal_mass(law, 1), batch).mean == pytest.approx(whole, rel=1e-7)


def test_a_mixed_bin_agrees_with_the_integral_of_its_own_distribution() -> None:
    bins = multi_bin.by_edges(GSM8K, [1.0, 1.5, 2.5])
    matrix = prediction_error.row_normalised(prediction_error.BERT_K4_COUNTS)
    joint = multi_bin.joint_probability(bins, matrix)
    edges = [0.0, 1.0, 1.5, 2.5, math.inf]
    result = multi_bin.batch_time(bins, 8, matrix)
    for j in range(4):

        def mixed(x: float, j: int = j) -> float:
            parts = 0.0
            for i in range(4):
                inside = (min(GSM8K.cdf(x), bins.mass_edges[i + 1]) - bins.mass_edges[i]) / bins.masses[i]
                parts += joint[i, j] * max(inside, 0.0)
            return parts / joint[:, j].sum()

        value = integrate.quad(lambda x: 1 - mixed(x) ** 8, 0, 20, points=edges[1:4], limit=400)[0]
        assert result.bin_mean[j] == pytest.approx(value, rel=1e-6)
    assert result.bin_probability == pytest.approx(joint.sum(axis=0))


def test_whole_token_lengths_have_their_own_closed_form() -> None:
    # a..b, n = b - a + 1 values: b - sum over j < n of (j / n)^B
    for low, high, batch in ((1, 20, 8), (1, 20, 128), (5, 9, 3)):
        law = lengths.uniform_integers(low, high)
        count = high - low + 1
        closed = high - sum((j / count) ** batch for j in range(1, count))
        assert multi_bin.batch_time(multi_bin.equal_mass(law, 1), batch).mean == pytest.approx(closed, rel=1e-12)
    assert throughput(lengths.uniform_integers(1, 20), 1, 8) == pytest.approx(8 / 18.2445, abs=1e-5)


def test_long_whole_lengths_approach_the_continuous_model() -> None:
    law = lengths.uniform_integers(100_000, 2_000_000)
    assert 1e5 * throughput(law, 4, 8) == pytest.approx(throughput(UNIFORM, 4, 8), rel=1e-5)


def test_ties_divided_at_random_or_sent_below() -> None:
    law = lengths.empirical([1, 1, 1, 2, 3, 4])
    divided = multi_bin.equal_mass(law, 3)
    assert divided.masses == pytest.approx([1 / 3] * 3)
    edges = multi_bin.equal_mass_edges(law, 3)
    assert edges == [1, 2]
    below = multi_bin.by_edges(law, edges)
    assert below.masses == pytest.approx([1 / 2, 1 / 6, 1 / 3])
    assert multi_bin.batch_time(below, 1).bin_mean == pytest.approx([1, 2, 3.5])
    # second bin of the divided cut: half a tie at 1 (1/6), and the 2 (1/6)
    assert multi_bin.batch_time(divided, 1).bin_mean == pytest.approx([1, 1.5, 3.5])
    # edges that coincide merge, and edges outside the range leave no empty bin
    assert multi_bin.equal_mass_edges(law, 6) == [1, 2, 3]
    assert multi_bin.by_edges(law, [0.5, 1, 9]).count == 2


def test_the_simulators_integer_bins_against_sampling() -> None:
    law = lengths.uniform_integers(1, 20)
    edges = multi_bin.equal_mass_edges(law, 3)
    generator = np.random.default_rng(np.random.SeedSequence([7, 3]))
    tokens = generator.integers(1, 21, 600_000)
    predicted = np.searchsorted(edges, tokens, side="left")
    total, batches = 0, 0
    for index in range(3):
        own = tokens[predicted == index]
        own = own[: len(own) // 8 * 8].reshape(-1, 8)
        total, batches = total + own.max(axis=1).sum(), batches + len(own)
    assert multi_bin.batch_time(multi_bin.by_edges(law, edges), 8).mean == pytest.approx(total / batches, rel=2e-3)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 50), min_size=2, max_size=40),
    st.integers(1, 8),
    st.integers(1, 64),
)
def test_bounds_hold_for_any_lengths(sample: list[int], k: int, batch: int) -> None:
    law = lengths.empirical(sample)
    low, high = multi_bin.throughput_bounds(law, k, batch)
    rate = throughput(law, k, batch)
    assert low * (1 - 1e-9) <= rate <= high * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=2, max_size=20), st.integers(1, 5), st.integers(2, 30), st.data())
def test_errors_never_raise_the_throughput(sample: list[int], k: int, batch: int, data) -> None:
    # p E[max] is concave and homogeneous in the measure of a bin, so mixing or merging bins cannot shorten batches
    matrix = np.array([[data.draw(st.integers(0, 9)) for _ in range(k)] for _ in range(k)]) + np.eye(k)
    law = lengths.empirical(sample)
    assert throughput(law, k, batch, matrix) <= throughput(law, k, batch) * (1 + 1e-12)


def test_an_unpredicted_bin_is_left_out() -> None:
    result = multi_bin.batch_time(multi_bin.equal_mass(UNIFORM, 2), 8, [[1, 0], [1, 0]])
    assert result.bin_probability == pytest.approx([1, 0])
    assert math.isnan(result.bin_mean[1])
    assert result.throughput == pytest.approx(throughput(UNIFORM, 1, 8))


def test_neighbour_errors_and_the_bert_matrices() -> None:
    expected = np.array([[0.9, 0.1, 0], [0.1, 0.8, 0.1], [0, 0.1, 0.9]])
    assert prediction_error.neighbour(3, 0.1) == pytest.approx(expected)
    assert prediction_error.neighbour(1, 0.3).tolist() == [[1]]
    rows = prediction_error.row_normalised(prediction_error.BERT_K4_COUNTS)
    assert rows.sum(axis=1) == pytest.approx(np.ones(4))
    assert prediction_error.misbin_share(prediction_error.BERT_K2_COUNTS) == pytest.approx((4778 + 3668) / 60964)
    # counts and row-normalised rows mean the same
    assert throughput(UNIFORM, 4, 8, rows) == pytest.approx(throughput(UNIFORM, 4, 8, prediction_error.BERT_K4_COUNTS))


def test_second_moments_and_padding() -> None:
    result = multi_bin.batch_time(multi_bin.equal_mass(UNIFORM, 1), 8)
    # the greatest of B uniforms: E[u^2] = B / (B + 2)
    square = 1 + 2 * 19 * 8 / 9 + 19**2 * 8 / 10
    assert result.bin_second_moment[0] == pytest.approx(square)
    assert result.padding_share == pytest.approx(1 - 10.5 / result.mean)


def test_formation_delay_does_not_depend_on_the_masses() -> None:
    generator = np.random.default_rng(np.random.SeedSequence([7, 4]))
    arrival = np.cumsum(generator.exponential(1 / 2.0, 300_000))
    member = (generator.random(300_000) < 0.2).astype(int)
    waits = []
    for index in (0, 1):
        own = arrival[member == index]
        own = own[: len(own) // 4 * 4].reshape(-1, 4)
        waits.append((own[:, -1:] - own).ravel())
    assert np.concatenate(waits).mean() == pytest.approx(multi_bin.formation_delay(4, 2, 2.0), rel=0.02)


@pytest.mark.parametrize(
    "call",
    [
        lambda: multi_bin.equal_mass(UNIFORM, 0),
        lambda: multi_bin.by_edges(UNIFORM, [5, 5]),
        lambda: multi_bin.batch_time(multi_bin.equal_mass(UNIFORM, 2), 0),
        lambda: multi_bin.batch_time(multi_bin.equal_mass(UNIFORM, 2), 8, [[1]]),
        lambda: multi_bin.batch_time(multi_bin.equal_mass(UNIFORM, 2), 8, [[1, 0], [0, 0]]),
        lambda: prediction_error.neighbour(2, 0.6),
        lambda: prediction_error.row_normalised([[1, -1], [0, 1]]),
    ],
)
def test_an_impossible_model_is_refused(call) -> None:
    with pytest.raises(UserError):
        call()
