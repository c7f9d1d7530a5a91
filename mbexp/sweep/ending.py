"""How a sweep ends: its tables, what the terminal shows of them, and one line about what failed."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mbexp.errors import UserError
from mbexp.results.index import stored_runs
from mbexp.results.lines import prose_lines
from mbexp.results.store import git_state, replace_file
from mbexp.results.stored import flat, run_folders
from mbexp.sweep.best import (
    UNDECIDED,
    VIOLATION,
    VIOLATIONS,
    best_configurations,
    compared_keys,
    load_keys,
    targets_of,
)
from mbexp.sweep.engine import Ending
from mbexp.sweep.plan import Plan
from mbexp.sweep.points import Point
from mbexp.sweep.sides import metrics_of
from mbexp.sweep.table import Row, rows_of, to_table, write_csv, write_table
from mbexp.sweep.text import text_table
from mbexp.sweep.told import verdict_lines
from mbexp.sweep.unlike import unlike_limits
from mbexp.sweep.verdicts import verdicts, without_effect

TABLES = ("results.parquet", "results.csv", "replications.parquet", "replications.csv", "best.csv", "verdicts.csv")
HEADLINES = (VIOLATION, "latency_p95_s", "throughput_requests_per_s", "goodput_requests_per_s", "gpu_utilization_pct")
SHOWN_ROWS = 50
NAMED = 3  # values or runs in a warning of some runs
TARGET_NAMES = dict(zip(VIOLATIONS, ("the request SLA", "the token SLA"), strict=True)) | {"overloaded": "the load"}


@dataclass(frozen=True)
class Asked:
    """What a command asked for.

    Attributes
    ----------
    name : str
    config_name : str
    swept : list of str
    points : list of Point
    """

    name: str
    config_name: str
    swept: list[str]
    points: list[Point]


def finish(asked: Asked, plan: Plan, ending: Ending, wall_time_s: float) -> list[Row]:
    """Write the tables of a sweep, print what they say and return the best configurations, where asked for.

    Raises
    ------
    UserError
        One line, if a run failed or a table cannot be written.
    KeyboardInterrupt
        If the sweep was interrupted, when all is written.
    """
    study = asked.points[0].config.study
    origins: dict[str, Row] = {}
    values = {run.key: run.values for run in plan.runs}
    names = [path.name for path in run_folders(plan.folder)]
    runs = stored_runs(plan.folder, names, lambda key: flat(values.get(key, {})))
    rows, by_seed = rows_of(plan.folder, asked.points, plan.key_of, origins, runs)
    mixed = versions(origins.values())
    _set_aside(plan.folder, plan.key_of)
    given = [point.swept for point in asked.points]
    compared = compared_keys(asked.swept, study.compare, given)
    best = _best_of(asked, by_seed, compared) if study.best else []
    told = verdicts(by_seed, asked.swept, study.compare, study.metrics, given)
    if rows:
        write_table(to_table(rows), plan.folder, "results")
    if any(point.config.replications > 1 for point in asked.points) and by_seed:
        halves = [name for name in to_table(by_seed).column_names if name.endswith("_half_width")]
        write_table(to_table(by_seed).drop_columns(halves), plan.folder, "replications")
    if best:
        write_csv(to_table(best).drop_columns(["warnings"]), plan.folder / "best.csv")
    if told:
        write_csv(to_table(told).drop_columns(["warnings"]), plan.folder / "verdicts.csv")
    _write_study(asked, plan, ending, wall_time_s, mixed, compared)
    shown = [
        *_results(rows, asked.swept, metrics_of(study.metrics) if study.metrics else ()),
        *verdict_lines(told, by_seed, asked.swept, study, given),
        *_best(best, asked, compared),
    ]
    for line in [*shown, *unlike_limits(asked.points), *_warnings(rows, by_seed, asked.swept)]:
        print(line)
    if mixed:
        print(f"! {mixed}")
    elsewhere = f", {ending.made_elsewhere} by another sweep" if ending.made_elsewhere else ""
    made = f"{ending.made} made{elsewhere}, {ending.stored_before} stored before"
    print(f"{len(rows)} rows of {len(plan.runs)} runs in {plan.folder}  ({made}; {wall_time_s:.1f} s)", flush=True)
    if ending.interrupted:
        # counted from the table just written: a worker may have finished a run since the interrupt
        missing = len(plan.runs) - len({row["run"] for row in rows})
        print(f"{missing} of {len(plan.runs)} runs are missing; the same command makes them", flush=True)
        raise KeyboardInterrupt
    if ending.trouble:
        raise UserError(f"{ending.trouble}; {_what_failed(plan, ending)}" if ending.missing else ending.trouble)
    if ending.failed or ending.missing:
        raise UserError(_what_failed(plan, ending))
    return best


def _results(rows: Sequence[Row], swept: Sequence[str], metrics: Sequence[str] = ()) -> list[str]:
    """Return the rows as a table: the metrics that were asked for, and of the usual ones as many as fit beside them."""
    if not 0 < len(rows) <= SHOWN_ROWS:
        return []
    heads = swept or ["scheduler"]
    usual = [name for name in HEADLINES if name not in metrics]
    lines = text_table(rows, [*heads, *metrics, *usual])
    while metrics and usual and "" in lines:  # a second table follows
        usual.pop()
        lines = text_table(rows, [*heads, *metrics, *usual])
    return [*lines, ""]


def _best_of(asked: Asked, by_seed: Sequence[Row], compared: Sequence[str]) -> list[Row]:
    study = asked.points[0].config.study
    ties = metrics_of(study.metrics) if study.metrics else ()
    return best_configurations(by_seed, asked.swept, study.target_pct, targets_of(asked.points), compared, ties)


def _best(best: Sequence[Row], asked: Asked, compared: Sequence[str]) -> list[str]:
    if not best:
        return []
    targets = targets_of(asked.points)
    if targets:
        judged_by = [target.metric for target in targets]
        head = f"Fewest GPUs with {' and '.join(map(str, targets))}:"
    else:
        judged_by, head = [*VIOLATIONS], _usual_head(asked)
    keys = [*load_keys(asked.swept, compared), *compared, "num_gpus", "k_bins"]
    columns = [*keys, *judged_by, "latency_p95_s", "throughput_requests_per_s"]
    shown = [row | {"meets_target": UNDECIDED} if row["judgement"] == UNDECIDED else row for row in best]
    lines = [head, *text_table(shown, [*columns, "meets_target"])]
    for what, loads in Counter(filter(None, map(_left_open, best))).items():
        lines.append(f"For {loads} of {len(best)} loads {what}.")
    lines.append(
        "Judged by the 95 % interval over the seeds, whose upper end must meet the target."
        if min(row["runs"] for row in best) > 1
        else "Judged by one run each, so without an interval; replications=5 gives one."
    )
    if (tried := max(row["tried"] for row in best)) > 1:
        lines.append(
            f"Each is chosen from {tried} configurations by these same numbers, and so reads better than it is; "
            "a run of it with other seeds does not."
        )
    return [*lines, ""]


def _usual_head(asked: Asked) -> str:
    """Return what is asked of a best configuration without targets: few requests, and few tokens, over their limit."""
    target = f"at most {asked.points[0].config.study.target_pct:g} %"
    parts = []
    for what, key, unit in (("requests", "request_s", "s"), ("tokens", "token_ms", "ms")):
        found = {value for point in asked.points if (value := getattr(point.config.sla, key)) is not None}
        if found:
            limit = f"{found.pop():g} {unit}" if len(found) == 1 else "their limit"
            parts.append(f"{target} of {what} over {limit}")
    return f"Fewest GPUs with {' and '.join(parts)}:"


def _left_open(row: Row) -> str:
    """Return which targets the answer for a load misses or leaves open, or that fewer GPUs may do as well."""
    if row["meets_target"]:
        return "fewer GPUs are undecided (fewer_gpus_undecided in best.csv)" if row["fewer_gpus_undecided"] else ""
    targets = " nor ".join(TARGET_NAMES.get(metric, metric) for metric in row["targets_not_met"].split(", "))
    which = "is shown to meet" if row["judgement"] == UNDECIDED else "meets"
    return f"no configuration tried {which} {targets}; the nearest is given"


def _warnings(rows: Sequence[Row], by_seed: Sequence[Row], swept: Sequence[str]) -> list[str]:
    """Return what single runs would have said, each sentence once with how many say it, and which keys did nothing."""
    from mbexp.results.replications import said_by

    runs = {row["run"]: (row.get("warnings") or "").split("\n") for row in rows}
    keys = [*runs]
    told = [(text, set(places)) for text, places in said_by(filter(None, each) for each in runs.values())]
    found = []
    for sentence, places in sorted(told, key=lambda pair: -len(pair[1])):
        which = _which_runs(rows, {keys[place] for place in places}, swept) if len(places) < len(runs) else ""
        found.append(f"! {len(places)} of {len(runs)} runs{which}: {sentence}")
    if idle := without_effect(by_seed, swept):
        found.append(f"! {', '.join(idle)}: no value changed any result, so rows that differ in it are one run")
    lines = [line for each in found for line in prose_lines(each, "  ")]
    return [*lines, ""] if lines else []


def _which_runs(rows: Sequence[Row], keys: Container[str], swept: Sequence[str]) -> str:
    """Return `` (key=value,value)``: the values that some of the runs share, or else the first of these runs."""
    some = [row for row in rows if row["run"] in keys]
    values = {key: [*dict.fromkeys(_told(row.get(key)) for row in some)] for key in swept}
    apart = [key for key in swept if len(values[key]) < len({_told(row.get(key)) for row in rows})]
    if len(some) == sum(all(_told(row.get(key)) in values[key] for key in apart) for row in rows):
        words = [f"{key}={_cut(values[key], ',')}" for key in apart]
    else:  # no product of values
        words = [_cut([" ".join(f"{key}={_told(row.get(key))}" for key in swept) for row in some], "; ")]
    return f" ({' '.join(words)})" if words else ""


def _cut(texts: Sequence[str], comma: str) -> str:
    left = len(texts) - NAMED
    return comma.join([*texts[:NAMED], *([f" ... {left} more"] if left > 0 else [])])


def _told(value: object) -> str:
    return "null" if value is None else str(value)


def _what_failed(plan: Plan, ending: Ending) -> str:
    where = f"the same command makes {'them' if len(ending.failed) + ending.missing > 1 else 'it'} again"
    if not ending.failed:
        return f"{ending.missing} of {len(plan.runs)} runs are missing; {where}"
    first = ending.failed[0]
    overrides = next((" ".join(run.overrides) for run in plan.runs if run.key == first.key), first.key)
    logs = [outcome.log for outcome in ending.failed if outcome.log]
    log = f"; log: {logs[0]}" if len(logs) == 1 else f"; logs: {Path(logs[0]).parent}/<key>.log" if logs else ""
    not_tried = f", {ending.missing} were not tried" if ending.missing else ""
    which = f"{len(ending.failed)} of {len(plan.runs)} runs failed{not_tried}; the first ({overrides})"
    if len(ending.failed) == len(plan.runs) > 1 and len({outcome.reason for outcome in ending.failed}) == 1:
        which = f"all {len(plan.runs)} runs failed"
    return f"{which}: {first.reason}{log}; {where}"


def versions(origins: Iterable[Row]) -> str:
    """Return a sentence on the versions of what made these runs, where there are several; else an empty string."""
    made_with: list[dict[str, str]] = []
    for known in origins:
        git = known.get("git")
        commit = f"commit {git['commit'][:8]}{' with changes' if git.get('modified') else ''}" if git else ""
        own = {
            "mbexp": commit or known.get("mbexp_version"),
            "Python": known.get("python"),
            **(known.get("dependencies") or {}),
        }
        made_with.append({name: str(version) for name, version in own.items()})
    names = dict.fromkeys(name for each in made_with for name in each)
    differing = {name: Counter(each.get(name, "?") for each in made_with) for name in names}
    told = [
        f"{name} ({', '.join(f'{version} in {count:,}' for version, count in counts.most_common())})"
        for name, counts in differing.items()
        if len(counts) > 1
    ]
    if not told:
        return ""
    return f"these runs were made with several versions of {' and '.join(told)}; force=true makes all of them again"


def _set_aside(folder: Path, keys: Sequence[str]) -> None:
    """Keep the tables of an earlier command that asked for runs that are not among these."""
    try:
        before = json.loads((folder / "study.json").read_text(encoding="utf-8"))
        if set(before["runs"]) <= set(keys):
            return
        written = datetime.fromtimestamp((folder / "study.json").stat().st_mtime, UTC)
        aside = folder / "earlier" / written.strftime("%Y%m%dT%H%M%SZ")  # not a name out of the file
        aside.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in (*TABLES, "study.json", "multirun.yaml"):
        with contextlib.suppress(OSError):
            os.replace(folder / name, aside / name)


def _write_study(
    asked: Asked, plan: Plan, ending: Ending, wall_time_s: float, mixed: str, compared: Sequence[str]
) -> None:
    from mbexp.version import RESULTS_VERSION, __version__

    overrides = {run.key: list(run.overrides) for run in plan.runs}
    values = {
        "name": asked.name,
        "config_name": asked.config_name,
        "question": asked.points[0].config.study.question,
        "command": plan.command,
        "swept": asked.swept,
        "compared": list(compared),
        "points": len(asked.points),
        "runs": list(dict.fromkeys(plan.key_of)),
        "made": ending.made,
        "made_elsewhere": ending.made_elsewhere,
        "stored_before": ending.stored_before,
        "target_pct": asked.points[0].config.study.target_pct,
        "targets": asked.points[0].config.sla.targets,
        "missing": ending.missing,
        "interrupted": ending.interrupted,
        "failures": [
            {"run": each.key, "overrides": overrides.get(each.key, []), "reason": each.reason, "log": each.log}
            for each in ending.failed
        ],
        "workers": ending.workers,
        "versions": mixed,
        "wall_time_s": round(wall_time_s, 3),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "mbexp_version": __version__,
        "results_version": RESULTS_VERSION,
        "git": git_state(),
    }
    path, text = plan.folder / "study.json", json.dumps(values, indent=2) + "\n"
    try:
        replace_file(path, lambda aside: aside.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); the runs are stored") from error
