"""The answer a planner wants: for each load the fewest GPUs, and the bins, that keep the request SLA."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]

VIOLATION = "request_sla_violation_pct"
PLANNED = ("num_gpus", "gpu.count", "k_bins", "bins.k")  # what is chosen; everything else that is swept is the load
NOT_A_LOAD = (*PLANNED, "seed", "replications", "study.label")
SHOWN = ("latency_p95_s", "throughput_requests_per_s", "goodput_requests_per_s", "gpu_utilization_pct")


def load_keys(swept: Sequence[str]) -> list[str]:
    """Return the swept keys that make a load: all but the choice itself and the seed."""
    return [key for key in swept if key not in NOT_A_LOAD]


def best_configurations(rows: Sequence[Row], swept: Sequence[str], target_pct: float) -> list[Row]:
    """Return one row for each load: the configuration to take.

    That is the one with the fewest GPUs among those whose request-SLA violation is at most `target_pct`, ties by the
    lowest violation, then by the fewest bins. Where none is, the one with the lowest violation (then the fewest GPUs
    and bins), with ``meets_target`` false.

    Parameters
    ----------
    rows
        Of the tidy table. Rows that differ in the seed alone are one configuration, taken at its mean.
    swept
        Swept keys.
    """
    loads = load_keys(swept)
    configurations: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row.get(VIOLATION) is not None and math.isfinite(row[VIOLATION]):
            where = (*(row.get(key) for key in loads), row["num_gpus"], row["k_bins"])
            configurations.setdefault(where, []).append(row)
    by_load: dict[tuple[Any, ...], list[Row]] = {}
    for where, same in configurations.items():
        found: Row = dict(zip(loads, where, strict=False))
        found |= {"num_gpus": where[-2], "k_bins": where[-1]}
        for metric in (VIOLATION, *SHOWN):
            values = [row[metric] for row in same if row.get(metric) is not None]
            found[metric] = sum(values) / len(values) if values else None
        found |= {"meets_target": found[VIOLATION] <= target_pct, "target_pct": target_pct}
        found |= {"runs": len(same), "run": same[0]["run"]}
        by_load.setdefault(where[:-2], []).append(found)
    return [min(choices, key=_preference) for choices in by_load.values()]


def _preference(row: Row) -> tuple[Any, ...]:
    if row["meets_target"]:
        return 0, row["num_gpus"], row[VIOLATION], row["k_bins"]
    return 1, row[VIOLATION], row["num_gpus"], row["k_bins"]
