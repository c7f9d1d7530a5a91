"""Who wins, from paired differences: sides that met the same requests are compared seed by seed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

from mbexp.results.catalogue import find_column
from mbexp.sweep.sides import metrics_of, not_named, settings_keys, sides_key

Row = dict[str, Any]
Pair = tuple[Row, Row]  # runs of two sides that met the same requests

POINTS = "percentage points"


def verdicts(
    rows: Sequence[Row],
    swept: Sequence[str],
    compare: str | None = None,
    metrics: Sequence[str] = (),
    points: Sequence[Row] | None = None,
) -> list[Row]:
    """Return a row for each setting, metric and pair of sides that share at least two observations.

    All are decided together (`compare_together`), so that at most one table in twenty holds a verdict that is false.
    Seeds whose runs are copies of one another, as those of a trace file are, count as one observation.

    Parameters
    ----------
    rows
        A row for each run and seed.
    swept
        Swept keys; those that are not compared, nor seeds, nor belong to a side (`settings_keys`), make a setting.
    compare
        The key whose values are the sides; None: see `sides_key`.
    metrics
        Columns of the catalogue; none: see `metrics_of`.
    points
        What each point of the sweep sets; by default what the rows hold.
    """
    from mbexp.results.comparisons import compare_together, is_higher_better, is_relative

    points = rows if points is None else points
    key = sides_key(swept, compare, points)
    if key is None:
        return []
    names = settings_keys(key, swept, points)
    found: list[Row] = []
    pairs: list[Row] = []  # what is compared, in the same order
    for where, met in _meetings(rows, key, names, not_named(key, names, points)).items():
        for metric, ((first, second), both) in itertools.product(metrics_of(metrics), met.items()):
            known = [(a, b) for a, b in both if _known(a.get(metric)) and _known(b.get(metric))]
            if len(known) < 2:
                continue
            pair = {"first": [a[metric] for a, _ in known], "second": [b[metric] for _, b in known]}
            rule = {"higher_is_better": is_higher_better(metric), "relative": is_relative(metric)}
            resolution = max(_resolution(metric, row) for rows_of_seed in known for row in rows_of_seed)
            pairs.append(pair | rule | {"resolution": resolution})
            setting = dict(zip(names, where, strict=True))
            found.append(setting | {"metric": metric, "first": first, "second": second, "seeds": len(known)})
    for row, comparison in zip(found, compare_together(pairs), strict=True):
        relative, (_, low, high) = comparison.relative, comparison.effect
        row |= {
            "winner": {1: row["first"], -1: row["second"], 0: None}[comparison.winner],
            "difference": comparison.difference,
            "difference_low": None if relative else low,
            "difference_high": None if relative else high,
            "relative_pct": comparison.effect.mean if relative else None,
            "relative_low_pct": low if relative else None,
            "relative_high_pct": high if relative else None,
            "p_value": comparison.p_value,
            "p_value_corrected": comparison.p_corrected,
            "comparisons": comparison.comparisons,
            "interval_pct": 100 * comparison.confidence,
            "verdict": comparison.verdict(str(row["first"]), str(row["second"]), _unit(row["metric"])),
        }
    return found


def _meetings(
    rows: Sequence[Row], key: str, names: Sequence[str], free: dict[Any, tuple[str, ...]]
) -> dict[tuple[Any, ...], dict[tuple[Any, Any], list[Pair]]]:
    """Return for each setting and pair of sides the runs that share a seed, copies left out.

    A side that sets none of some key (`free`) meets the others at every value that they give to it.
    """
    from mbexp.results.statistics import distinct, result_of

    groups: dict[tuple[Any, ...], dict[Any, dict[int, Row]]] = {}
    for row in rows:
        where = tuple(None if name in free.get(row.get(key), ()) else row.get(name) for name in names)
        groups.setdefault(where, {}).setdefault(row.get(key), {})[row["seed"]] = row
    always = [place for place, name in enumerate(names) if not any(name in each for each in free.values())]
    near: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}  # settings that may be met together
    for where in groups:
        near.setdefault(tuple(where[place] for place in always), []).append(where)
    results = {id(row): result_of(row) for row in rows}
    order = {side: place for place, side in enumerate(dict.fromkeys(row.get(key) for row in rows))}
    found: dict[tuple[Any, ...], dict[tuple[Any, Any], list[Pair]]] = {}
    for one, other in ((a, b) for same in near.values() for a in same for b in same):
        for second, first in itertools.product(groups[one], groups[other]):
            if order[second] >= order[first] or not _may_meet(
                one, other, names, (*free.get(second, ()), *free.get(first, ()))
            ):
                continue
            sides = groups[other][first], groups[one][second]
            seeds = [seed for seed in sides[0] if seed in sides[1]]
            both = [(sides[0][seed], sides[1][seed]) for seed in seeds]
            once = distinct({"pair": (results[id(a)], results[id(b)])} for a, b in both)
            where = tuple(b if a is None else a for a, b in zip(one, other, strict=True))
            found.setdefault(where, {})[first, second] = [both[place] for place in once]
    return found


def _may_meet(one: tuple[Any, ...], other: tuple[Any, ...], names: Sequence[str], free: tuple[str, ...]) -> bool:
    """Return whether two settings agree in every key that both sides set."""
    return all(a == b or name in free for a, b, name in zip(one, other, names, strict=True))


def without_effect(rows: Sequence[Row], swept: Sequence[str]) -> list[str]:
    """Return the swept keys whose values changed no result: whatever the others were, all of theirs gave copies."""
    metrics = [name for name in (rows[0] if rows else ()) if find_column(name) is not None]
    results = [tuple(repr(row.get(name)) for name in metrics if name not in swept) for row in rows]
    return [key for key in swept if key != "study.label" and _changed_nothing(rows, results, key, swept)]


def _changed_nothing(rows: Sequence[Row], results: Sequence[tuple[str, ...]], key: str, swept: Sequence[str]) -> bool:
    alike: dict[tuple[str, ...], dict[str, set[tuple[str, ...]]]] = {}
    for row, result in zip(rows, results, strict=True):
        rest = tuple(repr(row.get(name)) for name in swept if name != key)
        alike.setdefault(rest, {}).setdefault(repr(row.get(key)), set()).add(result)
    compared = [values for values in alike.values() if len(values) > 1]
    return bool(compared) and all(len(set.union(*values.values())) == 1 for values in compared)


def observations(rows: Iterable[Row], swept: Sequence[str]) -> int:
    """Return the most observations that any configuration has: runs and seeds that are no copies of one another."""
    from mbexp.results.statistics import distinct

    alike: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        alike.setdefault(tuple(repr(row.get(key)) for key in swept if key != "seed"), []).append(row)
    return max((len(distinct(same)) for same in alike.values()), default=0)


def _unit(metric: str) -> str:
    """Return the unit of a difference; that of a share is its own."""
    unit = _unit_of(metric)
    return POINTS if unit == "%" else unit


def _resolution(metric: str, row: Row) -> float:
    """Return the least step of a share of requests, in per cent; 0 of other metrics."""
    requests = row.get("measured_requests") or 0
    return 100 / requests if _unit_of(metric) == "%" and requests > 0 else 0.0


def _unit_of(metric: str) -> str:
    found = find_column(metric)
    return found.unit if found else ""


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
