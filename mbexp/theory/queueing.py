"""Classical queues: M/M/1, M/M/c, M/G/1, M/D/1, M/D/c, an approximation of M/G/c, and the closed M/M/c//N.

Times are in seconds and rates per second, or in any other one unit. A run with batches of one request on c GPUs is one
of these. Under continuous batching with a step time that does not depend on the batch, each of the B slots of each of
c GPUs is a server: M/G/(B c), apart from the wait of less than one step until the next iteration begins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mbexp.errors import UserError


@dataclass(frozen=True)
class Delay:
    """Means of a queue in its steady state.

    Attributes
    ----------
    wait : float
        Before service (Wq).
    latency : float
        From arrival to the end of service.
    waiting : float
        Customers waiting (Lq, Little's law).
    utilization : float
        Busy share of the servers (rho).
    """

    wait: float
    latency: float
    waiting: float
    utilization: float


@dataclass(frozen=True)
class Closed:
    """Means of a fixed number of users in their steady state.

    Attributes
    ----------
    throughput : float
        Answers in a unit of time (X).
    latency : float
        From a request to its answer (R).
    in_system : float
        Requests that wait or are served.
    utilization : float
        Busy share of the servers.
    """

    throughput: float
    latency: float
    in_system: float
    utilization: float


def machine_repair(users: int, mean_think: float, mean_service: float, servers: int = 1) -> Closed:
    """Return the means of M/M/c//N: users who think and are served for exponential times (Palm 1947).

    With k requests in the system users send at rate (N - k) / Z, and are answered at rate min(k, c) / E[S].
    """
    if users < 1 or servers < 1 or not (mean_think > 0 and mean_service > 0):
        raise UserError("a closed loop needs a user, a server, and positive mean times of thinking and of service")
    weights = [1.0]
    for count in range(users):
        sent, answered = (users - count) / mean_think, min(count + 1, servers) / mean_service
        weights.append(weights[-1] * sent / answered)
        if weights[-1] > 1e200:  # only their ratios matter
            weights = [weight / 1e200 for weight in weights]
    total = math.fsum(weights)
    busy = math.fsum(min(count, servers) * weight for count, weight in enumerate(weights)) / total
    in_system = math.fsum(count * weight for count, weight in enumerate(weights)) / total
    throughput = busy / mean_service
    return Closed(throughput, in_system / throughput, in_system, busy / servers)


def most_throughput(users: int, mean_think: float, mean_service: float, servers: int = 1) -> float:
    """Return the bound X <= min(N / (E[S] + Z), c / E[S]), whatever the distributions (Denning and Buzen 1978)."""
    return min(users / (mean_service + mean_think), servers / mean_service)


def mm1(arrival_rate: float, mean_service: float) -> Delay:
    """Return the means of M/M/1: Wq = rho / (1 - rho) times the mean service."""
    return mmc(arrival_rate, mean_service, 1)


def mmc(arrival_rate: float, mean_service: float, servers: int) -> Delay:
    """Return the means of M/M/c: Wq = C(c, a) E[S] / (c - a), C of Erlang, a = lambda E[S] (Erlang 1917)."""
    load = _load(arrival_rate, mean_service, servers)
    return _delay(arrival_rate, mean_service, servers, erlang_c(servers, load) * mean_service / (servers - load))


def mg1(arrival_rate: float, mean_service: float, second_moment: float) -> Delay:
    """Return the means of M/G/1: Wq = lambda E[S^2] / (2 (1 - rho)) (Pollaczek 1930, Khinchine 1932)."""
    load = _load(arrival_rate, mean_service, 1)
    return _delay(arrival_rate, mean_service, 1, arrival_rate * second_moment / (2 * (1 - load)))


def md1(arrival_rate: float, service: float) -> Delay:
    """Return the means of M/D/1: half the wait of M/M/1."""
    return mg1(arrival_rate, service, service * service)


def mdc(arrival_rate: float, service: float, servers: int) -> Delay:
    """Return the means of M/D/c, exactly.

    With one constant service time customers leave in the order in which they came, so customer n meets only
    customers n - c, n - 2c, ... (Crommelin 1932): the wait is that of E_c/D/1, which is that of a formed batch when
    one server takes full batches of c.
    """
    from mbexp.theory import bulk_service, service_time

    _load(arrival_rate, service, servers)
    bulk = bulk_service.general(arrival_rate, service_time.deterministic(service), servers, servers)
    return _delay(arrival_rate, service, servers, bulk.batch_wait)


def mgc_approximation(arrival_rate: float, mean_service: float, second_moment: float, servers: int) -> Delay:
    """Return APPROXIMATE means of M/G/c: the wait of M/M/c times (1 + CV^2) / 2 (Lee and Longton 1959).

    Exact for one server and for exponential service; no exact formula is known otherwise (for constant service use
    `mdc`). Errors of a few per cent are usual at moderate load, more with a large CV or many servers.
    """
    load = _load(arrival_rate, mean_service, servers)
    markov = erlang_c(servers, load) * mean_service / (servers - load)
    return _delay(arrival_rate, mean_service, servers, markov * second_moment / (2 * mean_service**2))


def erlang_b(servers: int, load: float) -> float:
    """Return the blocking probability of M/M/c/c offered `load` = lambda E[S], by the usual recursion."""
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked


def erlang_c(servers: int, load: float) -> float:
    """Return the probability that a customer of M/M/c waits; `load` = lambda E[S] must be below `servers`."""
    if not 0 <= load < servers:
        raise UserError(f"load={load:g}: must be at least 0 and below the {servers} servers")
    blocked = erlang_b(servers, load)
    return servers * blocked / (servers - load * (1 - blocked))


def mmc_wait_percentile(arrival_rate: float, mean_service: float, servers: int, percentile: float) -> float:
    """Return a percentile of the wait of M/M/c (0 where that share does not wait at all)."""
    load = _load(arrival_rate, mean_service, servers)
    waits = erlang_c(servers, load)
    beyond = 1 - percentile / 100
    return 0.0 if beyond >= waits else math.log(waits / beyond) * mean_service / (servers - load)


def _load(arrival_rate: float, mean_service: float, servers: int) -> float:
    if not (arrival_rate > 0 and mean_service > 0 and servers >= 1):
        raise UserError("a queue needs a positive arrival rate and service time and at least one server")
    load = arrival_rate * mean_service
    if load >= servers:
        raise UserError(f"unstable: {load:g} servers' worth of work arrives, there are {servers}")
    return load


def _delay(arrival_rate: float, mean_service: float, servers: int, wait: float) -> Delay:
    return Delay(wait, wait + mean_service, arrival_rate * wait, arrival_rate * mean_service / servers)
