"""Verdicts: two sides that met the same requests, compared by one statistic that decides and is shown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError, unknown_choice
from mbexp.results.catalogue import catalogue, find_column
from mbexp.results.statistics import checked, distinct, records, result_of, t_quantile

if TYPE_CHECKING:
    import pandas as pd

TIMES_FROM_PCT = 100.0  # a difference that may be larger is told as a multiple
MOST_DIGITS = 1e6  # larger numbers are written by their power of ten
ROUNDING = 1e-12  # of a metric: differences that spread by less are equal


class Range(NamedTuple):
    """A mean and the ends of its interval, which need not lie evenly about it; nan where there is none."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Two sides measured on the same requests, with the one statistic that decides who wins and is shown.

    Attributes
    ----------
    effect : Range
        Of the first side against the second, with `confidence`: in per cent (how much the geometric mean of
        first / second is above 1), or, where not `relative`, the mean of first - second in the metric's unit.
    relative : bool
    difference : float
        Mean of first - second in the metric's unit, whichever of the two decides.
    count : int
        Pairs.
    higher_is_better : bool
    confidence : float
        Of the interval: 0.95, or what deciding several together leaves to this one.
    p_value, p_corrected : float
        Two-sided, of this comparison alone and as one of `comparisons` (Holm).
    comparisons : int
        How many were decided together.
    """

    effect: Range
    relative: bool
    difference: float
    count: int
    higher_is_better: bool
    confidence: float = 0.95
    p_value: float = 1.0
    p_corrected: float = 1.0
    comparisons: int = 1

    @property
    def winner(self) -> int:
        """1 if the first side is better, -1 if it is worse, 0 if no difference is shown."""
        if not (self.effect.low > 0 or self.effect.high < 0):
            return 0
        return 1 if (self.effect.mean > 0) == self.higher_is_better else -1

    def verdict(self, first: str, second: str, unit: str = "") -> str:
        """Return one sentence: who wins by how much and with which interval, or that no difference is shown.

        In per cent of the second side, as its multiple where an end is above 100 %, or in `unit` where not `relative`.
        """
        mean, low, high = self.effect
        if self.count < 2:
            return f"{first} against {second}: no verdict from {self.count} paired run; add seeds"
        if math.isnan(low):
            return f"{first} against {second}: no verdict, since all {self.count} pairs differ by the same"
        if mean == low == high == 0:
            return f"no difference shown between {first} and {second} (equal in all {self.count} pairs)"
        if self.relative and high > TIMES_FROM_PCT:  # "by 257 %" is hard to read
            by, lowest, highest = _alike(1 + mean / 100, 1 + low / 100, 1 + high / 100, equal=1.0)
            times = f"{by} times as much"
            if self.winner == 0:
                return f"no difference shown between {first} and {second} ({times}, {lowest} to {highest})"
            won = "beats" if self.winner > 0 else "is beaten by"
            return f"{first} {won} {second}, {times} ({lowest} to {highest})"
        after = " %" if self.relative else f" {unit}" if unit else ""
        if self.winner and mean < 0:
            mean, low, high = -mean, -high, -low
        by, lowest, highest = _alike(mean, low, high)
        ends = f"{lowest} to {highest}{' %' if self.relative else ''}"
        if self.winner == 0:
            return f"no difference shown between {first} and {second} ({by}{after}, {ends})"
        return f"{first} {'beats' if self.winner > 0 else 'is beaten by'} {second} by {by}{after} ({ends})"


def paired_comparison(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    higher_is_better: bool,
    confidence: float = 0.95,
    relative: bool = True,
    resolution: float = 0.0,
) -> Comparison:
    """Return what sets two sides apart that met the same requests, seed by seed: Student's t on the pairs.

    Parameters
    ----------
    first, second : array, shape (n,)
        A metric of the two sides; values at one place share a seed (common random numbers). Runs that are copies of
        one another are one observation and must be left out (`distinct`).
    relative
        Compare ratios, by their logarithms: a seed that makes all latencies ten times as long counts no more than
        another. Set it to False for shares, which are compared by their differences, as are values that can be 0.
    resolution
        Least step of a difference, such as the share of one request: differences are taken to spread by as much.
        Where it is 0, pairs that all differ by the same give no interval, since they tell nothing of their spread.
    """
    a, b = checked(first), checked(second)
    if a.size != b.size:
        raise UserError(f"paired comparison: {a.size} against {b.size} runs; each seed needs both sides")
    relative = bool(relative and min(a.min(), b.min()) > 0)
    apart = np.log(a / b) if relative else a - b
    mean, count = float(apart.mean()), a.size
    scale = 1.0 if relative else float(max(np.abs(a).max(), np.abs(b).max()))
    deviation = float(apart.std(ddof=1)) if count > 1 else 0.0
    deviation = max(deviation if deviation > ROUNDING * scale else 0.0, 0.0 if relative else resolution)
    p_value, half_width = 1.0, math.nan
    if count > 1 and not deviation and abs(mean) <= ROUNDING * scale:  # equal in all pairs
        mean = half_width = 0.0
    elif count > 1 and deviation:
        error = deviation / math.sqrt(count)
        half_width, p_value = t_quantile(confidence, count - 1) * error, _two_sided(abs(mean) / error, count - 1)
    effect = Range(mean, mean - half_width, mean + half_width)
    if relative:
        with np.errstate(over="ignore"):  # of two seeds among many comparisons an end can be anywhere
            effect = Range(*(100 * float(np.expm1(value)) for value in effect))
    difference = float((a - b).mean())
    return Comparison(effect, relative, difference, count, higher_is_better, confidence, p_value, p_value)


def compare_together(pairs: Sequence[Mapping[str, Any]], confidence: float = 0.95) -> list[Comparison]:
    """Return several comparisons, decided together: in at most 1 - `confidence` of cases is any verdict wrong.

    Parameters
    ----------
    pairs
        Arguments of `paired_comparison` by name, `confidence` left out.

    Notes
    -----
    Holm's step-down rule (Scand. J. Stat. 6, 1979): of m comparisons the clearest must show at 1 - (1 - confidence)/m,
    the next at 1 - (1 - confidence)/(m - 1), until one does not; those that are left have its level. Each interval is
    of the level that decided it, so that it holds 0 exactly where no difference is shown.
    """
    found = [paired_comparison(**pair, confidence=confidence) for pair in pairs]
    largest, left = 0.0, len(found)
    for rank, place in enumerate(sorted(range(len(found)), key=lambda place: found[place].p_value)):
        largest = min(max(largest, (len(found) - rank) * found[place].p_value), 1.0)
        one = paired_comparison(**pairs[place], confidence=1 - (1 - confidence) / left)
        left -= bool(one.winner)  # the first that shows no difference leaves its level to the rest
        found[place] = dataclasses.replace(one, p_corrected=largest, comparisons=len(found))
    return found


def is_higher_better(metric: str) -> bool:
    """Return whether more of a metric of the run summary is better.

    Raises
    ------
    UserError
        For a metric without a better direction, such as the mean batch size.
    """
    found = find_column(metric)
    if found is None or found.better is None:
        known = [row.column or row.key for row in catalogue().values() if row.better]
        raise unknown_choice("metric with a better direction", metric, known)
    return found.better == "higher"


def is_relative(metric: str) -> bool:
    """Return whether values of a metric are compared in per cent of each other: all but shares are."""
    found = find_column(metric)
    return found is None or found.unit != "%"


def compare_runs(
    table: pd.DataFrame, by: str, first: object, second: object, metric: str, pair_on: Sequence[str] = ("seed",)
) -> Comparison:
    """Compare two values of one swept key over runs that agree in `pair_on`.

    Parameters
    ----------
    table
        A row per run, as a sweep stores it; narrow it to one setting of every other key first.
    by, first, second
        Column and its two values, such as ``"scheduler", "multi_bin_dynamic", "static_fifo"``.
    pair_on
        Columns that name the requests a run met.
    """
    for column in (by, metric, *pair_on):
        if column not in table.columns:
            raise unknown_choice("column", column, table.columns)
    sides = []
    for value in (first, second):
        rows = table[table[by] == value].set_index(list(pair_on))[metric]
        if rows.empty:
            raise unknown_choice(by, value, table[by].unique())
        if not rows.index.is_unique:
            raise UserError(f"{by}={value}: several runs for one {', '.join(pair_on)}; narrow the table to one setting")
        sides.append(rows)
    whole = [table[table[by] == value].set_index(list(pair_on)) for value in (first, second)]
    common = sides[0].index.intersection(sides[1].index).sort_values()
    if common.empty:
        raise UserError(f"{by}: {first} and {second} share no {', '.join(pair_on)}, so nothing can be paired")
    both = [records(side.loc[common]) for side in whole]
    common = common[distinct({"pair": (result_of(a), result_of(b))} for a, b in zip(*both, strict=True))]
    return paired_comparison(
        sides[0].loc[common].to_numpy(),
        sides[1].loc[common].to_numpy(),
        is_higher_better(metric),
        relative=is_relative(metric),
    )


def _alike(mean: float, low: float, high: float, equal: float = 0.0) -> tuple[str, str, str]:
    """Return a mean and the ends of its interval as text, with the decimals that one digit of its half-width needs.

    An end that is not `equal` is not written as that, so that the sentence shows on which side of it the interval lies.
    """
    width = (high - low) / 2
    decimals = max(0, -math.floor(math.log10(width))) if 0 < width < math.inf else 2 * (width == 0)

    def text(value: float) -> str:
        if abs(value) >= MOST_DIGITS:
            return f"{value:.1g}"
        rounded = f"{value:.{decimals}f}"
        if equal and value != equal:
            more = (f"{value:.{digits}f}" for digits in range(decimals, 7))
            return next((each for each in more if float(each) not in (0.0, equal)), rounded)
        return f"{value:.1g}" if value and not float(rounded) else rounded if value else "0"

    return text(mean), text(low), text(high)


def _two_sided(t: float, freedom: int) -> float:
    from scipy.special import stdtr

    return 2 * float(stdtr(freedom, -t))
