"""What a report says: question, command, tables, figures, warnings, configuration and provenance, as plain values."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mbexp.errors import UserError
from mbexp.figures.aggregate import first_row, settings, swept
from mbexp.figures.labels import axis_label, number, setting_label
from mbexp.figures.study import StoredStudy
from mbexp.report.answered import answered
from mbexp.report.pictures import Picture, picture_of
from mbexp.report.tables import Table, best_table, cell, is_true, results_table, verdict_table
from mbexp.results.replications import said_once
from mbexp.results.stored import read_bytes, read_json
from mbexp.results.targets import parse
from mbexp.sweep.best import FAILS, UNDECIDED
from mbexp.sweep.text import short_number

if TYPE_CHECKING:
    import pandas as pd

NOT_MET = {
    FAILS: "no configuration tried meets the targets; the best is ",
    UNDECIDED: "no configuration tried is shown to meet the targets; the best is ",
}


@dataclass(frozen=True)
class Caution:
    """A sentence that changes how numbers are read, and how many runs it, or one like it, holds for."""

    text: str
    runs: int


@dataclass(frozen=True)
class Report:
    """All that the page shows."""

    title: str
    question: str
    summary: list[tuple[str, str]]
    command: str
    figures_command: str
    answers: list[str]
    tables: list[Table]
    pictures: list[Picture]
    not_drawn: list[tuple[str, str]]
    warnings: list[Caution]
    failures: list[tuple[str, str]]
    configuration: str
    varied: list[tuple[str, str]]
    provenance: list[tuple[str, str]] = field(default_factory=list)


def collect(study: StoredStudy) -> Report:
    """Return the report of a study or run."""
    frame = study.results
    info = study.info
    first = str(frame["run"].iloc[0])
    found = answered(study)
    pictures, not_drawn = (found.pictures, []) if found else draw_pictures(study)
    tables = [table for table in (best_table(study), verdict_table(study), results_table(study)) if table]
    cautions = warnings_of(frame)
    if found:
        tables = [*found.tables, *tables]
        cautions = [*(Caution(text, 1) for text in found.warnings), *cautions]
    failed = info.get("failures") or []
    path = study.run_folder(first) / "config.yaml"
    configuration = study.unless_damaged(lambda: read_bytes(path).decode(errors="replace"))
    came_from = provenance(study, first)
    folder = study.shown_folder
    return Report(
        title=title_of(study),
        question=str(info.get("question") or ""),
        summary=summary(study),
        command=command_of(study, first),
        figures_command=f"python -m mbexp.figures {folder}\npython -m mbexp.report {folder}",
        answers=found.sentences if found else answers(study),
        tables=tables,
        pictures=pictures,
        not_drawn=[*not_drawn, *(("what rests on a damaged file", line) for line in study.damage)],
        warnings=cautions,
        failures=[(" ".join(each.get("overrides", [])) or each["run"], str(each.get("reason", ""))) for each in failed],
        configuration=configuration or "",
        varied=varied(study),
        provenance=came_from,
    )


def title_of(study: StoredStudy) -> str:
    """Return the name of a study in words, or what a single run was of."""
    if not study.is_single_run:
        return study.name.replace("_", " ")
    row = first_row(study.results)
    keys = ["scheduler", "num_gpus", "num_requests"]
    return setting_label(keys, [row[key] for key in keys])


def summary(study: StoredStudy) -> list[tuple[str, str]]:
    """Return the few facts at the top of the page."""
    frame, info = study.results, study.info
    facts = [("Runs", f"{frame['run'].nunique():,}")]
    seeds = frame["seed"].nunique() if "seed" in frame else 1
    facts.append(("Seeds", f"{seeds:,}" if seeds > 1 else "1, so no interval can be given"))
    for name, label in (("scheduler", "Schedulers"), ("workload", "Workload"), ("gpu", "GPU and law")):
        if name in frame:
            facts.append((label, ", ".join(str(value) for value in frame[name].unique())))
    if "trace_source" in frame:
        facts.append(("Requests are", "; ".join(str(value) for value in frame["trace_source"].unique())))
    units = {"sla.request_s": "s a request", "sla.token_ms": "ms a token"}
    targets = [
        f"{', '.join(number(value) for value in sorted(frame[key].dropna().unique()))} {unit}"
        for key, unit in units.items()
        if key in frame and frame[key].notna().any()
    ]
    if targets:
        facts.append(("Latency targets", "; ".join(targets)))
    if study.targets:
        facts.append(("Judged by", ", ".join(study.targets)))
    if info.get("versions"):
        facts.append(("Versions", info["versions"]))
    if info.get("missing"):
        facts.append(("Missing", f"{info['missing']} runs were not made; the same command makes them"))
    return facts


def answers(study: StoredStudy) -> list[str]:
    """Return what the study found, in sentences: best configurations, and verdicts where there are few."""
    found = []
    best = study.table("best")
    if best is not None:
        chosen = [*(name for name in study.info.get("compared", []) if name in best.columns), "num_gpus", "k_bins"]
        loads = [name for name in swept(study.results) if name in best.columns and name not in chosen]
        for row in best.to_dict("records"):
            load = setting_label(loads, [row[name] for name in loads])
            choice = setting_label(chosen, [row[name] for name in chosen])
            words = "" if is_true(row["meets_target"]) else NOT_MET.get(str(row.get("judgement")), NOT_MET[FAILS])
            found.append(f"{load}: {words}{choice} ({_judged_by(row)})".removeprefix(": "))
    told = study.table("verdicts")
    if told is not None and len(told) <= 12:
        found += [f"{axis_label(str(row['metric']))}: {row['verdict']}" for row in told.to_dict("records")]
    return found


def _judged_by(row: Mapping[Any, Any]) -> str:
    """Return the values that a best configuration was judged by, beside what they are held against."""
    if isinstance(row.get("targets"), str):
        targets = [parse(text) for text in row["targets"].split(", ")]
        return ", ".join(f"{target.metric} {short_number(target.value(row))}" for target in targets) + (
            f"; targets {row['targets']}"
        )
    names = {"request_sla_violation_pct": "requests late", "token_sla_violation_pct": "tokens"}
    late = {what: float(row.get(key, math.nan)) for key, what in names.items()}
    known = [f"{short_number(value)} % of {what}" for what, value in late.items() if not math.isnan(value)]
    return f"{', '.join(known)}, target {short_number(float(row.get('target_pct', math.nan)))} %"


def draw_pictures(study: StoredStudy) -> tuple[list[Picture], list[tuple[str, str]]]:
    """Return every figure of the study as a picture, and those that could not be drawn with the reason."""
    pictures, failed = [], []
    for spec in study.drawable():
        try:
            figure = spec(study.frame(spec))
        except UserError as error:
            failed.append((spec.title, str(error)))
            continue
        pictures.append(picture_of(figure, spec.name, spec.title, spec.caption))
    return pictures, failed


def warnings_of(frame: pd.DataFrame) -> list[Caution]:
    """Return each warning once, with how many runs it holds for; those that differ in numbers alone count as one."""
    if "warnings" not in frame.columns:
        return []
    runs = frame.drop_duplicates("run") if "run" in frame.columns else frame  # a run has a row for each seed
    sentences = [filter(None, str(text).split("\n")) for text in runs["warnings"].dropna()]
    ordered = sorted(said_once(sentences), key=lambda pair: -pair[1])
    return [Caution(sentence, count) for sentence, count in ordered]


def varied(study: StoredStudy) -> list[tuple[str, str]]:
    """Return the swept keys with their values."""
    frame = study.results
    keys = [key for key in study.info.get("swept", swept(frame)) if key in frame.columns]
    if "seed" in frame.columns and frame["seed"].nunique() > 1 and "seed" not in keys:
        keys.append("seed")
    return [(key, ", ".join(cell(value) for (value,), _ in settings(frame, [key]))) for key in keys]


def provenance(study: StoredStudy, first: str) -> list[tuple[str, str]]:
    """Return where the numbers come from: code, machine, traces, law, times."""
    path = study.run_folder(first) / "provenance.json"
    known = study.unless_damaged(lambda: read_json(path)) or {}
    info, frame = study.info, study.results
    git = _group(info, "git") or _group(known, "git")
    pairs = [
        ("mbexp", f"{known.get('mbexp_version', '?')}, results version {known.get('results_version', '?')}"),
        (
            "Commit",
            f"{git.get('commit')}{' with local changes' if git.get('modified') else ''}"
            if git
            else "installed package",
        ),
        ("Python", f"{known.get('python', '?')} on {known.get('platform', '?')}"),
        ("Packages", ", ".join(f"{name} {version}" for name, version in _group(known, "dependencies").items())),
        ("Latency law", f"{known.get('law', '?')}: {known.get('law_provenance', '?')}"),
        ("Requests", str(known.get("trace_source", "?"))),
        ("Rows dropped", _counts(_group(known, "trace_dropped"))),
        ("Rows changed", _counts(_group(known, "trace_changed"))),
        ("Finished", str(info.get("finished") or known.get("finished", "?"))),
    ]
    if "trace_sha256" in frame:
        hashes = list(dict.fromkeys(frame["trace_sha256"]))
        more = f" and {len(hashes) - 1} more (results.csv)" if len(hashes) > 1 else ""
        pairs.insert(6, ("Hash of the requests", f"sha256 {hashes[0]}{more}"))
    elif known.get("trace_sha256"):
        pairs.insert(6, ("Hash of the requests", f"sha256 {known['trace_sha256']}"))
    if info.get("wall_time_s"):
        made = f"{info.get('made', '?')} runs made, {info.get('stored_before', 0)} stored before"
        pairs.append(("Wall time", f"{info['wall_time_s']:.1f} s, {info.get('workers', '?')} workers; {made}"))
    return pairs


def command_of(study: StoredStudy, first: str) -> str:
    """Return the command that makes the results again."""
    command = study.info.get("command")
    path = study.run_folder(first) / "provenance.json"
    if not command and study.is_single_run and path.is_file():
        command = (study.unless_damaged(lambda: read_json(path)) or {}).get("command")
    if isinstance(command, list):
        return shlex.join(str(word) for word in command)
    return str(command or f"python -m mbexp -cn {study.name}")


def _group(values: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a group of values of stored data, which may have anything in its place."""
    group = values.get(key)
    return group if isinstance(group, dict) else {}


def _counts(values: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in values.items() if count) or "none"
