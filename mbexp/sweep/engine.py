"""Makes the runs of a plan that are not stored yet, and survives what goes wrong on the way."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mbexp.compiled.cache import cache_folder, is_compiled
from mbexp.errors import UserError
from mbexp.modes import find_mode
from mbexp.sweep.claims import abandoned, claim
from mbexp.sweep.plan import CLAIMS, FAILED, WORK, Plan, Run, stored, written_plan
from mbexp.sweep.progress import Progress
from mbexp.sweep.worker import Job, Outcome, has_failed, make_runs, write_failure

Launch = Callable[[Job, int], Sequence[Outcome]]

DIED = "the process that made it died (killed, or out of memory)"
# Rough costs on one core, to tell when worker processes are worth starting, and how much of a sweep is left.
WORKERS_START_S = 3.0
RUN_S = 0.012
REQUEST_S = 5e-8
STORED_REQUEST_S = 2.5e-7  # more, where requests.parquet is written
TRACE_S = 0.2


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
    """

    made: int = 0
    made_elsewhere: int = 0
    stored_before: int = 0
    failed: list[Outcome] = field(default_factory=list)
    missing: int = 0
    interrupted: bool = False
    workers: int = 1


@dataclass(frozen=True)
class Crew:
    """Who makes the runs.

    Attributes
    ----------
    launch : callable
        Starts the jobs of a `Job` through a Hydra launcher and returns how their runs ended when all have.
    workers : int
        Jobs that run side by side here; 0 where the launcher sends jobs elsewhere.
    runs_per_job : int
        Size of a job that is sent elsewhere.
    may_stay : bool
        Whether a small sweep may be made in this process instead.
    """

    launch: Launch
    workers: int
    runs_per_job: int = 1
    may_stay: bool = False


def execute(plan: Plan, crew: Crew) -> Ending:
    """Make every run of `plan` that is not stored."""
    sweep_up(plan.folder)
    with written_plan(plan) as plan_file:
        ending = _execute(plan, plan_file, crew)
    sweep_up(plan.folder)
    return ending


def _execute(plan: Plan, plan_file: Path, crew: Crew) -> Ending:
    since = plan_file.stat().st_mtime_ns
    newer_than = since if plan.force else None
    places = [place for place, run in enumerate(plan.runs) if not stored(plan.folder, run.key, newer_than)]
    ending = Ending(stored_before=len(plan.runs) - len(places))
    weights = {plan.runs[place].key: expected_s(plan.runs[place]) for place in places}
    outcomes: list[Outcome] = []
    whole = True  # whether `outcomes` tells of every run that was made here
    try:
        if places:
            compile_first({plan.runs[place].values["execution"]["name"] for place in places})
            with terminated_is_interrupted(), Progress(plan.folder, weights, newer_than, since):
                ending.workers, whole = _make(plan, plan_file, places, crew, outcomes)
    except KeyboardInterrupt:
        ending.interrupted = True
        _wait_for_workers(plan)
        whole = False
    told = {outcome.key: outcome.reason for outcome in outcomes}
    for place in places:
        key = plan.runs[place].key
        log = plan.folder / FAILED / f"{key}.log"
        if stored(plan.folder, key, newer_than):
            ending.made += 1
        elif has_failed(plan.folder, key, plan_file):
            ending.failed.append(Outcome(key, log.read_text(encoding="utf-8").split("\n")[0], str(log)))
        elif told.get(key):
            ending.failed.append(Outcome(key, told[key]))
        else:
            ending.missing += 1
    if whole:
        ending.made_elsewhere = ending.made - sum(not reason for reason in told.values())
        ending.made -= ending.made_elsewhere
    return ending


def compile_first(executions: Iterable[str]) -> None:
    """Compile the event loops here where that has not been done yet, rather than in every worker at once."""
    for execution in sorted(executions):
        loop = find_mode(execution).LOOP
        if cache_folder() is not None and not is_compiled(loop):
            from mbexp.results.terminal import say_if_compiling

            say_if_compiling(execution, loop)
            importlib.import_module("mbexp.run")
            importlib.import_module(loop.partition(":")[0])


def sweep_up(folder: Path) -> None:
    """Remove what interrupted runs left half-written, unless someone is at work on them."""
    for path in folder.glob(".*.partial"):
        with contextlib.suppress(OSError), claim(folder / CLAIMS / path.name.split(".")[1]) as mine:
            if mine:
                shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".*.former"):  # a run that was being replaced
        with contextlib.suppress(OSError):
            run = folder / path.name.split(".")[1]
            if run.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.rename(path, run)
    abandoned(folder / CLAIMS)
    abandoned(folder / WORK, "plan-*")
    for name in (CLAIMS, WORK, FAILED):
        with contextlib.suppress(OSError):
            (folder / name).rmdir()  # only when empty


@contextlib.contextmanager
def terminated_is_interrupted() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C for the length of the block, so that workers are ended and tables are written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def expected_s(run: Run) -> float:
    """Return roughly how long a run takes on one core, its trace apart."""
    each = REQUEST_S + (0.0 if run.values["output"]["requests"] is False else STORED_REQUEST_S)
    return RUN_S * float(run.values["replications"]) + each * run.requests


def worth_workers(plan: Plan, places: Sequence[int], workers: int) -> bool:
    """Whether a sweep is long enough for worker processes to make up for the time they take to start."""
    runs = [plan.runs[place] for place in places]
    if workers < 2 or len(runs) < 2:
        return False
    traces = {(run.values["seed"], run.values["num_requests"], str(run.values["workload"])) for run in runs}
    alone_s = sum(map(expected_s, runs)) + TRACE_S * len(traces)
    return alone_s * (1 - 1 / min(workers, len(runs))) > WORKERS_START_S


def _make(plan: Plan, plan_file: Path, places: list[int], crew: Crew, outcomes: list[Outcome]) -> tuple[int, bool]:
    """Make the runs at `places`; put how they ended into `outcomes` as it is known.

    Return how many processes did it, and whether all of them lived to tell.
    """
    if crew.may_stay and not worth_workers(plan, places, crew.workers):
        outcomes += make_runs(plan, places, plan_file)
        return 1, True
    whole = True
    newer_than = plan_file.stat().st_mtime_ns if plan.force else None
    parent = os.getpid() if crew.workers else None
    jobs = min(crew.workers or math.ceil(len(places) / crew.runs_per_job), len(places))
    # Neighbours share a trace; dealt out in turn, every worker gets its part of the long ones.
    shares = [places[first::jobs] for first in range(jobs)] if crew.workers else _chunks(places, crew.runs_per_job)
    while places:
        error: Exception | None = None
        try:
            outcomes += crew.launch(Job(plan_file, shares, bool(crew.workers), parent), len(shares))
        except Exception as caught:  # a worker died, or the launcher cannot start any
            error, whole = caught, False
        suspects = set(abandoned(plan.folder / CLAIMS)) if error else set()
        before = len(places)
        failed = {outcome.key for outcome in outcomes if outcome.reason}
        places = [
            place
            for place in places
            if plan.runs[place].key not in failed
            and not stored(plan.folder, plan.runs[place].key, newer_than)
            and not has_failed(plan.folder, plan.runs[place].key, plan_file)
        ]
        if error is None:
            break
        alone = [place for place in places if plan.runs[place].key in suspects]
        if not alone and len(places) == before:
            raise UserError(f"hydra/launcher: {type(error).__name__}: {error}") from error
        for place in alone:  # one by one, to tell which of them it was
            try:
                outcomes += crew.launch(Job(plan_file, [[place]], False, parent), 1)
            except Exception:
                run = plan.runs[place]
                log = plan.folder / FAILED / f"{run.key}.log"
                outcomes.append(Outcome(run.key, DIED, str(log) if write_failure(log, run, DIED) else ""))
                abandoned(plan.folder / CLAIMS)
        places = [place for place in places if place not in alone]
        shares = [part for part in (places[first::jobs] for first in range(jobs)) if part]
    return jobs, whole


def _wait_for_workers(plan: Plan) -> None:
    """Wait a little for workers that were told to end, so that what they leave can be removed."""
    until = time.monotonic() + 3.0
    while time.monotonic() < until and any((plan.folder / CLAIMS / run.key).exists() for run in plan.runs):
        abandoned(plan.folder / CLAIMS)
        time.sleep(0.05)


def _chunks(places: list[int], size: int) -> list[list[int]]:
    return [places[first : first + size] for first in range(0, len(places), size)]
