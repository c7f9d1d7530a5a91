"""Who makes the runs of a sweep: the Hydra launcher that the configuration names, and how it divides the work."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any

from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, read_write

from mbexp.sweep.making import Crew
from mbexp.sweep.points import Point
from mbexp.sweep.worker import Job, Outcome

LOCAL = "local"  # conf/hydra/launcher/local.yaml, the default: it may be told that a sweep is too small for it


def crew_of(config: DictConfig, context: HydraContext, point: Point) -> Crew:
    """Return who makes the runs under the launcher that `config` names.

    Parameters
    ----------
    point
        Any point of the sweep: jobs are composed with its overrides.
    """

    def launch(job: Job, jobs: int, apart: bool = False) -> Sequence[Outcome]:
        settings = config
        if apart and joblib and workers == 1:  # joblib makes the jobs of one worker in this process
            settings = copy.deepcopy(config)
            with read_write(settings.hydra.launcher):
                settings.hydra.launcher.n_jobs = 2
        launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=job, config=settings)
        returned = launcher.launch([list(point.overrides)] * jobs, initial_job_idx=0)
        return [outcome for each in returned for outcome in each.return_value]

    target = str(config.hydra.launcher.get("_target_"))
    chosen = config.hydra.runtime.choices.get("hydra/launcher")
    joblib = target.endswith("JoblibLauncher")
    workers = workers_of(target, config.hydra.launcher)
    has_processes = not target.endswith("BasicLauncher")
    return Crew(launch, workers, point.config.study.runs_per_job, chosen == LOCAL, has_processes)


def workers_of(target: str, settings: Any) -> int:
    """Return how many jobs a launcher runs side by side on this machine; 0 for one that sends them elsewhere."""
    if target.endswith("BasicLauncher"):
        return 1
    if target.endswith("JoblibLauncher"):
        jobs = int(settings.n_jobs)
        return jobs if jobs > 0 else max(1, cores() + 1 + jobs)
    if "submitit" in target and target.endswith("LocalLauncher"):
        return cores()  # it would start every job at once
    return 0


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
