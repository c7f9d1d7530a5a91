"""Exact quantiles of long arrays without sorting them: count in buckets, then look only into those that matter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numba import types

from mbexp.compiled.decorators import compiled_late

FloatArray = npt.NDArray[np.float64]

SHORT = 1 << 14  # below it, sorting is as fast
_BUCKETS = 1 << 12  # counts fit into the innermost cache
_ONES = np.empty(0)  # stands for weights that are all 1


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
    if len(values) <= SHORT:
        return [float(value) for value in np.quantile(values, shares)]
    place = (len(values) - 1) * np.asarray(shares, np.float64)
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, len(values) - 1)
    ranks = np.unique(np.concatenate([below, above]))
    found = _reaching(values, _ONES, ranks + 1.0)
    low, high = found[np.searchsorted(ranks, below)], found[np.searchsorted(ranks, above)]
    part, gap = place - below, high - low
    # The two forms are equal but for rounding; NumPy takes the one nearer to its end, and so must we.
    return [float(value) for value in np.where(part >= 0.5, high - gap * (1 - part), low + gap * part)]


def weighted_quantiles(values: FloatArray, weight: FloatArray, shares: Sequence[float]) -> list[float]:
    """Return the smallest values at which the weight of all values up to them reaches each share of the total.

    Parameters
    ----------
    values, weight : float64 arrays, shape (n,), n >= 1
        Weights are whole numbers, so that their sums are exact in any order.
    shares
        Each between 0 and 1, rising.
    """
    targets = np.asarray(shares, np.float64) * float(weight.sum())
    return [float(value) for value in _reaching(values, weight, targets)]


def _reaching(values: FloatArray, weight: FloatArray, targets: FloatArray) -> FloatArray:
    """Return, for each of several rising targets, the smallest value up to which the weight reaches it."""
    if len(values) <= SHORT:
        return _reaching_sorted(values, weight, targets)
    return _reaching_between(values, weight, targets, float(values.min()), float(values.max()))


def _reaching_sorted(values: FloatArray, weight: FloatArray, targets: FloatArray) -> FloatArray:
    order = np.argsort(values)
    cumulative = np.cumsum(weight[order]) if len(weight) else np.arange(1.0, len(values) + 1)
    return values[order[np.minimum(np.searchsorted(cumulative, targets), len(order) - 1)]]


def _reaching_between(
    values: FloatArray, weight: FloatArray, targets: FloatArray, low: float, high: float
) -> FloatArray:
    """Do so among the values from `low` to `high`, both of which there are; targets count from `low` on."""
    if low == high:
        return np.full(len(targets), low)
    scale = (_BUCKETS - 1) / (high - low)
    if not (np.isfinite(scale) and scale > 0):  # as wide, or as narrow, as numbers go
        inside = (values >= low) & (values <= high)
        return _reaching_sorted(values[inside], weight[inside] if len(weight) else weight, targets)
    weights, counts = np.zeros(_BUCKETS), np.zeros(_BUCKETS, np.int64)
    _count(values, weight, low, high, scale, weights, counts)
    if not len(weight):
        weights += counts
    cumulative = np.cumsum(weights)
    bucket_of = np.minimum(np.searchsorted(cumulative, targets), _BUCKETS - 1)
    buckets = np.unique(bucket_of)
    small = buckets[counts[buckets] <= SHORT]
    next_place = np.full(_BUCKETS, -1)  # where in `kept` a bucket's next value goes
    next_place[small] = np.cumsum(counts[small]) - counts[small]
    kept = np.empty(counts[small].sum())
    kept_weight = np.empty(len(kept) if len(weight) else 0)
    if len(kept):
        _collect(values, weight, low, high, scale, next_place, kept, kept_weight)
    found = np.empty(len(targets))
    for bucket in buckets:
        mine = bucket_of == bucket
        left = targets[mine] - (cumulative[bucket] - weights[bucket])
        if counts[bucket] <= SHORT:
            part = slice(next_place[bucket] - counts[bucket], next_place[bucket])
            found[mine] = _reaching_sorted(kept[part], kept_weight[part] if len(weight) else weight, left)
        else:
            found[mine] = _reaching_between(values, weight, left, *_ends(values, low, high, scale, bucket))
    return found


_f8, _i8 = types.Array(types.float64, 1, "C"), types.Array(types.int64, 1, "C")
_number = types.float64


@compiled_late(types.void(_f8, _f8, _number, _number, _number, _f8, _i8), _nrt=False)
def _count(values, weight, low, high, scale, weights, counts):  # type: ignore[no-untyped-def]
    """Count every value from `low` to `high` in its bucket, and add its weight where it has one."""
    if len(weight) == 0:
        for value in values:
            if low <= value <= high:
                counts[np.uint64((value - low) * scale)] += 1
        return
    for place in range(len(values)):
        value = values[place]
        if low <= value <= high:
            bucket = np.uint64((value - low) * scale)
            counts[bucket] += 1
            weights[bucket] += weight[place]


@compiled_late(types.UniTuple(types.float64, 2)(_f8, _number, _number, _number, types.int64), _nrt=False)
def _ends(values, low, high, scale, bucket):  # type: ignore[no-untyped-def]
    """Return the lowest and the highest value in a bucket."""
    lowest, highest = np.inf, -np.inf
    for value in values:
        if low <= value <= high and int((value - low) * scale) == bucket:
            lowest, highest = min(lowest, value), max(highest, value)
    return lowest, highest


@compiled_late(types.void(_f8, _f8, _number, _number, _number, _i8, _f8, _f8), _nrt=False)
def _collect(values, weight, low, high, scale, next_place, kept, kept_weight):  # type: ignore[no-untyped-def]
    """Copy what lies in the buckets that have a place, bucket by bucket."""
    for place in range(len(values)):
        value = values[place]
        if low <= value <= high:
            bucket = np.uint64((value - low) * scale)
            at = next_place[bucket]
            if at >= 0:
                kept[at] = value
                if len(weight) > 0:
                    kept_weight[at] = weight[place]
                next_place[bucket] = at + 1
