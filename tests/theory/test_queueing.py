"""Classical queues against printed values, second derivations and recursions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mbexp.errors import UserError
from mbexp.theory import bulk_service, queueing, service_time


def crommelin_chain_wait(arrival_rate: float, service: float, servers: int, states: int = 400) -> float:
    """Mean wait of M/D/c by the textbook chain over one service time: X' = max(X - c, 0) + Poisson, solved densely."""
    counts = np.arange(states)
    poisson = np.exp(
        counts * math.log(arrival_rate * service) - arrival_rate * service - [math.lgamma(n + 1) for n in counts]
    )
    matrix = np.zeros((states, states))
    for n in range(states):
        left = max(n - servers, 0)
        matrix[n, left:] = poisson[: states - left]
    system = np.vstack([(matrix.T - np.eye(states)), np.ones(states)])
    stationary = np.linalg.lstsq(system, np.append(np.zeros(states), 1.0), rcond=None)[0]
    return float(stationary @ np.maximum(counts - servers, 0)) / arrival_rate


def test_mm1_and_md1_at_the_listed_points() -> None:
    assert queueing.mm1(0.8, 1).wait == pytest.approx(4, rel=1e-12)
    assert queueing.md1(0.8, 1).wait == pytest.approx(2.0, rel=1e-12)


@pytest.mark.parametrize(("rate", "wait"), [(0.05, 7.385965), (0.07, 18.534591)])
def test_mg1_with_uniform_service(rate: float, wait: float) -> None:
    assert queueing.mg1(rate, 10.5, (1 + 20 + 400) / 3).wait == pytest.approx(wait, abs=5e-7)


@pytest.mark.parametrize(("servers", "rate", "wait"), [(2, 1.6, 1.777778), (4, 3.2, 0.745541), (8, 6.4, 0.286028)])
def test_mmc(servers: int, rate: float, wait: float) -> None:
    assert queueing.mmc(rate, 1, servers).wait == pytest.approx(wait, abs=5e-7)


@pytest.mark.parametrize(("servers", "rate", "wait"), [(2, 1.6, 0.903284), (4, 3.2, 0.386095)])
def test_mdc(servers: int, rate: float, wait: float) -> None:
    assert queueing.mdc(rate, 1, servers).wait == pytest.approx(wait, abs=5e-7)


@pytest.mark.parametrize(("rate", "service", "servers"), [(0.7, 1.0, 1), (3.0, 0.5, 2), (2.5, 1.0, 3), (9.0, 0.6, 6)])
def test_mdc_agrees_with_the_chain_over_one_service_time(rate: float, service: float, servers: int) -> None:
    assert queueing.mdc(rate, service, servers).wait == pytest.approx(
        crommelin_chain_wait(rate, service, servers), rel=1e-8
    )


def test_mdc_with_one_server_is_pollaczek_khinchine_also_near_saturation() -> None:
    for load in (0.05, 0.5, 0.95, 0.999):
        assert queueing.mdc(load, 1, 1).wait == pytest.approx(queueing.md1(load, 1).wait, rel=1e-9)


def test_erlang_c_agrees_with_the_sum_over_states() -> None:
    servers, load = 7, 5.3
    below = sum(load**n / math.factorial(n) for n in range(servers))
    busy = load**servers / math.factorial(servers) * servers / (servers - load)
    assert queueing.erlang_c(servers, load) == pytest.approx(busy / (below + busy), rel=1e-12)


def test_littles_law_and_utilization() -> None:
    delay = queueing.mmc(6.4, 1, 8)
    assert delay.waiting == pytest.approx(6.4 * delay.wait)
    assert delay.latency == pytest.approx(delay.wait + 1)
    assert delay.utilization == pytest.approx(0.8)


def test_the_wait_percentile_of_mm1() -> None:
    # P(W > t) = rho exp(-(mu - lambda) t)
    assert queueing.mmc_wait_percentile(0.8, 1, 1, 90) == pytest.approx(math.log(0.8 / 0.1) / 0.2)
    assert queueing.mmc_wait_percentile(0.8, 1, 1, 10) == 0


def test_the_mgc_approximation_is_exact_where_it_must_be_and_near_elsewhere() -> None:
    assert queueing.mgc_approximation(0.05, 10.5, 421 / 3, 1).wait == pytest.approx(
        queueing.mg1(0.05, 10.5, 421 / 3).wait
    )
    assert queueing.mgc_approximation(3.2, 1, 2, 4).wait == pytest.approx(queueing.mmc(3.2, 1, 4).wait)
    assert queueing.mgc_approximation(3.2, 1, 1, 4).wait == pytest.approx(queueing.mdc(3.2, 1, 4).wait, rel=0.05)


@pytest.mark.parametrize(
    ("rate", "service", "servers"), [(1.0, 1.0, 1), (2.1, 1.0, 2), (-1.0, 1.0, 1), (1.0, 1.0, 0), (0.5, 0.0, 1)]
)
def test_an_impossible_queue_is_refused(rate: float, service: float, servers: int) -> None:
    with pytest.raises(UserError):
        queueing.mmc(rate, service, servers)
    with pytest.raises(UserError):
        queueing.mdc(rate, service, servers)


def test_many_slots_are_solved_too() -> None:
    # M/D/(B c) of continuous batching, 128 slots: between 0 and the wait of M/M/128
    wait = queueing.mdc(120, 1, 128).wait
    assert 0 < wait < queueing.mmc(120, 1, 128).wait
    direct = bulk_service.general(120, service_time.deterministic(1), 128, 128)
    assert wait == pytest.approx(direct.batch_wait)


@pytest.mark.parametrize("load", [-0.1, 2.0, 2.5, math.nan])
def test_waiting_needs_a_load_that_the_servers_carry(load: float) -> None:
    with pytest.raises(UserError, match="must be at least 0 and below the 2 servers"):
        queueing.erlang_c(2, load)


@pytest.mark.parametrize(("users", "servers"), [(1, 1), (5, 1), (10, 3), (4, 8)])
def test_machine_repair_solves_its_balance_equations(users: int, servers: int) -> None:
    think, service = 3.0, 0.7
    rates = np.zeros((users + 1, users + 1))
    for k in range(users):
        rates[k, k + 1] = (users - k) / think
        rates[k + 1, k] = min(k + 1, servers) / service
    rates -= np.diag(rates.sum(axis=1))
    system = np.vstack([rates.T, np.ones(users + 1)])
    shares = np.linalg.lstsq(system, np.append(np.zeros(users + 1), 1.0), rcond=None)[0]
    model = queueing.machine_repair(users, think, service, servers)
    assert model.in_system == pytest.approx(shares @ np.arange(users + 1), rel=1e-9)
    assert model.utilization == pytest.approx(shares @ np.minimum(np.arange(users + 1), servers) / servers, rel=1e-9)
    # Little's law over the whole loop: N = X (R + Z).
    assert model.throughput * (model.latency + think) == pytest.approx(users, rel=1e-9)
    assert model.throughput <= queueing.most_throughput(users, think, service, servers) * (1 + 1e-12)


def test_machine_repair_with_a_server_for_each_user_waits_for_nobody() -> None:
    assert queueing.machine_repair(6, 2.0, 1.0, 6).latency == pytest.approx(1.0, rel=1e-12)


def test_machine_repair_with_many_users_is_bound_by_the_servers() -> None:
    assert queueing.machine_repair(100_000, 1.0, 1.0, 2).throughput == pytest.approx(2.0, rel=1e-12)


def test_machine_repair_needs_users() -> None:
    with pytest.raises(UserError, match="a closed loop needs a user"):
        queueing.machine_repair(0, 1.0, 1.0)
