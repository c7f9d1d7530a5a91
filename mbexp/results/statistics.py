"""Confidence intervals of replicated and of single long runs, and verdicts of comparisons from paired differences."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError, unknown_choice
from mbexp.results.catalogue import catalogue, find_column

if TYPE_CHECKING:
    import pandas as pd

FloatArray = npt.NDArray[np.float64]

ROUNDING = 1e-12  # of a metric: differences that spread by less are equal
NAMES = ("seed", "replication", "run", "study.label", "warnings", "wall_time_s")  # of a run; no results of it


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Attributes
    ----------
    mean, half_width : float
        The interval is mean +- half_width; `half_width` is nan where there is no estimate (fewer than two values).
    count : int
        Independent values behind it: replications, or batch means.
    confidence : float
    warnings : tuple of str
        Why the interval may be too narrow; empty if nothing speaks against it.
    """

    mean: float
    half_width: float
    count: int
    confidence: float = 0.95
    warnings: tuple[str, ...] = ()

    @property
    def low(self) -> float:
        """Lower end."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end."""
        return self.mean + self.half_width

    def contains(self, value: float) -> bool:
        """Whether `value` is inside; False where the interval is not known."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        if math.isnan(self.half_width):
            return f"{self.mean:.4g} (no interval from {self.count} run{'s' * (self.count != 1)})"
        return f"{self.mean:.4g} +- {self.half_width:.2g}"


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

        In per cent of the second side, or in `unit` where not `relative`.
        """
        mean, low, high = self.effect
        if self.count < 2:
            return f"{first} against {second}: no verdict from {self.count} paired run; add seeds"
        if math.isnan(low):
            return f"{first} against {second}: no verdict, since all {self.count} pairs differ by the same"
        if mean == low == high == 0:
            return f"no difference shown between {first} and {second} (equal in all {self.count} pairs)"
        after = " %" if self.relative else f" {unit}" if unit else ""
        if self.winner and mean < 0:
            mean, low, high = -mean, -high, -low
        by, lowest, highest = _alike(mean, low, high)
        ends = f"{lowest} to {highest}{' %' if self.relative else ''}"
        if self.winner == 0:
            return f"no difference shown between {first} and {second} ({by}{after}, {ends})"
        return f"{first} {'beats' if self.winner > 0 else 'is beaten by'} {second} by {by}{after} ({ends})"


def mean_interval(values: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the mean of independent replications with Student's t interval.

    Parameters
    ----------
    values : array, shape (n,)
        One value for each run; nan is an error, since a missing run must not pass unseen.
    """
    array = _checked(values)
    if array.size == 1:
        return Interval(float(array[0]), math.nan, 1, confidence)
    deviation = float(array.std(ddof=1))
    half_width = _t_quantile(confidence, array.size - 1) * deviation / math.sqrt(array.size)
    return Interval(float(array.mean()), half_width, array.size, confidence)


def batch_means_interval(values: npt.ArrayLike, batches: int = 20, confidence: float = 0.95) -> Interval:
    """Return the mean of one long run's correlated values with an interval from the means of contiguous batches.

    Parameters
    ----------
    values : array, shape (n,)
        In order of time (waits in order of arrival), warm-up left out. The first ``n % batches`` are dropped.
    batches
        Number of batches; 10 to 30 is usual. Fewer are longer and so less correlated.

    Notes
    -----
    The result carries a warning where the run is too short for its own correlation (von Neumann's ratio of the means
    of half batches, significant at 1 %) or where these means climb steadily (Kendall's tau with time, at 0.1 %): the
    run is overloaded or still warming up, and no interval around its mean says anything about a steady state.
    """
    if batches < 2:
        raise UserError(f"batches={batches}: must be at least 2")
    array = _checked(values)
    size = array.size // batches
    if size < 1:
        raise UserError(f"batch means: {array.size} values are too few for {batches} batches")
    kept = array[array.size - size * batches :].reshape(batches, size)
    plain = mean_interval(kept.mean(axis=1), confidence)
    half = size // 2
    halves = kept[:, -2 * half :].reshape(2 * batches, half).mean(axis=1) if half else kept.ravel()
    return Interval(plain.mean, plain.half_width, batches, confidence, _batch_warnings(halves))


def steady_state_warnings(values: npt.ArrayLike, batches: int = 20) -> tuple[str, ...]:
    """Return why a run's values (waits or latencies in order of arrival) may not be those of a steady state.

    This finds what the offered load cannot show: a policy that is unstable at a load that full batches would carry.
    Empty where nothing speaks against it, or where fewer than 8 values for each batch leave nothing to judge.
    """
    array = _checked(values)
    return batch_means_interval(array, batches).warnings if array.size >= 8 * batches else ()


def growth_warnings(arrival_s: npt.ArrayLike, start_s: npt.ArrayLike, batches: int = 20) -> tuple[str, ...]:
    """Return `steady_state_warnings` of the number waiting, as each request finds it on arrival.

    Unlike latencies in order of arrival this also shows a queue that is starved: there the first to come wait longest.

    Parameters
    ----------
    arrival_s, start_s : arrays, shape (n,)
        Arrival, non-decreasing, and start of service of each request.
    """
    arrival, start = _checked(arrival_s), np.sort(_checked(start_s))
    if arrival.size != start.size:
        raise UserError(f"growth: {arrival.size} arrivals and {start.size} starts")
    found = np.arange(arrival.size) - np.searchsorted(start, arrival, side="left")
    return steady_state_warnings(found, batches)


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
    a, b = _checked(first), _checked(second)
    if a.size != b.size:
        raise UserError(f"paired comparison: {a.size} against {b.size} runs; each seed needs both sides")
    relative = bool(relative and min(a.min(), b.min()) > 0)
    apart = np.log(a / b) if relative else a - b
    mean, count = float(apart.mean()), a.size
    scale = 1.0 if relative else float(max(np.abs(a).max(), np.abs(b).max()))
    deviation = float(apart.std(ddof=1)) if count > 1 else 0.0
    deviation = max(deviation if deviation > ROUNDING * scale else 0.0, 0.0 if relative else resolution)
    p_value = 1.0
    half_width = 0.0 if abs(mean) <= ROUNDING * scale and count > 1 else math.nan
    if deviation and count > 1:
        error = deviation / math.sqrt(count)
        half_width, p_value = _t_quantile(confidence, count - 1) * error, _two_sided(abs(mean) / error, count - 1)
    effect = Range(mean, mean - half_width, mean + half_width)
    if relative:
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


def distinct(runs: Iterable[Mapping[str, Any]]) -> list[int]:
    """Return the places of the runs that are no copy of an earlier one: identical results are one observation.

    Parameters
    ----------
    runs
        Of one configuration, as rows or summaries.
    """
    first: dict[tuple[str, ...], int] = {}
    for place, run in enumerate(runs):
        first.setdefault(result_of(run), place)
    return list(first.values())


def result_of(run: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what tells the results of a run from others of its configuration: all but its names and the clock's."""
    return tuple(f"{name}={value!r}" for name, value in run.items() if name not in NAMES)


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
    both = [_rows(side.loc[common]) for side in whole]
    common = common[distinct({"pair": (result_of(a), result_of(b))} for a, b in zip(*both, strict=True))]
    return paired_comparison(
        sides[0].loc[common].to_numpy(),
        sides[1].loc[common].to_numpy(),
        is_higher_better(metric),
        relative=is_relative(metric),
    )


def interval_table(
    table: pd.DataFrame, by: Sequence[str], metrics: Iterable[str], confidence: float = 0.95
) -> pd.DataFrame:
    """Return one row per setting with ``<metric>`` (mean), ``<metric>_half_width``, ``runs`` and ``overloaded_runs``.

    An interval over overloaded runs is narrow and means nothing: their latency grows with the length of the run.

    Parameters
    ----------
    table
        A row per run.
    by
        Swept columns that tell settings apart, the seed not among them.
    """
    import pandas as pd

    metrics = list(metrics)
    for column in (*by, *metrics):
        if column not in table.columns:
            raise unknown_choice("column", column, table.columns)
    rows = []
    for key, group in table.groupby(list(by), sort=True, dropna=False):
        row = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True))
        row["runs"] = len(group)
        copies = len(distinct(_rows(group))) == 1  # one observation, however often it was made
        if "overloaded" in group:
            row["overloaded_runs"] = int(group["overloaded"].sum())
        for metric in metrics:
            interval = mean_interval(group[metric].to_numpy(), confidence)
            row[metric] = interval.mean
            row[f"{metric}_half_width"] = math.nan if copies else interval.half_width
        rows.append(row)
    return pd.DataFrame(rows)


def rounded_pair(mean: float, half_width: float) -> tuple[str, str]:
    """Return a mean and its half-width as text, with the decimals that one digit of the half-width needs."""
    if not (half_width > 0 and math.isfinite(half_width)):
        return f"{mean:.3g}", f"{half_width:.2g}"
    decimals = max(0, -math.floor(math.log10(half_width)))
    return f"{mean:.{decimals}f}", f"{half_width:.{decimals}f}"


def _alike(mean: float, low: float, high: float) -> tuple[str, str, str]:
    """Return a mean and the ends of its interval as text, with the decimals that one digit of its half-width needs.

    An end that is not 0 is not written as 0, so that the sentence shows on which side of it the interval lies.
    """
    width = (high - low) / 2
    decimals = max(0, -math.floor(math.log10(width))) if width > 0 else 2

    def text(value: float) -> str:
        rounded = f"{value:.{decimals}f}"
        return f"{value:.1g}" if value and not float(rounded) else rounded if value else "0"

    return text(mean), text(low), text(high)


def climbs(means: npt.ArrayLike) -> bool:
    """Return whether the means of contiguous parts of a run climb throughout (Kendall's tau with time, at 0.1 %)."""
    array = _checked(means)
    count = array.size
    if count < 8:
        return False
    ahead = np.sign(array[None, :] - array[:, None])[np.triu_indices(count, 1)].sum()
    # normal approximation; by hand, since every run asks and scipy.stats takes longer to import than a run
    deviation = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    return bool(ahead / deviation > NormalDist().inv_cdf(1 - 0.001 / 2))


def _batch_warnings(means: FloatArray) -> tuple[str, ...]:
    """Return what speaks against a steady state in the means of contiguous parts of a run."""
    spread = float(((means - means.mean()) ** 2).sum())
    if spread == 0:
        return ()
    found = []
    count = len(means)
    # von Neumann: about 2 for independent values, less when neighbours are alike
    ratio = float((np.diff(means) ** 2).sum()) / spread
    if count >= 4 and 1 - ratio / 2 > NormalDist().inv_cdf(0.99) * math.sqrt((count - 2) / (count * count - 1)):
        found.append("neighbouring batches are alike: the run is too short for this interval")
    if climbs(means):
        found.append("values climb throughout: overloaded, or still warming up")
    return tuple(found)


def _t_quantile(confidence: float, freedom: int) -> float:
    from scipy.special import stdtrit

    if not 0 < confidence < 1:
        raise UserError(f"confidence={confidence}: must be between 0 and 1")
    return float(stdtrit(freedom, (1 + confidence) / 2))


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _two_sided(t: float, freedom: int) -> float:
    from scipy.special import stdtr

    return 2 * float(stdtr(freedom, -t))


def _checked(values: npt.ArrayLike) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise UserError("statistics: needs a flat, non-empty list of values")
    if not np.isfinite(array).all():
        raise UserError(f"statistics: {int((~np.isfinite(array)).sum())} of {array.size} values are not finite")
    return array
