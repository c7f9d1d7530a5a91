"""Distributions of request lengths (or service times), continuous and on whole tokens, as the oracles need them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ContinuousLengths:
    """A distribution without atoms, given by its quantile function.

    Attributes
    ----------
    quantile : function
        Of an array of probabilities in [0, 1]; vectorised, non-decreasing, ``inf`` at 1 where lengths are unbounded.
    cdf : function
        Probability that a length is at most x, of one number.
    mean, second_moment : float
        In the unit of the lengths (and its square).
    low, high : float
        Ends of the range; `high` may be ``inf``.
    """

    name: str
    quantile: Callable[[FloatArray], FloatArray]
    cdf: Callable[[float], float]
    mean: float
    second_moment: float
    low: float
    high: float

    @property
    def span(self) -> float:
        """Width of the range: R of P1."""
        return self.high - self.low


@dataclass(frozen=True)
class DiscreteLengths:
    """A distribution on finitely many values: whole tokens, or a sample.

    Attributes
    ----------
    values : float64 array, shape (n,)
        Increasing.
    probabilities : float64 array, shape (n,)
        Positive, summing to 1.
    """

    name: str
    values: FloatArray
    probabilities: FloatArray

    @property
    def mean(self) -> float:
        """Mean length."""
        return float(self.values @ self.probabilities)

    @property
    def second_moment(self) -> float:
        """Mean square of the length."""
        return float(self.values**2 @ self.probabilities)

    @property
    def low(self) -> float:
        """Least value."""
        return float(self.values[0])

    @property
    def high(self) -> float:
        """Greatest value."""
        return float(self.values[-1])

    @property
    def span(self) -> float:
        """Width of the range: R of P1."""
        return self.high - self.low

    def cdf(self, x: float) -> float:
        """Return the probability that a length is at most `x`."""
        count = int(np.searchsorted(self.values, x, side="right"))
        return 1.0 if count == len(self.values) else float(self.probabilities[:count].sum())

    def quantile(self, probability: FloatArray) -> FloatArray:
        """Return the least value whose cumulative probability reaches `probability`, elementwise."""
        cumulative = np.cumsum(self.probabilities)
        # a probability that equals a step up to rounding belongs to that step, not to the next value
        index = np.searchsorted(cumulative, np.asarray(probability) - 1e-12, side="left")
        return np.asarray(self.values[np.minimum(index, len(self.values) - 1)], dtype=np.float64)


Lengths = ContinuousLengths | DiscreteLengths


def uniform(low: float, high: float) -> ContinuousLengths:
    """Return the continuous uniform distribution on [low, high]."""
    if not low < high:
        raise UserError(f"uniform lengths: low={low} must be below high={high}")
    width = high - low
    return ContinuousLengths(
        name=f"uniform on [{low:g}, {high:g}]",
        quantile=lambda probability: low + width * np.asarray(probability, dtype=np.float64),
        cdf=lambda x: min(max((x - low) / width, 0.0), 1.0),
        mean=(low + high) / 2,
        second_moment=(low * low + low * high + high * high) / 3,
        low=low,
        high=high,
    )


def exponential(mean: float) -> ContinuousLengths:
    """Return the exponential distribution."""
    _require_positive("mean", mean)
    return ContinuousLengths(
        name=f"exponential of mean {mean:g}",
        quantile=lambda probability: -mean * np.log1p(-np.asarray(probability, dtype=np.float64)),
        cdf=lambda x: -math.expm1(-max(x, 0.0) / mean),
        mean=mean,
        second_moment=2 * mean * mean,
        low=0.0,
        high=math.inf,
    )


def lognormal(mean: float, sigma: float) -> ContinuousLengths:
    """Return the lognormal distribution of this mean whose logarithm has standard deviation `sigma`."""
    from scipy.special import ndtr, ndtri

    _require_positive("mean", mean)
    _require_positive("sigma", sigma)
    location = math.log(mean) - sigma * sigma / 2
    return ContinuousLengths(
        name=f"lognormal of mean {mean:g}, sigma {sigma:g}",
        quantile=lambda probability: np.exp(location + sigma * ndtri(np.asarray(probability, dtype=np.float64))),
        cdf=lambda x: float(ndtr((math.log(x) - location) / sigma)) if x > 0 else 0.0,
        mean=mean,
        second_moment=mean * mean * math.exp(sigma * sigma),
        low=0.0,
        high=math.inf,
    )


def constant(value: float) -> DiscreteLengths:
    """Return the distribution on one value."""
    return DiscreteLengths(f"constant {value:g}", np.array([float(value)]), np.array([1.0]))


def uniform_integers(low: int, high: int) -> DiscreteLengths:
    """Return the uniform distribution on the whole numbers low, low + 1, ..., high."""
    if not low <= high:
        raise UserError(f"uniform lengths: low={low} must not exceed high={high}")
    count = int(high) - int(low) + 1
    values = np.arange(int(low), int(high) + 1, dtype=np.float64)
    return DiscreteLengths(f"uniform on {low}..{high}", values, np.full(count, 1 / count))


def empirical(sample: npt.ArrayLike) -> DiscreteLengths:
    """Return the distribution that gives every element of `sample` the same probability."""
    array = np.asarray(sample, dtype=np.float64).ravel()
    if array.size == 0 or not np.isfinite(array).all():
        raise UserError("empirical lengths: the sample must be non-empty and finite")
    values, counts = np.unique(array, return_counts=True)
    return DiscreteLengths(f"sample of {array.size}", values, counts / array.size)


def discrete(values: Sequence[float], probabilities: Sequence[float]) -> DiscreteLengths:
    """Return the distribution on `values` with these probabilities (scaled to sum to 1)."""
    points, weights = np.asarray(values, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    if points.shape != weights.shape or points.ndim != 1 or points.size == 0:
        raise UserError("discrete lengths: as many probabilities as values are needed, and at least one")
    if (weights < 0).any() or weights.sum() <= 0:
        raise UserError("discrete lengths: probabilities must not be negative, nor all zero")
    order = np.argsort(points)
    unique, starts = np.unique(points[order], return_index=True)
    summed = np.add.reduceat(weights[order], starts)
    return DiscreteLengths(f"{unique.size} values", unique[summed > 0], summed[summed > 0] / summed.sum())


def rounded_up(lengths: ContinuousLengths, unit: float = 1.0, tail: float = 1e-14) -> DiscreteLengths:
    """Return the distribution of a continuous length rounded up to whole multiples of `unit`, at least one of them.

    Mass beyond the ``1 - tail`` quantile is put on the last value.
    """
    top = lengths.high if math.isfinite(lengths.high) else float(lengths.quantile(np.array([1 - tail]))[0])
    steps = np.arange(1, math.ceil(top / unit - 1e-12) + 1)
    cumulative = np.array([lengths.cdf(step * unit) for step in steps])
    cumulative[-1] = 1.0
    masses = np.asarray(np.diff(cumulative, prepend=0.0), dtype=np.float64)
    kept = masses > 0
    return DiscreteLengths(
        f"{lengths.name}, rounded up to {unit:g}", np.asarray(steps[kept] * unit, dtype=np.float64), masses[kept]
    )


def _require_positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise UserError(f"{name}={value}: must be positive and finite")
