"""Which swept key names the sides of a comparison, and which of the other keys make its settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mbexp.errors import UserError, unknown_choice
from mbexp.results.catalogue import catalogue, find_column

Values = Mapping[str, Any]

LABEL = "study.label"
SEEDS = ("seed", "replications")
# A load, or what it is shared among: more of it is no idea that wins or loses. `is_load` adds the keys of workloads.
LOADS = ("num_requests", "num_gpus", "gpu.count", "sla", "replicate")
METRICS = ("throughput_requests_per_s", "latency_p95_s", "request_sla_violation_pct")  # where a study names none


def is_load(key: str) -> bool:
    """Return whether a swept key sets the load of a run, or the target that it is held against."""
    return key in LOADS or key.partition(".")[0] in ("workload", "sla", "warm_up")


def sides_key(swept: Sequence[str], asked: str | None = None, points: Iterable[Values] = ()) -> str | None:
    """Return the swept key whose values are compared, or None where none is named and no one key suggests itself.

    Parameters
    ----------
    swept
        Swept keys.
    asked
        `study.compare`. Where it is None: the scheduler; the label, where labels are what schedulers come with; else
        the one key that is neither a load nor a seed.
    points
        What each point of the sweep sets, by key.

    Raises
    ------
    UserError
        If the key that is asked for is not swept.
    """
    if asked is not None:
        if asked not in swept:
            raise unknown_choice("study.compare", asked, [key for key in swept if key not in SEEDS])
        return asked
    if "scheduler" in swept and not (LABEL in swept and _determined(list(points), "scheduler", [LABEL])):
        return "scheduler"
    if LABEL in swept:
        return LABEL
    others = [key for key in swept if key not in SEEDS and not is_load(key)]
    return others[0] if len(others) == 1 else None


def metrics_of(asked: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the columns of the metrics that verdicts are about: those asked for, or three that fit any study.

    Raises
    ------
    UserError
        For a name that is no metric, or one of which more is neither better nor worse.
    """
    found = []
    for name in asked or METRICS:
        metric = find_column(name) or catalogue().get(name)
        if metric is None or metric.better is None:
            known = [row.column or row.key for row in catalogue().values() if row.better]
            if metric is not None:
                raise UserError(f"study.metrics={name}: more of it is neither better nor worse")
            raise unknown_choice("study.metrics", name, known)
        found.append(metric.column or metric.key)
    return tuple(dict.fromkeys(found))


def settings_keys(key: str, swept: Sequence[str], points: Sequence[Values]) -> list[str]:
    """Return the keys whose values sides must share: all that are swept but seeds, and but those that belong to a side.

    A key belongs to a side if its value follows from the side and the other settings, and differs between sides. Such
    is the number of bins that a label stands for. Loads never do: sides at two loads meet other requests.

    Parameters
    ----------
    points
        What each point of the whole sweep sets, so that runs which are missing change nothing.
    """
    kept = [name for name in swept if name != key and name not in SEEDS]
    for name in [*kept]:
        if name == LABEL or (is_load(name) and name not in ("num_gpus", "gpu.count")):
            continue
        rest = [other for other in kept if other != name]
        of_sides: dict[str, set[str]] = {}
        for point in points:
            of_sides.setdefault(repr(point.get(key)), set()).add(repr(point.get(name)))
        if len({frozenset(values) for values in of_sides.values()}) > 1 and _determined(points, name, [key, *rest]):
            kept.remove(name)
    return kept


def not_named(key: str, names: Sequence[str], points: Iterable[Values]) -> dict[Any, tuple[str, ...]]:
    """Return for each side those of `names` that none of its points sets: it meets the others at any value of them."""
    named: dict[Any, set[str]] = {}
    for point in points:
        named.setdefault(point.get(key), set()).update(name for name in names if point.get(name) is not None)
    return {side: tuple(name for name in names if name not in given) for side, given in named.items()}


def _determined(points: Sequence[Values], name: str, by: Sequence[str]) -> bool:
    """Return whether the values of `by` leave one value of `name` at every point; False of no points."""
    found: dict[tuple[str, ...], str] = {}
    if not points:
        return LABEL in by and len(by) == 1  # nothing is known of the points: a label stands for its keys
    return all(
        found.setdefault(tuple(repr(point.get(key)) for key in by), repr(point.get(name))) == repr(point.get(name))
        for point in points
    )
