"""Has a crew make runs, in this process or in workers, and goes on when workers die."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mbexp.config.schema import dotted_paths
from mbexp.errors import UserError
from mbexp.sweep.claims import abandoned
from mbexp.sweep.plan import CLAIMS, FAILED, Plan, Run, stored, token_of
from mbexp.sweep.worker import WATCHED, Job, Outcome, has_failed, make_runs, ran_out, write_failure

Launch = Callable[[Job, int, bool], Sequence[Outcome]]

DIED = "the process that made it died (killed, or out of memory)"
# Rough costs on one core, to tell when worker processes are worth starting, and how much of a sweep is left.
WORKERS_START_S = 3.0
RUN_S = 0.012
REQUEST_S = 5e-8
STORED_REQUEST_S = 2.5e-7  # more, where requests.parquet is written
TRACE_S = 0.2


@dataclass(frozen=True)
class Crew:
    """Who makes the runs.

    Attributes
    ----------
    launch : callable
        Starts the jobs of a `Job` through a Hydra launcher and returns how their runs ended when all have. The last
        argument asks for processes of their own where the launcher has a choice.
    workers : int
        Jobs that run side by side here; 0 where the launcher sends jobs elsewhere.
    runs_per_job : int
        Size of a job that is sent elsewhere.
    may_stay : bool
        Whether a small sweep may be made in this process instead.
    has_processes : bool
        Whether jobs can have processes of their own.
    """

    launch: Launch
    workers: int
    runs_per_job: int = 1
    may_stay: bool = False
    has_processes: bool = True


@dataclass
class Made:
    """What came of making runs.

    Attributes
    ----------
    outcomes : list of Outcome
        Filled as it is known.
    workers : int
        Processes that did it.
    whole : bool
        Whether `outcomes` tells of every run that was made here.
    trouble : str
        Why it was given up, in one line.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    workers: int = 1
    whole: bool = True
    trouble: str = ""


def make(plan: Plan, plan_file: Path, places: list[int], crew: Crew, suspects: set[str], made: Made) -> None:
    """Make the runs at `places` and put into `made` how that went, as it is known.

    Parameters
    ----------
    suspects
        Keys of runs whose process died before. They come last, one by one, each in a process of its own.
    """
    token = token_of(plan_file)
    last = [place for place in places if plan.runs[place].key in suspects]
    places = [place for place in places if place not in last]
    limited = any(plan.runs[place].values["study"]["timeout_s"] is not None for place in [*places, *last])
    if limited and not crew.has_processes:
        raise UserError("study.timeout_s: hydra/launcher=basic has no process that could be ended; leave one out")
    if crew.may_stay and not limited and not worth_workers(plan, places, crew.workers):
        # Rules of the user's own come last: one that crashes takes this process with it, and is known the next time.
        own_last = sorted(places, key=lambda place: bool(dotted_paths(plan.runs[place].config)))
        made.outcomes += make_runs(plan, own_last, plan_file)
    elif places:
        last += _in_workers(plan, plan_file, places, crew, made, limited)
    if made.trouble or {*_left(plan, places, token, made)} - {*last}:  # cut short: no room, or nobody to make them
        return
    for place in _left(plan, last, token, made):
        _alone(plan, plan_file, place, crew, made)


def _in_workers(plan: Plan, plan_file: Path, places: list[int], crew: Crew, made: Made, limited: bool) -> list[int]:
    """Make runs through the launcher; return those that were under way when a worker died."""
    token, suspects, starts = token_of(plan_file), list[int](), 0
    made.workers = jobs = min(crew.workers or math.ceil(len(places) / crew.runs_per_job), len(places))
    # Neighbours share a trace; dealt out in turn, every worker gets its part of the long ones.
    shares = [places[first::jobs] for first in range(jobs)] if crew.workers else _chunks(places, crew.runs_per_job)
    while places:
        starts += 1
        try:
            made.outcomes += crew.launch(_job(plan_file, shares, crew), len(shares), limited)
            return suspects
        except Exception as caught:  # a worker died, or the launcher cannot start any
            died, made.whole = caught, False
        claimed = set(abandoned(plan.folder / CLAIMS))
        note_timeouts(plan)
        before, places = len(places), _left(plan, places, token, made)
        suspects += [place for place in places if plan.runs[place].key in claimed]
        places = [place for place in places if place not in suspects]
        if not claimed and len(places) == before:  # nobody came so far as to begin
            if not isinstance(died, BrokenExecutor):
                made.trouble = f"hydra/launcher: {type(died).__name__}: {' '.join(str(died).split())}"
                return suspects
            if starts > 1 and not limited:
                print("worker processes end before they begin (killed?); the runs are made in this process", flush=True)
                made.outcomes += make_runs(plan, places, plan_file)
                return suspects
            if starts > 1:
                made.trouble = "hydra/launcher: worker processes end before they begin (killed, or out of memory)"
                return suspects
        shares = [part for part in (places[first::jobs] for first in range(jobs)) if part]
    return suspects


def _alone(plan: Plan, plan_file: Path, place: int, crew: Crew, made: Made) -> None:
    """Make one run in a process of its own; where that dies, the run has failed."""
    run, token = plan.runs[place], token_of(plan_file)
    try:
        made.outcomes += crew.launch(_job(plan_file, [[place]], crew, help_others=False), 1, True)
    except Exception:
        made.whole = False
        abandoned(plan.folder / CLAIMS)
        note_timeouts(plan)
        if _left(plan, [place], token, made):
            log = plan.folder / FAILED / f"{run.key}.log"
            made.outcomes.append(Outcome(run.key, DIED, str(log) if write_failure(log, run, token, DIED) else ""))


def note_timeouts(plan: Plan) -> None:
    """Make failures of the runs whose processes were ended because they took too long."""
    for watched in (plan.folder / FAILED).glob(f"*{WATCHED}"):
        with contextlib.suppress(OSError):
            if ran_out(watched):
                os.replace(watched, watched.with_suffix(".log"))


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


def _left(plan: Plan, places: Sequence[int], token: str, made: Made) -> list[int]:
    """Return the places of runs that are neither made nor failed."""
    told = {outcome.key for outcome in made.outcomes}
    return [
        place
        for place in places
        if (key := plan.runs[place].key) not in told
        and not stored(plan.folder, key, token if plan.force else None)
        and not has_failed(plan.folder, key, token)
    ]


def _job(plan_file: Path, shares: list[list[int]], crew: Crew, help_others: bool = True) -> Job:
    return Job(plan_file, shares, bool(crew.workers) and help_others, os.getpid() if crew.workers else None)


def _chunks(places: list[int], size: int) -> list[list[int]]:
    return [places[first : first + size] for first in range(0, len(places), size)]
