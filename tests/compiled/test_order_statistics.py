"""Quantiles by buckets against NumPy's, and against sorting."""

from __future__ import annotations

import numpy as np
import pytest

from mbexp.compiled.order_statistics import SHORT, quantiles, weighted_quantiles

SHARES = [0.0, 0.001, 0.5, 0.9, 0.95, 0.99, 0.999999, 1.0]
LONG = 2 * SHORT + 1

DRAWN = {
    "exponential": lambda rng: rng.exponential(5.0, LONG),
    "normal": lambda rng: rng.standard_normal(LONG),
    "rising": lambda rng: np.arange(LONG) * 1e-3 + rng.random(LONG),
    "few_values": lambda rng: rng.integers(0, 4, LONG).astype(np.float64),
    "all_equal": lambda rng: np.full(LONG, 0.1),
    "one_far_away": lambda rng: np.append(rng.random(LONG), 1e300),
    "a_hair_apart": lambda rng: 1.0 + rng.integers(0, 3, LONG) * 2.0**-52,
    "widest": lambda rng: np.append(rng.random(LONG), [-1.7e308, 1.7e308]),
    "smallest": lambda rng: rng.integers(0, 3, LONG) * 5e-324,
}


@pytest.mark.parametrize("name", DRAWN)
def test_long_arrays_give_the_bits_of_numpy(name):
    values = DRAWN[name](np.random.default_rng(3))
    before = values.copy()
    with np.errstate(over="ignore"):  # of NumPy's own interpolation between the widest
        assert quantiles(values, SHARES) == np.quantile(values, SHARES).tolist()
    assert np.array_equal(values, before)


def test_short_arrays_and_none():
    values = np.random.default_rng(4).random(101)
    assert quantiles(values, SHARES) == np.quantile(values, SHARES).tolist()
    assert quantiles(np.array([2.5]), [0.5]) == [2.5]
    assert np.isnan(quantiles(np.empty(0), [0.5, 0.99])).tolist() == [True, True]


@pytest.mark.parametrize("name", [name for name in DRAWN if name != "widest"])
@pytest.mark.parametrize("length", [1, 1000, LONG])
def test_weighted_quantiles_are_those_of_repeated_values(name, length):
    rng = np.random.default_rng(5)
    values = DRAWN[name](rng)[-length:]
    weight = rng.integers(0, 5, length)
    weight[rng.integers(length)] += 1
    repeated = np.sort(np.repeat(values, weight))
    for share in (0.01, 0.5, 0.99, 1.0):
        reached = int(np.searchsorted(np.arange(1, len(repeated) + 1), share * len(repeated)))
        assert weighted_quantiles(values, weight.astype(np.float64), [share])[0] == repeated[reached]
