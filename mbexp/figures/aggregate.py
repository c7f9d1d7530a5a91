"""From a row a run to a row a setting: which columns were swept, means over seeds with their intervals, the best."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

REPLICATES = ("seed", "replication")
GROUPS = ("scheduler", "workload", "gpu", "bins", "sla", "predictor", "execution")
# Where two columns say the same of every run, the one that comes first here is shown.
PREFERRED = ("num_gpus", "k_bins", "num_requests", "study.label", "scheduler", "workload", "gpu")


@functools.cache
def configuration_keys() -> frozenset[str]:
    """Return the dotted names of every key of a run's configuration, and of its groups."""
    from mbexp.config.keys import Config
    from mbexp.config.schema import known_keys

    return frozenset(known_keys(Config)) | frozenset(GROUPS)


def swept(frame: pd.DataFrame, leave_out: Iterable[str] = ()) -> list[str]:
    """Return the configuration columns that take several values, seeds apart; of columns that say the same, one.

    A column that `leave_out` names takes what says the same with it.
    """
    import pandas as pd

    keys = configuration_keys()
    left_out = [name for name in leave_out if name in frame.columns]
    names = [name for name in frame.columns if name in keys and name not in REPLICATES and name not in left_out]
    # a group is swept by the names of its files; a number is a metric that happens to be called so (``bins``)
    names = [name for name in names if name not in GROUPS or not pd.api.types.is_numeric_dtype(frame[name])]
    names.sort(key=lambda name: PREFERRED.index(name) if name in PREFERRED else len(PREFERRED))
    found: list[str] = []
    for name in names:
        if frame[name].nunique(dropna=False) < 2:
            continue
        if not any(_say_the_same(frame, name, other) for other in [*left_out, *found]):
            found.append(name)
    return found


def means(frame: pd.DataFrame, by: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Return one row a setting: `by`, the means of `metrics`, ``<metric>_half_width`` (95 %; nan of one run), ``runs``.

    Runs that are all copies of one another have no interval. A setting in which a metric does not exist for some run
    has nan there. ``growing`` is true where any run of the setting was overloaded or had a queue that climbed
    throughout (`queue_grows`).
    """
    import numpy as np
    import pandas as pd

    from mbexp.results.statistics import distinct, mean_interval

    rows = []
    for key, group in frame.groupby(list(by), sort=True, dropna=False) if by else [((), frame)]:
        row: dict[str, Any] = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True))
        row["runs"] = len(group)
        alike = all(group[metric].nunique(dropna=False) < 2 for metric in metrics)  # else they are no copies
        copies = alike and len(distinct(records(group))) == 1
        for metric in metrics:
            values = group[metric].to_numpy(dtype=np.float64)
            known = bool(np.isfinite(values).all())
            interval = mean_interval(values) if known else None
            row[metric] = interval.mean if interval else np.nan
            row[f"{metric}_half_width"] = interval.half_width if interval and not copies else np.nan
        row["growing"] = bool(queue_grows(group).any())
        rows.append(row)
    return pd.DataFrame(rows)


def queue_grows(frame: pd.DataFrame) -> pd.Series:
    """Return of each run whether its queue grew throughout: by its offered load, or as seen (docs/metrics.md)."""
    import pandas as pd

    grows = pd.Series(False, index=frame.index)
    for name in ("overloaded", "queue_climbing"):
        if name in frame.columns:
            grows |= frame[name].fillna(False).astype(bool)
    return grows


def best_rows(table: pd.DataFrame, keep: Sequence[str], metric: str, lowest: bool = True) -> pd.DataFrame:
    """Return for each setting of `keep` the one row with the best `metric`; rows where it is unknown take no part."""
    import pandas as pd

    best = table[table[metric].notna()].sort_values(metric, ascending=lowest, kind="stable")
    if not keep:
        return pd.DataFrame(best.head(1))
    kept = best.groupby(list(keep), sort=False, dropna=False).head(1)
    return pd.DataFrame(kept.sort_values(list(keep), kind="stable"))


def settings(frame: pd.DataFrame, columns: Sequence[str]) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Return every setting of `columns` with its rows, in order; one empty setting with all rows for no column."""
    if not columns:
        return [((), frame)]
    groups = frame.groupby(list(columns), sort=True, dropna=False)
    return [(_same_nan(key if isinstance(key, tuple) else (key,)), group) for key, group in groups]


def _same_nan(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a setting in which every unknown value is one object, so that equal settings are found by their key."""
    return tuple(math.nan if isinstance(part, float) and math.isnan(part) else part for part in key)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as dictionaries by column."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def first_row(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the first row as a dictionary by column."""
    return records(frame.head(1))[0]


def _say_the_same(frame: pd.DataFrame, first: str, second: str) -> bool:
    together = len(frame[[first, second]].drop_duplicates())
    return together == frame[first].nunique(dropna=False) == frame[second].nunique(dropna=False)
