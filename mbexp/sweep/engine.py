"""Makes the runs of a plan that are not stored yet, and survives what goes wrong on the way."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mbexp.compiled.cache import cache_folder, is_compiled
from mbexp.modes import find_mode
from mbexp.results.index import stored_runs
from mbexp.results.store import ASIDE
from mbexp.results.stored import DAMAGED, flat, run_folders
from mbexp.sweep.claims import abandoned, claim, locks_hold
from mbexp.sweep.making import DIED, Crew, Made, make
from mbexp.sweep.plan import CLAIMS, FAILED, WORK, Plan, stored, token_of, written_plan
from mbexp.sweep.progress import Progress
from mbexp.sweep.worker import WATCHED, Outcome, failure, is_alive

SHOWN_DAMAGED = 3
YOUNG_S = 86400.0  # where locks do not tell, what was half-written so lately may be someone's work


@dataclass
class Ending:
    """How a sweep ended.

    Attributes
    ----------
    made, made_elsewhere, stored_before : int
        Runs made now, those that another sweep made meanwhile, and those that were there.
    failed : list of Outcome
    missing : int
        Runs neither made nor failed: the sweep was cut short.
    interrupted : bool
    workers : int
        Processes that made runs; 1 where this one did.
    trouble : str
        Why runs could not be made at all, in one line.
    """

    made: int = 0
    made_elsewhere: int = 0
    stored_before: int = 0
    failed: list[Outcome] = field(default_factory=list)
    missing: int = 0
    interrupted: bool = False
    workers: int = 1
    trouble: str = ""


def execute(plan: Plan, crew: Crew) -> Ending:
    """Make every run of `plan` that is not stored."""
    suspects = sweep_up(plan.folder)
    with written_plan(plan) as plan_file:
        ending = _execute(plan, plan_file, crew, suspects)
    sweep_up(plan.folder)
    return ending


def _execute(plan: Plan, plan_file: Path, crew: Crew, suspects: set[str]) -> Ending:
    token = token_of(plan_file)
    again = token if plan.force else None
    places, damaged = missing_runs(plan)
    if damaged:
        print(damaged, flush=True)
    ending = Ending(stored_before=len(plan.runs) - len(places))
    made = Made()
    try:
        if places:
            compile_first({plan.runs[place].values["execution"]["name"] for place in places})
            with Progress(plan, places, token):
                make(plan, plan_file, places, crew, suspects, made)
    except KeyboardInterrupt:
        ending.interrupted = True
        _wait_for_workers(plan)
        made.whole = False
    ending.workers, ending.trouble = made.workers, made.trouble
    told = {outcome.key: outcome.reason for outcome in made.outcomes}
    for place in places:
        key = plan.runs[place].key
        reason = failure(plan.folder, key, token)
        if stored(plan.folder, key, again):
            ending.made += 1
        elif reason:
            ending.failed.append(Outcome(key, reason, str(plan.folder / FAILED / f"{key}.log")))
        elif told.get(key):
            ending.failed.append(Outcome(key, told[key]))
        else:
            ending.missing += 1
    if made.whole:
        ending.made_elsewhere = ending.made - sum(not reason for reason in told.values())
        ending.made -= ending.made_elsewhere
    return ending


def missing_runs(plan: Plan) -> tuple[list[int], str]:
    """Return the places of the runs to make, and a line on those that are stored but cannot be read."""
    places, damaged = [], []
    values = {run.key: run.values for run in plan.runs}
    there = dict.fromkeys(key for key in values if (plan.folder / key).is_dir())
    # All runs of the folder, not those of the plan alone: the index is kept of what is asked for.
    names = dict.fromkeys([*(path.name for path in run_folders(plan.folder)), *there])
    runs = stored_runs(plan.folder, [*names], lambda key: flat(values.get(key, {})), sure=True)
    for place, run in enumerate(plan.runs):
        if run.key not in there:
            places.append(place)
        elif reason := runs.damage(run.key):
            places.append(place)
            damaged.append(reason)
        elif plan.force:
            places.append(place)
    if not damaged:
        return places, ""
    shown = "; ".join(damaged[:SHOWN_DAMAGED]) + ("; ..." if len(damaged) > SHOWN_DAMAGED else "")
    count = (
        "1 stored run cannot be read and is"
        if len(damaged) == 1
        else f"{len(damaged)} stored runs cannot be read and are"
    )
    return places, f"{count} made again (kept in {plan.folder / DAMAGED}): {shown}"


def compile_first(executions: Iterable[str]) -> None:
    """Compile the event loops here where that has not been done yet, rather than in every worker at once."""
    for execution in sorted(executions):
        loop = find_mode(execution).LOOP
        if cache_folder() is not None and not is_compiled(loop):
            from mbexp.results.terminal import say_if_compiling

            say_if_compiling(execution, loop)
            importlib.import_module("mbexp.run")
            importlib.import_module(loop.partition(":")[0])


def sweep_up(folder: Path) -> set[str]:
    """Remove what interrupted runs left half-written, unless someone is at work on them.

    Return the keys of runs whose process died while it made them.
    """
    died = set(abandoned(folder / CLAIMS))
    with contextlib.suppress(OSError):
        logs = (folder / FAILED).glob("*.log")
        died |= {log.stem for log in logs if log.read_bytes().startswith(DIED.encode())}
    for path in [*folder.glob(".*.partial"), *folder.glob(".*.former")]:
        key = path.name.split(".")[1]
        with contextlib.suppress(OSError):
            if _is_young(path) and not locks_hold(folder / CLAIMS):
                continue
        with contextlib.suppress(OSError), claim(folder / CLAIMS / key) as mine:
            if not mine:
                continue
            if path.suffix == ".partial" or (folder / key).is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:  # a run that was being replaced
                os.rename(path, folder / key)
    for path in (folder / FAILED).glob(f"*{WATCHED}"):
        if locks_hold(folder / CLAIMS):
            with contextlib.suppress(OSError), claim(folder / CLAIMS / path.stem) as mine:
                if mine:
                    path.unlink()
    for log in (folder / FAILED).glob("*.log"):
        if stored(folder, log.stem):  # made by another sweep meanwhile
            with contextlib.suppress(OSError):
                log.unlink()
    abandoned(folder / WORK, "plan-*")
    if not list((folder / WORK).glob("plan-*")):  # nobody else is at work: what was written aside is nobody's
        for path in [*folder.glob(ASIDE), *(folder / FAILED).glob(ASIDE)]:
            with contextlib.suppress(OSError, ValueError):
                if not is_alive(int(path.suffixes[-2].removeprefix("."))):
                    path.unlink()
    for name in (CLAIMS, WORK, FAILED, DAMAGED):
        with contextlib.suppress(OSError):
            (folder / name).rmdir()  # only when empty
    return died


def _is_young(path: Path) -> bool:
    return time.time() - max(each.stat().st_mtime for each in [path, *path.iterdir()]) < YOUNG_S


def _wait_for_workers(plan: Plan) -> None:
    """Wait a little for workers that were told to end, so that what they leave can be removed."""
    until = time.monotonic() + 3.0
    keys = {run.key for run in plan.runs}
    claims = plan.folder / CLAIMS
    while time.monotonic() < until and claims.is_dir() and keys & {*os.listdir(claims)}:
        abandoned(claims)
        time.sleep(0.05)
