"""Multi-bin batching, the model of P1: batch times, throughput, latency and bin edges, exact for any lengths.

P1 is "Multi-Bin Batching for Increasing LLM Inference Throughput", Guldogan et al., arXiv 2412.04504. Its model:
Poisson arrivals, k bins by length, batches of exactly B requests of one bin, a batch takes as long as its longest
member. Lengths here are service times; where a request takes beta per token, multiply tokens by beta.

Continuous and whole-token lengths differ, and both are exact here (`mbexp.theory.lengths`). The longest of B on a
continuous [a, b] is a + (b - a) B / (B + 1) on average. On the n = b - a + 1 whole values a..b it is
b - sum of (j / n)^B over j = 1..n-1: with B well below n that is the continuous value of [a - 1, b] plus 1/2, with B
above n it is nearly b. U[1, 20], B = 8: 17.8889 continuous, 18.2445 whole, at the same mean length of 10.5. Equal-mass
bins of whole lengths differ further: an edge inside a tie either divides it at random (`equal_mass`) or, as the
simulator cuts, sends all of it below (`by_edges` with `equal_mass_edges`), which leaves the masses unequal. To simulate
the continuous model, use long lengths (a million tokens for one unit) and a small time per token.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError
from mbexp.theory.lengths import DiscreteLengths, Lengths
from mbexp.theory.service_time import ServiceTime, mixture

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bins:
    """A cut of a length distribution.

    Attributes
    ----------
    lengths : Lengths
    mass_edges : float64 array, shape (k + 1,)
        Cumulative probability at the edges, from 0 to 1, increasing. An edge inside a tie divides it at random.
    """

    lengths: Lengths
    mass_edges: FloatArray

    @property
    def count(self) -> int:
        """Number of bins, k."""
        return len(self.mass_edges) - 1

    @property
    def masses(self) -> FloatArray:
        """Probability of each bin, shape (k,)."""
        return np.diff(self.mass_edges)


@dataclass(frozen=True)
class BatchTime:
    """Time of a full batch.

    Attributes
    ----------
    batch_size : int
    bin_probability : float64 array, shape (k,)
        Share of the requests (and of the batches) that each predicted bin gets.
    bin_mean, bin_second_moment : float64 array, shape (k,)
        Of the batch time in each bin; nan in a bin that gets nothing.
    mean_length : float
        Of one request.
    """

    batch_size: int
    bin_probability: FloatArray
    bin_mean: FloatArray
    bin_second_moment: FloatArray
    mean_length: float

    @property
    def mean(self) -> float:
        """E[t, k] of P1: mean time of a batch."""
        return float(np.nansum(self.bin_probability * self.bin_mean))

    @property
    def throughput(self) -> float:
        """Requests per unit of time of one saturated server: B / E[t, k] (P1, Theorem on throughput)."""
        return self.batch_size / self.mean

    @property
    def padding_share(self) -> float:
        """Share of the batch's slots that wait for the longest member."""
        return 1 - self.mean_length / self.mean


def equal_mass(lengths: Lengths, k: int) -> Bins:
    """Return k bins of probability 1/k each; a tie at an edge is divided between its bins at random."""
    if k < 1:
        raise UserError(f"k={k}: must be at least 1")
    return Bins(lengths, np.linspace(0.0, 1.0, k + 1))


def by_edges(lengths: Lengths, edges: Sequence[float] | FloatArray) -> Bins:
    """Return the bins between inner `edges`; a length equal to an edge is below it. Bins without mass are left out."""
    if np.any(np.diff(np.asarray(edges, dtype=np.float64)) <= 0):
        raise UserError(f"edges={list(edges)}: must increase")
    masses = np.array([0.0, *(lengths.cdf(float(edge)) for edge in edges), 1.0])
    return Bins(lengths, masses[np.concatenate([[True], np.diff(masses) > 0])])


def equal_mass_edges(lengths: Lengths, k: int) -> list[float]:
    """Return the inner edges at the quantiles 1/k, ..., (k-1)/k; edges that coincide are merged."""
    quantiles = lengths.quantile(np.arange(1, k) / k)
    return [float(edge) for edge in np.unique(quantiles) if edge < lengths.high]


def exponential_edges(mean: float, k: int, batch_size: int) -> list[float]:
    """Return P1's edges for exponential lengths (its appendix).

    l_i = mean * sum over j = 1..i of log L_{k-j}, with L_1 = H_B (harmonic number) and L_m = 1 + log L_{m-1}.
    They are the best edges when every bin but the last is priced at its upper edge, which is what a very large batch
    costs; L_k means is then the batch time. At finite B the throughput is higher: see `exponential_throughput_bound`.
    """
    levels = _exponential_levels(k, batch_size)
    return [mean * sum(math.log(levels[k - j]) for j in range(1, i + 1)) for i in range(1, k)]


def exponential_throughput_bound(mean: float, k: int, batch_size: int) -> float:
    """Return P1's lower bound on the throughput of `exponential_edges`: B / (mean L_k)."""
    return batch_size / (mean * _exponential_levels(k, batch_size)[k])


def batch_time(bins: Bins, batch_size: int, confusion: npt.ArrayLike | None = None) -> BatchTime:
    """Return the time of a full batch when bins are predicted with errors, or without.

    Parameters
    ----------
    confusion : array, shape (k, k), optional
        Rows = true bin, columns = predicted bin; probabilities, or counts (rows are scaled to sum to 1).

    Notes
    -----
    Exact for any matrix: with p_j = sum_i P(true i, predicted j), the members of predicted bin j have the mixed
    distribution F_j = sum_i P(true i, predicted j) F_i / p_j, and the batch takes their maximum, F_j^B.
    """
    joint = joint_probability(bins, confusion)
    nodes = [_nodes(bins, batch_size, joint[:, j]) for j in range(bins.count)]
    means = [float(values @ weights) if len(values) else math.nan for values, weights in nodes]
    squares = [float(values**2 @ weights) if len(values) else math.nan for values, weights in nodes]
    return BatchTime(batch_size, joint.sum(axis=0), np.array(means), np.array(squares), bins.lengths.mean)


def batch_service(
    bins: Bins, batch_size: int, confusion: npt.ArrayLike | None = None, bin_index: int = 0
) -> ServiceTime:
    """Return the time of a batch of one predicted bin as a service time, for the models of `bulk_service`."""
    return mixture(*maximum_nodes(bins, batch_size, confusion, bin_index))


def uniform_batch_time(low: float, high: float, k: int, batch_size: int) -> float:
    """Return P1's closed form for uniform lengths in k equal bins: m + R (B - 1) / (2 k (B + 1))."""
    return (low + high) / 2 + (high - low) * (batch_size - 1) / (2 * k * (batch_size + 1))


def throughput_bounds(lengths: Lengths, k: int, batch_size: int) -> tuple[float, float]:
    """Return B / (E[X] + R/k) and B / E[X], between which the throughput of k equal-mass bins lies, for any lengths."""
    return batch_size / (lengths.mean + lengths.span / k), batch_size / lengths.mean


def formation_delay(batch_size: int, k: int, arrival_rate: float) -> float:
    """Return a request's mean wait until its batch is full: (B - 1) k / (2 lambda), whatever the bins' masses.

    A request of a bin of mass p waits (B - 1) / (2 lambda p) and a share p of the requests is in it, so the mass
    cancels: every bin in use adds the same.
    """
    return (batch_size - 1) * k / (2 * arrival_rate)


def latency_infinite_servers(mean_batch_time: float, batch_size: int, k: int, arrival_rate: float) -> float:
    """Return P1's mean latency when formed batches never wait: E[t, k] + (B - 1) k / (2 lambda)."""
    return mean_batch_time + formation_delay(batch_size, k, arrival_rate)


def best_bin_count(span: float, batch_size: int, arrival_rate: float) -> float:
    """Return the real k of least latency for uniform lengths and infinite servers: sqrt(lambda R / (B + 1))."""
    return math.sqrt(arrival_rate * span / (batch_size + 1))


def best_whole_bin_count(low: float, high: float, batch_size: int, arrival_rate: float) -> int:
    """Return the whole k of least latency for uniform lengths and infinite servers."""
    real = best_bin_count(high - low, batch_size, arrival_rate)
    candidates = sorted({max(1, math.floor(real)), max(1, math.ceil(real))})
    return min(
        candidates,
        key=lambda k: latency_infinite_servers(
            uniform_batch_time(low, high, k, batch_size), batch_size, k, arrival_rate
        ),
    )


def joint_probability(bins: Bins, confusion: npt.ArrayLike | None = None) -> FloatArray:
    """Return P(true bin i, predicted bin j), shape (k, k)."""
    k = bins.count
    matrix = np.eye(k) if confusion is None else np.asarray(confusion, dtype=np.float64)
    if matrix.shape != (k, k) or (matrix < 0).any() or (matrix.sum(axis=1) <= 0).any():
        raise UserError(f"confusion: needs {k} rows and columns, no negative number and no empty row")
    return bins.masses[:, None] * matrix / matrix.sum(axis=1, keepdims=True)


def maximum_nodes(
    bins: Bins, batch_size: int, confusion: npt.ArrayLike | None = None, bin_index: int = 0
) -> tuple[FloatArray, FloatArray]:
    """Return values and probabilities of the longest of `batch_size` members of one predicted bin.

    Exact for discrete lengths, a Gauss-Legendre quadrature (refined towards both ends of every true bin, so that tails
    and large batches stay accurate to about 1e-12) for continuous ones. Both arrays are empty if the bin gets nothing.
    """
    return _nodes(bins, batch_size, joint_probability(bins, confusion)[:, bin_index])


def _nodes(bins: Bins, batch_size: int, joint: FloatArray) -> tuple[FloatArray, FloatArray]:
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size}: must be at least 1")
    if joint.sum() <= 0:
        return np.empty(0), np.empty(0)
    shares = joint / joint.sum()
    below = np.concatenate([[0.0], np.cumsum(shares)])
    values, weights = [], []
    cumulative = np.cumsum(bins.lengths.probabilities) if isinstance(bins.lengths, DiscreteLengths) else np.empty(0)
    for i in np.flatnonzero(shares):
        start, stop = bins.mass_edges[i], bins.mass_edges[i + 1]
        if isinstance(bins.lengths, DiscreteLengths):
            inside = cumulative[(cumulative > start) & (cumulative < stop)]
            cuts = np.concatenate([[start], inside, [stop]])
            u = (cuts - start) / (stop - start)
            values.append(bins.lengths.quantile((cuts[1:] + cuts[:-1]) / 2))
            weights.append(np.diff((below[i] + shares[i] * u) ** batch_size))
        else:
            u, du = _refined_nodes()
            mass = np.minimum(start + (stop - start) * u, 1 - 2.0**-53)  # 1 itself may stand for infinity
            values.append(bins.lengths.quantile(mass))
            weights.append(batch_size * (below[i] + shares[i] * u) ** (batch_size - 1) * shares[i] * du)
    total = np.concatenate(weights)
    return np.concatenate(values), total / total.sum()


@functools.cache
def _refined_nodes() -> tuple[FloatArray, FloatArray]:
    """Return nodes and weights on (0, 1): 16 Gauss points in each of the intervals that halve towards 0 and 1."""
    points, gauss = np.polynomial.legendre.leggauss(16)
    halves = 2.0 ** -np.arange(1, 50)
    edges = np.concatenate([[0.0], halves[::-1], 1 - halves[1:], [1.0]])
    width = np.diff(edges)[:, None]
    nodes = edges[:-1, None] + width * (points + 1) / 2
    return nodes.ravel(), (width * gauss / 2).ravel()


def _exponential_levels(k: int, batch_size: int) -> list[float]:
    """Return L_1..L_k of P1's appendix at indices 1..k."""
    levels = [math.nan, sum(1 / n for n in range(1, batch_size + 1))]
    for _ in range(k - 1):
        levels.append(1 + math.log(levels[-1]))
    return levels
