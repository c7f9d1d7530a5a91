"""Who wins, from paired differences: sides that met the same requests are compared seed by seed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from mbexp.results.catalogue import catalogue
from mbexp.sweep.best import NOT_A_LOAD

Row = dict[str, Any]

COMPARED = ("study.label", "scheduler")  # the first of these that is swept names the sides
METRICS = ("throughput_requests_per_s", "latency_p95_s", "request_sla_violation_pct")


def sides_key(swept: Sequence[str]) -> str | None:
    """Return the swept key whose values are compared, or None."""
    return next((key for key in COMPARED if key in swept), None)


def verdicts(rows: Sequence[Row], swept: Sequence[str]) -> list[Row]:
    """Return a row for each setting, metric and pair of sides that share at least two seeds.

    Parameters
    ----------
    rows
        A row for each run and seed.
    swept
        Swept keys; those that are not compared, nor seeds, make a setting.
    """
    from mbexp.results.statistics import is_higher_better, paired_comparison

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
    for where, sides in settings.items():
        for metric in METRICS:
            for second, first in itertools.combinations(sides, 2):
                seeds = [seed for seed in sides[first] if seed in sides[second]]
                both = [(sides[first][seed].get(metric), sides[second][seed].get(metric)) for seed in seeds]
                pairs = [(a, b) for a, b in both if _known(a) and _known(b)]
                if len(pairs) < 2:
                    continue
                a, b = zip(*pairs, strict=True)
                comparison = paired_comparison(a, b, is_higher_better(metric))
                relative = comparison.relative_pct
                found.append(
                    dict(zip(settings_keys, where, strict=True))
                    | {
                        "metric": metric,
                        "first": first,
                        "second": second,
                        "seeds": len(pairs),
                        "winner": {1: first, -1: second, 0: None}[comparison.winner],
                        "difference": comparison.difference.mean,
                        "difference_half_width": comparison.difference.half_width,
                        "relative_pct": relative.mean if relative else None,
                        "relative_half_width_pct": relative.half_width if relative else None,
                        "verdict": comparison.verdict(str(first), str(second), _unit(metric)),
                    }
                )
    return found


def _unit(metric: str) -> str:
    """Return the unit of a difference of a share; other metrics are compared in per cent of each other."""
    return "percentage points" if catalogue()[metric].unit == "%" else ""


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
