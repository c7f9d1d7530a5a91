"""Service times as the queueing models need them: moments, and how many Poisson arrivals fall into one service."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError

FloatArray = npt.NDArray[np.float64]
NEGLIGIBLE = 1e-18  # probability that a truncation may leave out


@dataclass(frozen=True)
class ServiceTime:
    """Time that one batch takes: a mixture of constants, or exponential.

    Attributes
    ----------
    values, probabilities : float64 array, shape (n,)
        The mixture, in seconds; for an exponential time, its mean alone.
    is_exponential : bool
    """

    values: FloatArray
    probabilities: FloatArray
    is_exponential: bool = False

    @property
    def mean(self) -> float:
        """Mean, in seconds."""
        return float(self.values @ self.probabilities)

    @property
    def second_moment(self) -> float:
        """Mean square, in seconds squared."""
        return (2.0 if self.is_exponential else 1.0) * float(self.values**2 @ self.probabilities)

    def arrivals(self, rate: float) -> FloatArray:
        """Return the distribution of the number of Poisson arrivals during one service, shape (w,), summing to 1."""
        if self.is_exponential:
            again = rate * self.mean / (1 + rate * self.mean)
            width = 1 if again == 0 else math.ceil(math.log(NEGLIGIBLE) / math.log(again)) + 1
            masses = (1 - again) * again ** np.arange(width)
        else:
            most = rate * float(self.values.max())
            counts = np.arange(math.ceil(most + 12 * math.sqrt(most) + 40))
            masses = np.zeros(len(counts))
            for start in range(0, len(self.values), 256):  # in slices: a quadrature has thousands of values
                means = rate * self.values[start : start + 256]
                masses += self.probabilities[start : start + 256] @ _poisson(means, counts)
            used = np.flatnonzero(masses > NEGLIGIBLE)[-1] + 1
            masses = masses[:used]
        return masses / masses.sum()

    def log_arrivals_transform(self, rate: float, log_z: float) -> float:
        """Return the logarithm of E[z**arrivals]; ``inf`` where it diverges."""
        excess = math.expm1(log_z)
        if self.is_exponential:
            rest = 1 - rate * self.mean * excess
            return -math.log(rest) if rest > 0 else math.inf
        exponents = rate * self.values * excess
        peak = float(exponents.max())
        return peak + math.log(float(self.probabilities @ np.exp(exponents - peak)))


def deterministic(time_s: float) -> ServiceTime:
    """Return a constant time."""
    return mixture([time_s], [1.0])


def exponential(mean_s: float) -> ServiceTime:
    """Return an exponential time."""
    if not (mean_s > 0 and math.isfinite(mean_s)):
        raise UserError(f"mean_s={mean_s}: must be positive and finite")
    return ServiceTime(np.array([float(mean_s)]), np.array([1.0]), is_exponential=True)


def mixture(values_s: npt.ArrayLike, probabilities: npt.ArrayLike) -> ServiceTime:
    """Return a time that takes `values_s` with `probabilities` (scaled to sum to 1), or a quadrature of such a time."""
    values, weights = np.asarray(values_s, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    if values.ndim != 1 or values.shape != weights.shape or values.size == 0:
        raise UserError("service time: as many probabilities as values are needed, and at least one")
    if not np.isfinite(values).all() or (values < 0).any() or (weights < 0).any() or not weights.sum() > 0:
        raise UserError("service time: values must be finite, and neither they nor the probabilities negative")
    return ServiceTime(values, weights / weights.sum())


def _poisson(means: FloatArray, counts: npt.NDArray[np.int64]) -> FloatArray:
    from scipy.special import gammaln, xlogy

    exponents = xlogy(counts[None, :], means[:, None]) - means[:, None] - gammaln(counts + 1.0)[None, :]
    return np.asarray(np.exp(exponents), dtype=np.float64)
