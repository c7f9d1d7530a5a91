"""The recursions against cases worked by hand and against listed values of P1's policy."""

from __future__ import annotations

import numpy as np
import pytest

from mbexp.results.statistics import batch_means_interval
from mbexp.theory import lengths, multi_bin, sample_path


def test_the_toy_example_of_p1() -> None:
    # times 1, 5, 2, 6 in batches of 2 on one server: 5 + 6 = 11 s in order of arrival, 2 + 6 = 8 s by bins
    arrival, length = np.zeros(4), np.array([1.0, 5, 2, 6])
    assert sample_path.full_batches(arrival, length, [0, 0, 0, 0], 2).latency.max() == 11
    assert sample_path.full_batches(arrival, length, [0, 1, 0, 1], 2).latency.max() == 8


def test_full_batches_by_hand() -> None:
    arrival = np.array([0.0, 1, 2, 3, 4, 5])
    length = np.array([10.0, 1, 1, 1, 1, 1])
    path = sample_path.full_batches(arrival, length, [0, 1, 0, 1, 1, 0], 2)
    # bin 0 fills at 2 and runs 10; bin 1 fills at 3 and waits until 12; the last two never fill
    assert path.formation[:4].tolist() == [2, 2, 0, 0]
    assert path.batch_wait[:4].tolist() == [0, 9, 0, 9]
    assert path.service[:4].tolist() == [10, 1, 10, 1]
    assert np.isnan(path.latency[4:]).all()
    two = sample_path.full_batches(arrival, length, [0, 1, 0, 1, 1, 0], 2, servers=2)
    assert two.batch_wait[:4].tolist() == [0, 0, 0, 0]


def test_greedy_batches_by_hand() -> None:
    arrival = np.array([0.0, 1, 2, 3, 20])
    start, end = sample_path.greedy_batches(arrival, np.array([5.0, 1, 2, 3, 1]), 2)
    assert start.tolist() == [0, 5, 5, 7, 20]
    assert end.tolist() == [5, 7, 7, 10, 21]


def test_one_and_several_servers_use_the_same_recursion() -> None:
    generator = np.random.default_rng(np.random.SeedSequence([7, 7]))
    ready, time = np.cumsum(generator.exponential(1, 2000)), generator.exponential(0.8, 2000)
    single = sample_path.start_times(ready, time)
    free, by_hand = 0.0, []
    for at, duration in zip(ready.tolist(), time.tolist(), strict=True):
        by_hand.append(max(at, free))
        free = by_hand[-1] + duration
    assert single == pytest.approx(by_hand)
    many = sample_path.start_times(ready, time, servers=3)
    assert (many <= single + 1e-9).all()


@pytest.mark.parametrize(
    ("rate", "k", "listed"),
    [
        (0.2, 2, (34.98, 1.42, 14.19, 50.59)),
        (0.4, 2, (17.49, 3.66, 14.19, 35.34)),
        (0.4, 4, (34.99, 4.60, 12.34, 51.94)),
        (0.6, 8, (46.67, 12.94, 11.42, 71.03)),
    ],
)
def test_one_server_with_several_bins_at_the_listed_points(rate: float, k: int, listed: tuple[float, ...]) -> None:
    generator = np.random.default_rng(np.random.SeedSequence([7, 8]))
    count = 600_000
    arrival = np.cumsum(generator.exponential(1 / rate, count))
    share = generator.random(count)
    path = sample_path.full_batches(arrival, 1 + 19 * share, (share * k).astype(int), 8)
    kept = slice(count // 20, count - 8 * k * 10)
    for values, target in zip((path.formation, path.batch_wait, path.service, path.latency), listed, strict=True):
        interval = batch_means_interval(values[kept], confidence=0.99)
        # the listed values were simulated as well: half a per cent for them
        assert abs(interval.mean - target) < interval.half_width + 0.005 * target


def test_the_least_latency_of_figure_6() -> None:
    law = lengths.lognormal(1.5533, 0.465)
    generator = np.random.default_rng(np.random.SeedSequence([7, 9]))
    count = 200_000
    gaps, share = generator.exponential(1, count), generator.random(count)
    length = law.quantile(share)
    for k, least in ((1, 3.04), (4, 2.55), (32, 5.08)):
        capacity = 8 * multi_bin.batch_time(multi_bin.equal_mass(law, k), 8).throughput
        found = min(
            np.nanmean(
                sample_path.full_batches(np.cumsum(gaps / (load * capacity)), length, share * k // 1, 8, 8).latency
            )
            for load in (0.7, 0.75, 0.8, 0.85, 0.9)
        )
        assert found == pytest.approx(least, rel=0.02)
