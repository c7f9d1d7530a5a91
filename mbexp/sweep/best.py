"""The answer a planner wants: for each load the fewest GPUs, and the side and bins, that keep the latency targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mbexp.errors import UserError
from mbexp.results.targets import Target, read_targets
from mbexp.sweep.sides import settings_keys, sides_key

if TYPE_CHECKING:
    from mbexp.sweep.points import Point

Row = dict[str, Any]

VIOLATION = "request_sla_violation_pct"
VIOLATIONS = (VIOLATION, "token_sla_violation_pct")  # each at most `study.target_pct`, where no targets are set
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


def targets_of(points: Sequence[Point]) -> list[Target]:
    """Return what the points of a study are judged by: `sla.targets`; none where they set none.

    Raises
    ------
    UserError
        On a wrong target, and where points that are compared have different ones.
    """
    written = {tuple(point.config.sla.targets) for point in points}
    if len(written) > 1 and any(point.config.study.best for point in points):
        raise UserError("sla.targets: study.best judges all points by the same targets; sweep something else")
    first = points[0].config
    return read_targets(first.sla, first.execution.name, first.workload.classes) if first.sla.targets else []


def best_configurations(
    rows: Sequence[Row],
    swept: Sequence[str],
    target_pct: float,
    targets: Sequence[Target] = (),
    compared: Sequence[str] = (),
    metrics: Sequence[str] = (),
) -> list[Row]:
    """Return one row for each load: the configuration to take.

    That is the one with the fewest GPUs among those that meet every target. Ties are decided by what is furthest within
    the targets, then by `metrics` in turn, then by the fewest bins. Where none does, it
    is the one whose worst target is missed by least (then the fewest GPUs, `metrics` and bins), with ``meets_target``
    false. A target is met where the farther end of the metric's 95 % interval over the seeds meets its bound. It is
    missed where the nearer end does not, and undecided between; one run has no interval and is judged by its value.

    Parameters
    ----------
    rows
        A row for each run and seed. Rows that differ in the seed alone are one configuration, taken at its mean;
        copies among them are one observation.
    swept
        Swept keys.
    target_pct : float
        Bound of both violations where there are no `targets`; a violation that no run has is left out.
    targets : list of Target
        Of ``sla.targets``. A metric that a run lacks misses its target, and so does an overloaded run.
    compared
        Swept keys whose values are chosen among, as numbers of GPUs and bins are.
    metrics
        Columns of the catalogue that decide between equals.

    Returns
    -------
    list of dict
        The load, `compared`, ``num_gpus`` and ``k_bins``, means and half widths; with ``judgement`` ("meets",
        "undecided" or "fails") and ``targets_not_met`` (the metrics). ``tried`` says from how many configurations it
        was chosen. ``fewer_gpus_undecided`` holds the fewest GPUs that are undecided, if fewer than the answer's.
    """
    from mbexp.results.statistics import distinct

    asked = list(targets) or [Target(metric, True, target_pct) for metric in VIOLATIONS]
    loads = load_keys(swept, compared)
    names = [*loads, *compared, "num_gpus", "k_bins"]
    configurations: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if any(math.isfinite(target.value(row)) for target in asked):
            configurations.setdefault(tuple(row.get(name) for name in names), []).append(row)
    by_load: dict[tuple[Any, ...], list[Row]] = {}
    for where, same in configurations.items():
        once = [same[place] for place in distinct(same)]
        found: Row = dict(zip(names, where, strict=True)) | _judged(once, asked, metrics, bool(targets))
        found |= {"targets": ", ".join(map(str, targets))} if targets else {"target_pct": target_pct}
        by_load.setdefault(where[: len(loads)], []).append(found)
    return [_chosen(choices, asked, metrics) for choices in by_load.values()]


def _judged(runs: Sequence[Row], targets: Sequence[Target], metrics: Sequence[str], strict: bool) -> Row:
    """Return means and intervals of one configuration, and how it stands to the targets."""
    from mbexp.results.statistics import mean_interval

    found: Row = {}
    judgements: list[tuple[str, str]] = []
    told_too = dict.fromkeys((*metrics, *SHOWN))
    for target in [*targets, *(Target(metric, True, math.inf) for metric in told_too)]:
        values = [value for row in runs if math.isfinite(value := target.value(row))]
        interval = mean_interval(values) if values else None
        half_width = interval.half_width if interval and not math.isnan(interval.half_width) else None
        found[target.metric] = interval.mean if interval else None
        found[f"{target.metric}_half_width"] = half_width
        if strict and len(values) < len(runs):
            judgements.append((target.metric, FAILS))
        elif interval:
            ends = [target.excess(interval.mean + sign * (half_width or 0.0)) for sign in (-1, 1)]
            judgements.append((target.metric, MEETS if max(ends) <= 0 else FAILS if min(ends) > 0 else UNDECIDED))
    judgements = judgements[: len(targets)]
    if strict and 2 * sum(bool(row.get("overloaded")) for row in runs) > len(runs):
        judgements.append(("overloaded", FAILS))
    told = {each for _, each in judgements}
    judgement = next((each for each in (FAILS, UNDECIDED) if each in told), MEETS)
    return found | {
        "meets_target": judgement == MEETS,
        "judgement": judgement,
        "targets_not_met": ", ".join(dict.fromkeys(metric for metric, each in judgements if each != MEETS)) or None,
        "runs": len(runs),
        "run": runs[0]["run"],
    }


def _chosen(choices: Sequence[Row], targets: Sequence[Target], metrics: Sequence[str]) -> Row:
    best = min(choices, key=lambda row: _preference(row, targets, metrics))
    undecided = [row["num_gpus"] for row in choices if row["judgement"] == UNDECIDED]
    fewer = min((gpus for gpus in undecided if gpus < best["num_gpus"]), default=None)
    return best | {"tried": len(choices), "fewer_gpus_undecided": fewer if best["meets_target"] else None}


def _preference(row: Row, targets: Sequence[Target], metrics: Sequence[str]) -> tuple[Any, ...]:
    from mbexp.results.comparisons import is_higher_better

    missed = [target.excess(row[target.metric]) for target in targets if row[target.metric] is not None]
    missed += [math.inf] * (row["judgement"] == FAILS and len(missed) < len(targets) and "targets" in row)
    # the worst comes last; of a metric that a configuration does not have, nothing is known to be good
    rest = [
        math.inf if row[metric] is None else -row[metric] if is_higher_better(metric) else row[metric]
        for metric in metrics
    ]
    if row["meets_target"]:
        return 0, row["num_gpus"], sum(missed), *rest, row["k_bins"]
    return 1, max(missed), sum(missed), row["num_gpus"], *rest, row["k_bins"]
