"""The answer a planner wants: for each load the fewest GPUs, and the side and bins, that keep the latency targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mbexp.sweep.sides import settings_keys, sides_key

Row = dict[str, Any]

VIOLATION = "request_sla_violation_pct"
TARGETS = (VIOLATION, "token_sla_violation_pct")  # each at most `study.target_pct`; none is left out
PLANNED = ("num_gpus", "gpu.count", "k_bins", "bins.k")  # always chosen; beside them, what is compared
NOT_A_LOAD = (*PLANNED, "seed", "replications")
SHOWN = ("latency_p95_s", "throughput_requests_per_s", "goodput_requests_per_s", "gpu_utilization_pct")
MEETS, UNDECIDED, FAILS = "meets", "undecided", "fails"


def compared_keys(swept: Sequence[str], asked: str | None, points: Sequence[Row]) -> list[str]:
    """Return the swept keys that are chosen among beside GPUs and bins: those of the sides that verdicts compare.

    `asked` is `study.compare`; see `sides_key` for None. `points` holds what each point of the sweep sets.
    """
    others = [key for key in swept if key not in PLANNED]
    key = None if asked in PLANNED else sides_key(others, asked, points)
    if key is None:
        return []
    settings = settings_keys(key, others, points)
    return [name for name in others if name not in settings and name not in NOT_A_LOAD]


def load_keys(swept: Sequence[str], compared: Sequence[str] = ()) -> list[str]:
    """Return the swept keys that make a load: all but the choice itself (with `compared_keys`) and the seed."""
    return [key for key in swept if key not in NOT_A_LOAD and key not in compared]


def best_configurations(
    rows: Sequence[Row],
    swept: Sequence[str],
    target_pct: float,
    compared: Sequence[str] = (),
    metrics: Sequence[str] = (),
) -> list[Row]:
    """Return one row for each load: the configuration to take.

    That is the one with the fewest GPUs among those that meet every target, ties by the lowest violations, then by
    `metrics` in turn, then by the fewest bins. Where none does, the one whose highest violation is lowest (then the
    fewest GPUs, `metrics` and bins), with ``meets_target`` false. A target is met where the upper end of the 95 %
    interval of its violation over the seeds is at most `target_pct`, missed where the lower end is above it, and
    undecided between; one run has no interval and is judged by its value.

    Parameters
    ----------
    rows
        A row for each run and seed. Rows that differ in the seed alone are one configuration, taken at its mean;
        copies among them are one observation.
    swept
        Swept keys.
    compared
        Those of them whose values are chosen among, as numbers of GPUs and bins are.
    metrics
        Columns of the catalogue that decide between equals.

    Returns
    -------
    list of dict
        The load, `compared`, ``num_gpus`` and ``k_bins``, means and half widths; with ``judgement`` ("meets",
        "undecided" or "fails"), ``targets_not_met`` (the metrics), ``tried`` (from how many configurations it was
        chosen) and ``fewer_gpus_undecided`` (the fewest GPUs, where they are fewer than the answer's, whose judgement
        is undecided).
    """
    from mbexp.results.statistics import distinct

    loads = load_keys(swept, compared)
    names = [*loads, *compared, "num_gpus", "k_bins"]
    configurations: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if _known(row.get(VIOLATION)):
            configurations.setdefault(tuple(row.get(name) for name in names), []).append(row)
    by_load: dict[tuple[Any, ...], list[Row]] = {}
    for where, same in configurations.items():
        once = [same[place] for place in distinct(same)]
        found = dict(zip(names, where, strict=True)) | _judged(once, target_pct, metrics)
        by_load.setdefault(where[: len(loads)], []).append(found)
    return [_chosen(choices, metrics) for choices in by_load.values()]


def _judged(runs: Sequence[Row], target_pct: float, metrics: Sequence[str]) -> Row:
    """Return means and intervals of one configuration, and how it stands to the targets."""
    from mbexp.results.statistics import mean_interval

    found: Row = {}
    judgements = {}
    for metric in dict.fromkeys((*TARGETS, *metrics, *SHOWN)):
        values = [row[metric] for row in runs if _known(row.get(metric))]
        interval = mean_interval(values) if values else None
        half_width = interval.half_width if interval and not math.isnan(interval.half_width) else None
        found[metric] = interval.mean if interval else None
        found[f"{metric}_half_width"] = half_width
        if metric in TARGETS and interval:
            low, high = interval.mean - (half_width or 0), interval.mean + (half_width or 0)
            judgements[metric] = MEETS if high <= target_pct else FAILS if low > target_pct else UNDECIDED
    judgement = next((each for each in (FAILS, UNDECIDED) if each in judgements.values()), MEETS)
    return found | {
        "meets_target": judgement == MEETS,
        "judgement": judgement,
        "targets_not_met": ", ".join(metric for metric, each in judgements.items() if each != MEETS) or None,
        "target_pct": target_pct,
        "runs": len(runs),
        "run": runs[0]["run"],
    }


def _chosen(choices: Sequence[Row], metrics: Sequence[str]) -> Row:
    best = min(choices, key=lambda row: _preference(row, metrics))
    undecided = [row["num_gpus"] for row in choices if row["judgement"] == UNDECIDED]
    fewer = min((gpus for gpus in undecided if gpus < best["num_gpus"]), default=None)
    return best | {"tried": len(choices), "fewer_gpus_undecided": fewer if best["meets_target"] else None}


def _preference(row: Row, metrics: Sequence[str]) -> tuple[Any, ...]:
    from mbexp.results.comparisons import is_higher_better

    violations = [row[metric] for metric in TARGETS if row[metric] is not None]
    # the worst comes last; of a metric that a configuration does not have, nothing is known to be good
    rest = [
        math.inf if row[metric] is None else -row[metric] if is_higher_better(metric) else row[metric]
        for metric in metrics
    ]
    if row["meets_target"]:
        return 0, row["num_gpus"], sum(violations), *rest, row["k_bins"]
    return 1, max(violations), sum(violations), row["num_gpus"], *rest, row["k_bins"]


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
