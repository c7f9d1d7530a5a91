"""Confidence intervals of replicated and of single long runs, and which runs are copies of one another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError, unknown_choice
from mbexp.results.shown import mean_and_half

if TYPE_CHECKING:
    import pandas as pd

FloatArray = npt.NDArray[np.float64]

NAMES = ("seed", "replication", "run", "study.label", "warnings", "wall_time_s")  # of a run; no results of it


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Attributes
    ----------
    mean, half_width : float
        The interval is mean ± half_width; `half_width` is nan where there is no estimate (fewer than two values).
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
        return " ± ".join(mean_and_half(self.mean, self.half_width))


def mean_interval(values: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the mean of independent replications with Student's t interval.

    Parameters
    ----------
    values : array, shape (n,)
        One value for each run; nan is an error, since a missing run must not pass unseen.
    """
    array = checked(values)
    if array.size == 1:
        return Interval(float(array[0]), math.nan, 1, confidence)
    deviation = float(array.std(ddof=1))
    half_width = t_quantile(confidence, array.size - 1) * deviation / math.sqrt(array.size)
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
    The result carries a warning where the run is too short for its own correlation: von Neumann's ratio of the means of
    half batches is significant at 1 %. It carries another where these means climb steadily, by Kendall's tau with time
    at 0.1 %. Such a run is overloaded or still warming up, and no interval around its mean tells of a steady state.
    """
    if batches < 2:
        raise UserError(f"batches={batches}: must be at least 2")
    array = checked(values)
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
    array = checked(values)
    return batch_means_interval(array, batches).warnings if array.size >= 8 * batches else ()


def growth_warnings(arrival_s: npt.ArrayLike, start_s: npt.ArrayLike, batches: int = 20) -> tuple[str, ...]:
    """Return `steady_state_warnings` of the number waiting, as each request finds it on arrival.

    Unlike latencies in order of arrival this also shows a queue that is starved: there the first to come wait longest.

    Parameters
    ----------
    arrival_s, start_s : arrays, shape (n,)
        Arrival, non-decreasing, and start of service of each request.
    """
    arrival, start = checked(arrival_s), np.sort(checked(start_s))
    if arrival.size != start.size:
        raise UserError(f"growth: {arrival.size} arrivals and {start.size} starts")
    found = np.arange(arrival.size) - np.searchsorted(start, arrival, side="left")
    return steady_state_warnings(found, batches)


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
        copies = len(distinct(records(group))) == 1  # one observation, however often it was made
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


def climbs(means: npt.ArrayLike) -> bool:
    """Return whether the means of contiguous parts of a run climb throughout (Kendall's tau with time, at 0.1 %)."""
    array = checked(means)
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


def t_quantile(confidence: float, freedom: int) -> float:
    """Return the factor of Student's t that a two-sided interval of some confidence takes."""
    from scipy.special import stdtrit

    if not 0 < confidence < 1:
        raise UserError(f"confidence={confidence}: must be between 0 and 1")
    return float(stdtrit(freedom, (1 + confidence) / 2))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as dictionaries by column."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def checked(values: npt.ArrayLike) -> FloatArray:
    """Return values as an array; a value that is not finite is an error, since a missing run must not pass unseen."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise UserError("statistics: needs a flat, non-empty list of values")
    if not np.isfinite(array).all():
        raise UserError(f"statistics: {int((~np.isfinite(array)).sum())} of {array.size} values are not finite")
    return array
