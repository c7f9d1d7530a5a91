"""Length distributions: quantiles, moments and rounding to whole tokens."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate

from mbexp.errors import UserError
from mbexp.theory import lengths

CONTINUOUS = [lengths.uniform(1, 20), lengths.exponential(10), lengths.lognormal(1.5533, 0.465)]


@pytest.mark.parametrize("law", CONTINUOUS, ids=lambda law: law.name)
def test_quantile_inverts_the_cdf_and_gives_the_moments(law: lengths.ContinuousLengths) -> None:
    for probability in (0.001, 0.1, 0.5, 0.9, 0.999):
        assert law.cdf(float(law.quantile(np.array([probability]))[0])) == pytest.approx(probability, rel=1e-9)

    def power(u: float, order: int) -> float:
        return float(law.quantile(np.array([u]))[0]) ** order

    assert integrate.quad(power, 0, 1, args=(1,), limit=200)[0] == pytest.approx(law.mean, rel=1e-6)
    assert integrate.quad(power, 0, 1, args=(2,), limit=200)[0] == pytest.approx(law.second_moment, rel=1e-5)
    assert law.cdf(law.low - 1) == 0


def test_whole_lengths_and_samples() -> None:
    law = lengths.uniform_integers(1, 20)
    assert (law.mean, law.span, law.second_moment) == pytest.approx((10.5, 19, 143.5))
    assert law.cdf(0) == 0
    assert law.cdf(5.5) == pytest.approx(0.25)
    assert law.cdf(20) == 1.0
    assert law.quantile(np.array([0.0, 0.05, 0.0501, 0.25, 1.0])).tolist() == [1, 1, 2, 5, 20]
    sample = lengths.empirical([3, 1, 3, 7])
    assert sample.values.tolist() == [1, 3, 7]
    assert sample.probabilities.tolist() == [0.25, 0.5, 0.25]
    merged = lengths.discrete([3, 1, 3], [1, 2, 1])
    assert merged.values.tolist() == [1, 3]
    assert merged.probabilities.tolist() == [0.5, 0.5]
    assert lengths.constant(4).mean == 4


def test_rounding_up_an_exponential_is_geometric() -> None:
    law = lengths.rounded_up(lengths.exponential(10))
    stay = math.exp(-1 / 10)
    assert law.mean == pytest.approx(1 / (1 - stay), rel=1e-9)
    assert law.probabilities[:3] == pytest.approx([1 - stay, stay * (1 - stay), stay**2 * (1 - stay)])
    halves = lengths.rounded_up(lengths.uniform(1, 2), unit=0.5)
    assert halves.values.tolist() == [1.5, 2.0]


@pytest.mark.parametrize(
    "call",
    [
        lambda: lengths.uniform(2, 2),
        lambda: lengths.uniform_integers(3, 2),
        lambda: lengths.exponential(-1),
        lambda: lengths.lognormal(1, math.nan),
        lambda: lengths.empirical([]),
        lambda: lengths.empirical([1, math.inf]),
        lambda: lengths.discrete([1, 2], [1]),
        lambda: lengths.discrete([1, 2], [0, 0]),
    ],
)
def test_an_impossible_distribution_is_refused(call) -> None:
    with pytest.raises(UserError):
        call()
