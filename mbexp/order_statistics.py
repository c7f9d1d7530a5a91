"""Exact quantiles of long arrays: count in buckets, then sort only the buckets that hold what is asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numba import types

from mbexp.compiled import compiled

FloatArray = npt.NDArray[np.float64]

SHORT = 1 << 14  # below it, sorting is as fast
_BUCKETS = 1 << 12  # counts fit into the innermost cache
_ROUNDS = 3  # most values may lie in one bucket, but seldom again in one of its own
_NONE = np.empty(0)


def quantiles(values: FloatArray, shares: Sequence[float]) -> list[float]:
    """Return quantiles by linear interpolation between order statistics, NaN of nothing; as ``np.quantile`` does.

    Parameters
    ----------
    values : float64 array, shape (n,), finite
    shares
        Each between 0 and 1.
    """
    if not len(values):
        return [np.nan] * len(shares)
    if len(values) < SHORT:
        return [float(value) for value in np.quantile(values, shares)]
    place = (len(values) - 1) * np.asarray(shares, np.float64)
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, len(values) - 1)
    ranks = np.unique(np.concatenate([below, above]))
    found = _order_statistics(values, ranks)
    low, high = found[np.searchsorted(ranks, below)], found[np.searchsorted(ranks, above)]
    part, gap = place - below, high - low
    # The two forms are equal but for rounding; NumPy takes the one nearer to its end, and so must we.
    return [float(value) for value in np.where(part >= 0.5, high - gap * (1 - part), low + gap * part)]


def weighted_quantile(values: FloatArray, weight: FloatArray, share: float) -> float:
    """Return the smallest value at which the weight of all values up to it reaches `share` of the total.

    Parameters
    ----------
    values, weight : float64 arrays, shape (n,), n >= 1
        Weights are whole numbers, so that their sums are exact in any order.
    """
    before = 0.0
    target = share * float(weight.sum())
    for _ in range(_ROUNDS):
        buckets = _buckets(values) if len(values) > SHORT else None
        if buckets is None:
            break
        counts = np.zeros(_BUCKETS)
        _count(values, weight, *buckets, counts)
        cumulative = np.cumsum(counts)
        bucket = min(int(np.searchsorted(before + cumulative, target)), _BUCKETS - 1)
        before += float(cumulative[bucket] - counts[bucket])
        values, weight = _inside(values, weight, buckets, np.arange(_BUCKETS) == bucket)
    if values.min() == values.max():
        return float(values[0])
    order = np.argsort(values)
    place = int(np.searchsorted(before + np.cumsum(weight[order]), target))
    return float(values[order[min(place, len(order) - 1)]])


def _order_statistics(values: FloatArray, ranks: npt.NDArray[np.int64]) -> FloatArray:
    """Return the values of the given ranks, 0 for the smallest; ranks increase."""
    buckets = _buckets(values)
    if buckets is None:
        return np.partition(values, ranks)[ranks]
    counts = np.zeros(_BUCKETS)
    _count(values, _NONE, *buckets, counts)
    behind = np.cumsum(counts).astype(np.int64)
    bucket_of = np.searchsorted(behind, ranks, side="right")
    wanted = np.zeros(_BUCKETS, np.bool_)
    wanted[bucket_of] = True
    kept, _ = _inside(values, _NONE, buckets, wanted)
    left_out = np.cumsum(np.where(wanted, 0, counts)).astype(np.int64)[bucket_of]
    return np.partition(kept, ranks - left_out)[ranks - left_out]


def _buckets(values: FloatArray) -> tuple[float, float] | None:
    """Return the lowest value and buckets per unit above it; None where that is no number."""
    low, high = float(values.min()), float(values.max())
    scale = (_BUCKETS - 1) / (high - low) if high > low else np.inf
    return (low, scale) if np.isfinite(scale) and np.isfinite(high - low) else None


def _inside(
    values: FloatArray, weight: FloatArray, buckets: tuple[float, float], wanted: npt.NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """Return the values, and their weights, that lie in the wanted buckets."""
    kept, kept_weight = np.empty(len(values)), np.empty(len(weight))  # what is not written takes no memory
    count = _collect(values, weight, *buckets, wanted, kept, kept_weight)
    return kept[:count].copy(), kept_weight[:count].copy()


_f8 = types.Array(types.float64, 1, "C")


@compiled(types.void(_f8, _f8, types.float64, types.float64, _f8), _nrt=False)
def _count(values, weight, low, scale, counts):  # type: ignore[no-untyped-def]
    """Add the weight of every value (1 where none is given) to its bucket."""
    if len(weight) > 0:
        for place in range(len(values)):
            counts[np.uint64((values[place] - low) * scale)] += weight[place]
    else:
        for value in values:
            counts[np.uint64((value - low) * scale)] += 1.0


@compiled(types.int64(_f8, _f8, types.float64, types.float64, types.Array(types.boolean, 1, "C"), _f8, _f8), _nrt=False)
def _collect(values, weight, low, scale, wanted, kept, kept_weight):  # type: ignore[no-untyped-def]
    """Copy what lies in the wanted buckets; return how many."""
    count = 0
    for place in range(len(values)):
        if wanted[np.uint64((values[place] - low) * scale)]:
            kept[np.uint64(count)] = values[place]
            if len(weight) > 0:
                kept_weight[np.uint64(count)] = weight[place]
            count += 1
    return count
