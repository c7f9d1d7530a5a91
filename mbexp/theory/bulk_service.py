"""Batches as bulk service: greedy batches, full batches and Neuts' rule between them, on Poisson arrivals.

`general` is exact for one server and any service time that may depend on the batch size. With service that is
exponential and independent of the size, `greedy_exponential` and `full_exponential` are exact for any number of
servers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError
from mbexp.theory.markov import stationary_distribution
from mbexp.theory.service_time import ServiceTime

FloatArray = npt.NDArray[np.float64]
LOG_NEGLIGIBLE = 40.0  # the chain is cut where its geometric tail has fallen to exp(-40)


@dataclass(frozen=True)
class BulkDelay:
    """Means of a bulk queue in its steady state, per request.

    Attributes
    ----------
    wait : float
        From arrival to the start of service: formation and wait of the formed batch together.
    formation : float
        Part of `wait` until the batch is complete: (a - 1) / (2 lambda) where every batch has exactly a requests,
        0 for greedy service; nan between the two, where the parts cannot be told apart.
    batch_wait : float
        Rest of `wait`: the formed batch waits for a server.
    service : float
        Mean batch time that a request experiences (large batches count for more requests).
    latency : float
        wait + service.
    batch_size : float
        Mean over batches.
    utilization : float
        Busy share of the servers.
    """

    wait: float
    formation: float
    batch_wait: float
    service: float
    latency: float
    batch_size: float
    utilization: float


def general(
    arrival_rate: float, service: ServiceTime | Sequence[ServiceTime], batch_max: int, batch_min: int = 1
) -> BulkDelay:
    """Return the means of M/G^(a,B)/1: a free server takes min(waiting, B) requests once at least a wait.

    Parameters
    ----------
    arrival_rate
        Requests per second.
    service
        Time of a batch, or one for each size: ``service[b - 1]`` for size b, length `batch_max`.
    batch_max, batch_min
        B and a. a = 1 is greedy service; a = B serves full batches only (E_B/G/1 seen from the batches).

    Notes
    -----
    Chain embedded at the ends of service (Neuts 1967): n' = max(n, a) - b + (arrivals in T(b)), b = min(max(n, a), B).
    Mean numbers follow from the rewards of one cycle: the content while forming, and
    (n - b) T + lambda T^2 / 2 while serving. Solved numerically to rounding; no series or fit.
    """
    if not 1 <= batch_min <= batch_max:
        raise UserError(f"batch_min={batch_min}: must be between 1 and batch_max={batch_max}")
    if not arrival_rate > 0:
        raise UserError(f"arrival_rate={arrival_rate}: must be positive")
    services = [service] * batch_max if isinstance(service, ServiceTime) else list(service)
    if len(services) != batch_max:
        raise UserError(f"service: one time for each batch size is needed: {batch_max}, not {len(services)}")
    full = services[-1]
    if arrival_rate * full.mean >= batch_max:
        raise UserError(
            f"unstable: {arrival_rate:g} requests arrive in the time in which full batches serve "
            f"{batch_max / full.mean:g}"
        )
    cache: dict[int, FloatArray] = {}
    distinct = {id(item): item for item in services[batch_min - 1 :]}
    for key, item in distinct.items():
        cache[key] = item.arrivals(arrival_rate)
    width = max(len(masses) for masses in cache.values())
    states = batch_max + width + math.ceil(LOG_NEGLIGIBLE / _log_decay(arrival_rate, full, batch_max))

    def column(n: int) -> tuple[int, FloatArray]:
        present = max(n, batch_min)
        size = min(present, batch_max)
        return present - size, cache[id(services[size - 1])]

    typical = min(int(arrival_rate * full.mean), states - 1)
    left = stationary_distribution(column, states, batch_max, width, typical)

    n = np.arange(states)
    present = np.maximum(n, batch_min)
    size = np.minimum(present, batch_max)
    mean = np.array([item.mean for item in services])[size - 1]
    square = np.array([item.second_moment for item in services])[size - 1]
    missing = present - n
    forming = missing * (n + present - 1) / 2 / arrival_rate  # content n, n+1, ..., a-1, one mean gap each
    content = forming + (present - size) * mean + arrival_rate * square / 2
    cycle = float(left @ (missing / arrival_rate + mean))
    wait = float(left @ content) / cycle / arrival_rate
    batch_size = float(left @ size)
    seen = float(left @ (size * mean)) / batch_size
    formation = 0.0 if batch_min == 1 else math.nan
    if batch_min == batch_max:
        formation = (batch_max - 1) / (2 * arrival_rate)
    return BulkDelay(wait, formation, wait - formation, seen, wait + seen, batch_size, float(left @ mean) / cycle)


def greedy_exponential(arrival_rate: float, mean_service: float, batch_max: int, servers: int = 1) -> BulkDelay:
    """Return the means of greedy batches on `servers`, exponential service independent of the size.

    With c mu for the joint rate, the queue behind busy servers is geometric in the root r in (0, 1) of
    c mu r^(B+1) - (lambda + c mu) r + lambda = 0 (for one server, Bailey 1954; Chaudhry and Templeton 1983).
    The states with a free server follow from cuts: lambda P(i - 1 busy) = i mu P(i busy).
    """
    joint = servers / mean_service
    _require_stable(arrival_rate, joint * batch_max)
    root = _greedy_root(arrival_rate, joint, batch_max)
    free, ratio = 0.0, 1.0  # states with 0..c-1 busy, relative to c busy and none waiting
    busy_mean = servers / (1 - root)
    for busy in range(servers, 0, -1):
        ratio *= busy / mean_service / arrival_rate
        free += ratio
        busy_mean += (busy - 1) * ratio
    scale = 1 / (1 / (1 - root) + free)
    waiting = scale * root / (1 - root) ** 2
    batches = scale * busy_mean / mean_service  # per second
    wait = waiting / arrival_rate
    return BulkDelay(
        wait, 0.0, wait, mean_service, wait + mean_service, arrival_rate / batches, scale * busy_mean / servers
    )


def full_exponential(arrival_rate: float, mean_service: float, batch: int, servers: int = 1) -> BulkDelay:
    """Return the means of full batches of exactly `batch` on `servers`, exponential service: E_B/M/c.

    The number of requests in the system, forming ones included, rises by 1 at rate lambda and falls by B at rate
    min(c, floor(m / B)) mu; its stationary distribution is exact. For one server the wait of a formed batch is also
    s E[S] / (1 - s), s in (0, 1) the root of s = (lambda / (lambda + (1 - s) / E[S]))^B: `full_exponential_root`.
    """
    joint = servers / mean_service
    _require_stable(arrival_rate, joint * batch)
    root = _greedy_root(arrival_rate, joint, batch)  # the same balance equation far from the boundary
    states = (servers + 2) * batch + math.ceil(LOG_NEGLIGIBLE / -math.log(root))

    def column(n: int) -> tuple[int, FloatArray]:
        serving = min(n // batch, servers)
        if serving == 0:
            return n + 1, np.array([arrival_rate])
        rates = np.zeros(batch + 2)
        rates[0], rates[-1] = serving / mean_service, arrival_rate
        return n - batch, rates

    typical = min(int(arrival_rate * mean_service + batch), states - 1)
    present = stationary_distribution(column, states, batch, 1, typical)
    latency = float(present @ np.arange(states)) / arrival_rate
    formation = (batch - 1) / (2 * arrival_rate)
    wait = latency - mean_service
    return BulkDelay(
        wait, formation, wait - formation, mean_service, latency, float(batch), arrival_rate / (joint * batch)
    )


def full_exponential_root(arrival_rate: float, mean_service: float, batch: int) -> float:
    """Return the root s of E_B/M/1: the chance that a formed batch finds the server busy (Kleinrock 1975, ch. 6)."""
    from scipy.optimize import brentq

    _require_stable(arrival_rate, batch / mean_service)

    def gap(s: float) -> float:
        return s - (arrival_rate / (arrival_rate + (1 - s) / mean_service)) ** batch

    return float(brentq(gap, 0.0, 1 - 1e-9, xtol=1e-15))


def _greedy_root(arrival_rate: float, joint_rate: float, batch_max: int) -> float:
    from scipy.optimize import brentq

    # divided by (1 - r), which takes the root at 1 away: c mu (r + ... + r^B) = lambda
    def rest(r: float) -> float:
        return joint_rate * r * -math.expm1(batch_max * math.log(r)) / (1 - r) - arrival_rate

    return float(brentq(rest, 1e-300, 1 - 1e-12, xtol=1e-16))


def _log_decay(arrival_rate: float, service: ServiceTime, batch: int) -> float:
    """Return log z of the root z > 1 of z^B = E[z^arrivals]: the queue's tail falls like z^-n."""
    from scipy.optimize import brentq

    def gap(log_z: float) -> float:
        value = batch * log_z - service.log_arrivals_transform(arrival_rate, log_z)
        return max(value, -1e300)

    high = 1e-6
    while gap(high) > 0:
        high *= 2
    low = high / 2
    while gap(low) <= 0:
        low /= 2
        if low < 1e-12:
            raise UserError("too near saturation for the exact chain")
    return float(brentq(gap, low, high))


def _require_stable(arrival_rate: float, capacity: float) -> None:
    if not arrival_rate > 0:
        raise UserError(f"arrival_rate={arrival_rate}: must be positive")
    if arrival_rate >= capacity:
        raise UserError(f"unstable: {arrival_rate:g} requests a second arrive, full batches serve {capacity:g}")
