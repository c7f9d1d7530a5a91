"""Probes: runs of a study, stored under their keys, made on all cores, and found again by the next question."""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from mbexp.config.keys import Config
from mbexp.errors import UserError
from mbexp.results.stored import read_run
from mbexp.sweep.crew import cores
from mbexp.sweep.engine import execute
from mbexp.sweep.inputs import SharedInputs
from mbexp.sweep.making import Crew
from mbexp.sweep.plan import make_plan, read_plan
from mbexp.sweep.points import Point
from mbexp.sweep.worker import Job, Outcome, end_with, make_runs

_INPUTS = SharedInputs()  # of a worker, which serves one probe after the other


def _serve(job: Job, number: int) -> list[Outcome]:
    return make_runs(read_plan(job.plan_file), job.shares[number], job.plan_file, _INPUTS)


class Workers:
    """A pool of processes, started when the first runs are worth it, kept until the block ends."""

    def __init__(self, count: int | None = None) -> None:
        self.count = count or cores()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def crew(self) -> Crew:
        """Return who makes the runs of a plan."""
        return Crew(self._launch, self.count, may_stay=True)

    def _launch(self, job: Job, jobs: int, apart: bool = False) -> Sequence[Outcome]:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.count, context, initializer=end_with, initargs=(os.getpid(),))
        try:
            futures = [self._pool.submit(_serve, job, number) for number in range(jobs)]
            return [outcome for future in futures for outcome in future.result()]
        except BaseException:  # a worker died: the next runs get new ones
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
            raise


class Prober:
    """Makes the runs of probes in one study's folder and reads their summaries.

    Parameters
    ----------
    folder, workers, command
        Of the study.
    overrides
        What makes the configuration, in Hydra's syntax.
    chosen : Point, optional
        The choice that is asked about; its swept keys and groups stand in the table of results.

    Attributes
    ----------
    made : dict of str to Point
        Every run that was asked for, by its key.
    """

    def __init__(
        self,
        folder: Path,
        workers: Workers,
        overrides: Sequence[str],
        command: list[str],
        chosen: Point | None = None,
    ) -> None:
        self.folder, self.workers, self.command = folder, workers, command
        self.overrides = tuple(overrides)
        self.chosen = chosen
        self.made: dict[str, Point] = {}

    @property
    def keys(self) -> list[str]:
        """The keys of every run that was asked for."""
        return list(self.made)

    def summaries(self, config: Config, changed: dict[str, Any], places: Sequence[int]) -> list[dict[str, Any]]:
        """Return the summary of each replication; those that are stored are not made again.

        Parameters
        ----------
        config
            Of the probe.
        changed
            What tells it from the configuration that was asked about.
        places
            Seeds, or windows of a trace.
        """
        return self.run([self._point(config, changed, place) for place in places], changed)

    def alone(self, probes: Sequence[tuple[Config, dict[str, Any]]]) -> list[dict[str, Any]]:
        """Return the summary of one run of each configuration, all made together; pairs as for `summaries`."""
        return self.run([self._point(config, changed, config.seed) for config, changed in probes], {})

    def _point(self, config: Config, changed: dict[str, Any], place: int) -> Point:
        output = dataclasses.replace(config.output, batches=False, requests=False)
        swept = {**changed, "seed": place}
        words = (
            *self.overrides,
            *(f"{key}={'null' if value is None else repr(value)}" for key, value in swept.items()),
        )
        one = dataclasses.replace(config, seed=place, replications=1, output=output, force=False)
        groups, of_choice = (self.chosen.choices, self.chosen.swept) if self.chosen else ({}, {})
        return Point(words, {**of_choice, **swept}, groups, one)

    def run(self, points: Sequence[Point], changed: dict[str, Any]) -> list[dict[str, Any]]:
        """Make the runs that are not stored and return the summary of each; `changed` names them where one fails."""
        plan = make_plan(points, self.folder, False, self.command)
        ending = execute(plan, self.workers.crew())
        if ending.interrupted:
            raise KeyboardInterrupt
        if ending.failed or ending.missing:
            reason = ending.failed[0].reason if ending.failed else ending.trouble or "a run is missing"
            where = f" ({' '.join(f'{key}={value}' for key, value in changed.items())})" if changed else ""
            # A mistake that the first runs meet is one of the question.
            raise UserError(f"a probe failed{where}: {reason}" if self.made else reason)
        for key, point in zip(plan.key_of, points, strict=True):
            self.made.setdefault(key, point)
        stored = [read_run(self.folder / key)[0] for key in plan.key_of]
        return [{key: math.nan if value is None else value for key, value in one.items()} for one in stored]
