"""Bulk service against printed values, closed forms, and a request-by-request recursion."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mbexp.errors import UserError
from mbexp.theory import bulk_service, lengths, multi_bin, queueing, sample_path, service_time

LINEAR = [service_time.deterministic(1 + 0.1 * size) for size in range(1, 9)]


@pytest.mark.parametrize(("rate", "root", "wait"), [(1.6, 0.665648, 1.029211), (3.2, 0.912707, 3.180619)])
def test_greedy_exponential_at_the_listed_points(rate: float, root: float, wait: float) -> None:
    assert bulk_service._greedy_root(rate, 1.0, 4) == pytest.approx(root, abs=5e-7)
    assert bulk_service.greedy_exponential(rate, 1, 4).wait == pytest.approx(wait, abs=6e-7)


@pytest.mark.parametrize(
    ("rate", "formation", "batch_wait", "total"),
    [(1.6, 0.9375, 0.244285, 2.181785), (3.2, 0.46875, 2.267384, 3.736134)],
)
def test_full_exponential_at_the_listed_points(rate: float, formation: float, batch_wait: float, total: float) -> None:
    delay = bulk_service.full_exponential(rate, 1, 4)
    assert delay.formation == pytest.approx(formation, rel=1e-12)
    assert delay.batch_wait == pytest.approx(batch_wait, abs=6e-7)
    assert delay.latency == pytest.approx(total, abs=6e-7)


def test_full_deterministic_at_the_listed_point_equals_mdc() -> None:
    delay = bulk_service.general(3.2, service_time.deterministic(1), 4, 4)
    assert delay.latency == pytest.approx(1.854845, abs=5e-7)
    assert delay.batch_wait == pytest.approx(queueing.mdc(3.2, 1, 4).wait)


def test_greedy_deterministic_at_the_listed_point() -> None:
    delay = bulk_service.general(3.2, service_time.deterministic(1), 4)
    assert delay.wait == pytest.approx(0.879536, abs=5e-7)
    assert delay.batch_size == pytest.approx(3.223862, abs=6e-7)


@pytest.mark.parametrize(("rate", "wait", "batch"), [(2, 0.620166, 2.604630), (4, 1.500566, 6.669059)])
def test_time_that_grows_with_the_batch_at_the_listed_points(rate: float, wait: float, batch: float) -> None:
    delay = bulk_service.general(rate, LINEAR, 8)
    assert delay.wait == pytest.approx(wait, abs=6e-7)
    assert delay.batch_size == pytest.approx(batch, abs=6e-7)


@pytest.mark.parametrize("rate", [0.2, 2.0, 5.0, 7.8])
def test_the_chain_agrees_with_the_closed_forms(rate: float) -> None:
    chain = bulk_service.general(rate, service_time.exponential(1), 8)
    closed = bulk_service.greedy_exponential(rate, 1, 8)
    for name in ("wait", "latency", "batch_size", "utilization"):
        assert getattr(chain, name) == pytest.approx(getattr(closed, name), rel=1e-9)
    root = bulk_service.full_exponential_root(rate, 1, 8)
    full = bulk_service.general(rate, service_time.exponential(1), 8, 8)
    assert full.batch_wait == pytest.approx(root / (1 - root), rel=1e-7, abs=1e-12)
    assert bulk_service.full_exponential(rate, 1, 8).batch_wait == pytest.approx(root / (1 - root), rel=1e-7, abs=1e-12)


def test_batches_of_one_are_the_classical_queues() -> None:
    uniform = multi_bin.batch_service(multi_bin.equal_mass(lengths.uniform(1, 20), 1), 1)
    assert bulk_service.general(0.07, uniform, 1).wait == pytest.approx(18.534591, abs=5e-7)
    assert bulk_service.greedy_exponential(6.4, 1, 1, servers=8).wait == pytest.approx(queueing.mmc(6.4, 1, 8).wait)
    assert bulk_service.full_exponential(6.4, 1, 1, servers=8).batch_wait == pytest.approx(queueing.mmc(6.4, 1, 8).wait)


def test_every_request_is_accounted_for() -> None:
    for least in (1, 3, 8):
        delay = bulk_service.general(4, LINEAR, 8, least)
        # T is linear in the size, so its mean over batches is 1 + .1 E[b]; lambda / E[b] batches start per second
        assert delay.utilization == pytest.approx(4 / delay.batch_size * (1 + 0.1 * delay.batch_size), rel=1e-9)
        assert least - 1e-9 <= delay.batch_size <= 8 + 1e-9
    assert bulk_service.general(4, LINEAR, 8, 8).utilization == pytest.approx(4 / 8 * 1.8)


def test_greedy_exponential_on_several_servers_agrees_with_a_dense_chain() -> None:
    rate, cap, servers, states = 5.0, 3, 2, 300
    generator = np.zeros((states, states))  # n < c: n servers busy, none waits; n >= c: n - c wait
    for n in range(states):
        if n + 1 < states:
            generator[n, n + 1] += rate
        busy, waiting = min(n, servers), max(n - servers, 0)
        if busy:
            generator[n, n - min(waiting, cap) if waiting else n - 1] += busy
    generator -= np.diag(generator.sum(axis=1))
    system = np.vstack([generator.T, np.ones(states)])
    stationary = np.linalg.lstsq(system, np.append(np.zeros(states), 1.0), rcond=None)[0]
    wait = stationary @ np.maximum(np.arange(states) - servers, 0) / rate
    delay = bulk_service.greedy_exponential(rate, 1, cap, servers)
    assert delay.wait == pytest.approx(wait, rel=1e-8)
    assert delay.utilization == pytest.approx(stationary @ np.minimum(np.arange(states), servers) / servers, rel=1e-8)


def test_full_exponential_on_several_servers_agrees_with_a_recursion() -> None:
    generator = np.random.default_rng(np.random.SeedSequence([7, 1]))
    count = 400_000
    arrival = np.cumsum(generator.exponential(1 / 6.0, count))
    batch_end = generator.exponential(1.0, count)
    # one length per batch: every member carries it
    length = np.repeat(batch_end[: count // 4], 4)
    path = sample_path.full_batches(arrival, length, np.zeros(count, dtype=int), 4, servers=2)
    delay = bulk_service.full_exponential(6.0, 1, 4, servers=2)
    assert np.nanmean(path.batch_wait[count // 20 :]) == pytest.approx(delay.batch_wait, rel=0.03)


def test_uniform_lengths_on_one_server_agree_with_a_recursion() -> None:
    generator = np.random.default_rng(np.random.SeedSequence([7, 2]))
    count = 1_000_000
    arrival = np.cumsum(generator.exponential(1 / 0.3, count))
    length = generator.uniform(1, 20, count)
    one_bin = multi_bin.equal_mass(lengths.uniform(1, 20), 1)
    by_size = [multi_bin.batch_service(one_bin, size) for size in range(1, 9)]
    start, end = sample_path.greedy_batches(arrival, length, 8)
    greedy = bulk_service.general(0.3, by_size, 8)
    assert np.mean((start - arrival)[count // 20 :]) == pytest.approx(greedy.wait, rel=0.01)
    assert np.mean((end - start)[count // 20 :]) == pytest.approx(greedy.service, rel=0.005)
    full = bulk_service.general(0.3, by_size[-1], 8, 8)
    path = sample_path.full_batches(arrival, length, np.zeros(count, dtype=int), 8)
    assert np.nanmean(path.batch_wait[count // 20 :]) == pytest.approx(full.batch_wait, rel=0.03)
    assert np.nanmean(path.formation) == pytest.approx(full.formation, rel=0.01)


def test_one_server_one_bin_full_batches_of_p1() -> None:
    # the listed batch wait, 8.25, and total, 34.88, are simulated; the exact ones are 8.197 and 34.836
    service = multi_bin.batch_service(multi_bin.equal_mass(lengths.uniform(1, 20), 1), 8)
    delay = bulk_service.general(0.4, service, 8, 8)
    assert delay.formation == pytest.approx(8.75)
    assert delay.batch_wait == pytest.approx(8.25, rel=0.01)
    assert delay.service == pytest.approx(17.89, abs=5e-3)
    assert delay.latency == pytest.approx(34.88, rel=0.002)
    with pytest.raises(UserError, match="unstable"):
        bulk_service.general(0.5, service, 8, 8)


def test_the_chain_survives_light_and_heavy_load_with_large_batches() -> None:
    light = bulk_service.general(60, service_time.deterministic(1), 128)
    assert light.wait == pytest.approx(0.5, rel=1e-9)  # a batch is always running and takes all that waits
    heavy = bulk_service.general(127.5, service_time.deterministic(1), 128)
    assert math.isfinite(heavy.wait)
    assert heavy.batch_size == pytest.approx(127.5, rel=1e-9)


@pytest.mark.parametrize(
    "call",
    [
        lambda: bulk_service.general(9, service_time.deterministic(1), 8),
        lambda: bulk_service.general(1, LINEAR, 4),
        lambda: bulk_service.general(1, LINEAR, 8, 9),
        lambda: bulk_service.general(0, LINEAR, 8),
        lambda: bulk_service.greedy_exponential(4, 1, 4),
        lambda: bulk_service.full_exponential(8, 1, 4, servers=2),
        lambda: bulk_service.general(1 - 1e-9, service_time.deterministic(1), 1),
        lambda: service_time.mixture([1, -1], [0.5, 0.5]),
        lambda: service_time.exponential(0),
    ],
)
def test_an_impossible_queue_is_refused(call) -> None:
    with pytest.raises(UserError):
        call()
