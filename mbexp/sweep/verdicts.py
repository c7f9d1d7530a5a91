"""Who wins, from paired differences: sides that met the same requests are compared seed by seed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

from mbexp.results.catalogue import catalogue, find_column
from mbexp.sweep.best import NOT_A_LOAD

Row = dict[str, Any]

COMPARED = ("study.label", "scheduler")  # the first of these that is swept names the sides
METRICS = ("throughput_requests_per_s", "latency_p95_s", "request_sla_violation_pct")
POINTS = "percentage points"


def sides_key(swept: Sequence[str]) -> str | None:
    """Return the swept key whose values are compared, or None."""
    return next((key for key in COMPARED if key in swept), None)


def verdicts(rows: Sequence[Row], swept: Sequence[str]) -> list[Row]:
    """Return a row for each setting, metric and pair of sides that share at least two observations.

    All are decided together (`compare_together`), so that at most one table in twenty holds a verdict that is false.
    Seeds whose runs are copies of one another, as those of a trace file are, count as one observation.

    Parameters
    ----------
    rows
        A row for each run and seed.
    swept
        Swept keys; those that are not compared, nor seeds, make a setting.
    """
    from mbexp.results.comparisons import compare_together, is_higher_better, is_relative
    from mbexp.results.statistics import distinct, result_of

    key = sides_key(swept)
    if key is None:
        return []
    settings_keys = [name for name in swept if name not in ("seed", "replications", *COMPARED)]
    if key == "study.label":  # a label stands for the keys that it was given with
        settings_keys = [name for name in settings_keys if name not in NOT_A_LOAD]
    settings: dict[tuple[Any, ...], dict[Any, dict[int, Row]]] = {}
    for row in rows:
        where = tuple(row.get(name) for name in settings_keys)
        settings.setdefault(where, {}).setdefault(row[key], {})[row["seed"]] = row
    found: list[Row] = []
    pairs: list[Row] = []  # what is compared, in the same order
    for where, sides in settings.items():
        results = {side: {seed: result_of(row) for seed, row in seeds.items()} for side, seeds in sides.items()}
        met: dict[tuple[Any, Any], list[tuple[Row, Row]]] = {}
        for second, first in itertools.combinations(sides, 2):
            seeds = [seed for seed in sides[first] if seed in sides[second]]
            once = distinct({"pair": (results[first][seed], results[second][seed])} for seed in seeds)
            met[first, second] = [(sides[first][seeds[place]], sides[second][seeds[place]]) for place in once]
        for metric, ((first, second), both) in itertools.product(METRICS, met.items()):
            known = [(a, b) for a, b in both if _known(a.get(metric)) and _known(b.get(metric))]
            if len(known) < 2:
                continue
            pair = {"first": [a[metric] for a, _ in known], "second": [b[metric] for _, b in known]}
            rule = {"higher_is_better": is_higher_better(metric), "relative": is_relative(metric)}
            resolution = max(_resolution(metric, row) for rows_of_seed in known for row in rows_of_seed)
            pairs.append(pair | rule | {"resolution": resolution})
            setting = dict(zip(settings_keys, where, strict=True))
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
    unit = catalogue()[metric].unit
    return POINTS if unit == "%" else unit


def _resolution(metric: str, row: Row) -> float:
    """Return the least step of a share of requests, in per cent; 0 of other metrics."""
    requests = row.get("measured_requests") or 0
    return 100 / requests if catalogue()[metric].unit == "%" and requests > 0 else 0.0


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
