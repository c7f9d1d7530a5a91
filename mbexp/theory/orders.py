"""Exact mean times under orders of a queue: one server with predicted sizes, classes with priorities, conservation.

Sources: Mitzenmacher, "Scheduling with predictions and the price of misprediction", arXiv 1902.00732 (ITCS 2020), and
Schrage and Miller (1966) for SRPT; Cobham, "Priority assignment in waiting line problems", Operations Research 2
(1954); Kella and Yechiali, "Waiting times in the non-preemptive priority M/M/c queue", Stochastic Models 1 (1985);
Kleinrock, "Queueing Systems", volume 2 (1976), for the conservation law.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.integrate import quad
from scipy.special import kv

from mbexp.theory.queueing import erlang_c

SHARE = 1 - 2 / math.e  # of x^2: the mean of ((x - z)+)^2, z exponential with mean x


def exponential_sizes(load: float) -> dict[str, float]:
    """Return the mean time in system by order, for Poisson arrivals and exponential sizes with mean 1 on one server.

    The prediction y of a size x is exponential with mean x. Preemption is free, and work is kept.

    Parameters
    ----------
    load : float
        Arrivals per unit of time, below 1.

    Returns
    -------
    dict of str to float
        ``FIFO``; by size ``SJF`` (not preemptive), ``PSJF`` (preemptive, by whole size), ``SRPT`` (by what is left);
        by prediction ``SPJF``, ``PSPJF``, and ``SPRPT`` (by the prediction less the service so far).

    Notes
    -----
    ``SPRPT`` is the exact mean under SOAP with rank y - age; the values printed in the paper are up to 1 % lower.
    """

    def by_size(x: float) -> float:
        """Share of time that a server works on sizes up to x."""
        return load * (1 - math.exp(-x) * (1 + x))

    def squares(x: float) -> float:
        """Second moment of the sizes up to x."""
        return 2 - math.exp(-x) * (x * x + 2 * x + 2)

    def by_prediction(y: float) -> float:
        """Share of time that a server works on predictions up to y."""
        return load * (1 - _bessel(2, y))

    def predicted_squares(y: float) -> float:
        """Second moment of the sizes whose prediction is up to y."""
        return 2 - _bessel(3, y)

    def slowed(share: float) -> float:
        return 1 / (1 - share)

    def over_sizes(of: Callable[[float], float]) -> float:
        return _integral(lambda x: math.exp(-x) * of(x))

    def over_predictions(of: Callable[[float], float]) -> float:
        return _integral(lambda y: _bessel(0, y) * of(y))

    waiting_sjf = over_sizes(lambda x: load * slowed(by_size(x)) ** 2)
    waiting_psjf = over_sizes(lambda x: load * squares(x) / 2 * slowed(by_size(x)) ** 2)
    waiting_srpt = over_sizes(lambda x: load * (squares(x) + x * x * math.exp(-x)) / 2 * slowed(by_size(x)) ** 2)
    waiting_spjf = over_predictions(lambda y: load * slowed(by_prediction(y)) ** 2)
    waiting_pspjf = over_predictions(lambda y: load * predicted_squares(y) / 2 * slowed(by_prediction(y)) ** 2)
    waiting_sprpt = over_predictions(
        lambda y: load * (predicted_squares(y) + SHARE * _bessel(3, y)) / 2 * slowed(by_prediction(y)) ** 2
    )
    return {
        "FIFO": 1 + load / (1 - load),
        "SJF": 1 + waiting_sjf,
        "SPJF": 1 + waiting_spjf,
        "PSJF": waiting_psjf + over_sizes(lambda x: x * slowed(by_size(x))),
        "PSPJF": waiting_pspjf + _integral(lambda y: _bessel(1, y) * slowed(by_prediction(y))),
        "SRPT": waiting_srpt + _integral(lambda x: math.exp(-x) * slowed(by_size(x))),
        "SPRPT": waiting_sprpt
        + 1
        + (1 - 1 / math.e) * _integral(lambda y: _bessel(1, y) * (slowed(by_prediction(y)) - 1)),
    }


def priority_waits(rates: Sequence[float], means: Sequence[float], second_moments: Sequence[float]) -> list[float]:
    """Return the mean wait of each class on one server, the first class first, not preemptive (Cobham).

    Parameters
    ----------
    rates : arrivals per second of each class, in order of priority
    means, second_moments : of the service of each class, in s and s^2
    """
    residual = sum(rate * square for rate, square in zip(rates, second_moments, strict=True)) / 2
    ends = np.concatenate(([0.0], np.cumsum(np.multiply(rates, means))))
    return [float(residual / ((1 - before) * (1 - to))) for before, to in itertools.pairwise(ends)]


def preemptive_priority_times(
    rates: Sequence[float], means: Sequence[float], second_moments: Sequence[float]
) -> list[float]:
    """Return the mean time in system of each class on one server, preemptive, work kept; arguments as above."""
    found, load, residual = [], 0.0, 0.0
    for rate, mean, square in zip(rates, means, second_moments, strict=True):
        before, load = load, load + rate * mean
        residual += rate * square / 2
        found.append(mean / (1 - before) + residual / ((1 - before) * (1 - load)))
    return found


def priority_waits_of_servers(rates: Sequence[float], service_rate: float, servers: int) -> list[float]:
    """Return the mean wait of each class on c servers, exponential service of one rate (Kella and Yechiali).

    Parameters
    ----------
    rates : arrivals per second of each class, in order of priority
    service_rate : requests per second of a server
    """
    capacity = servers * service_rate
    residual = erlang_c(servers, sum(rates) / service_rate) / capacity
    ends = np.concatenate(([0.0], np.cumsum(rates) / capacity))
    return [float(residual / ((1 - before) * (1 - to))) for before, to in itertools.pairwise(ends)]


def conserved_wait(rates: Sequence[float], means: Sequence[float], second_moments: Sequence[float]) -> float:
    """Return sum rho_i W_i, the same for every order that ignores sizes, does not preempt and keeps a server busy."""
    load = sum(rate * mean for rate, mean in zip(rates, means, strict=True))
    residual = sum(rate * square for rate, square in zip(rates, second_moments, strict=True)) / 2
    return load * residual / (1 - load)


def _bessel(order: int, y: float) -> float:
    """Return the integral of x^(order - 1) exp(-x - y/x) over x from 0: 2 y^(order/2) K_order(2 sqrt(y))."""
    if y <= 0:
        return math.inf if order == 0 else float(math.factorial(order - 1))
    return float(2 * y ** (order / 2) * kv(order, 2 * math.sqrt(y)))


def _integral(function: Callable[[float], float]) -> float:
    """Integrate from 0 to infinity, with care near 0, where a density may have a pole."""
    parts = (0.0, 1e-6, 1e-3, 0.1, 1.0, 4.0, 12.0, 40.0, 400.0)
    return sum(quad(function, low, high, limit=200)[0] for low, high in itertools.pairwise(parts))
