"""Sweeps and comparisons from Python: the same runs, folders, tables and verdicts as on the command line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import math
import time
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mbexp.config.compose import chosen_groups, configure
from mbexp.config.keys import Config
from mbexp.errors import UserError
from mbexp.sweep.making import Crew
from mbexp.sweep.points import MOST_POINTS, Point, know_own_metrics, override_value
from mbexp.sweep.table import read_results
from mbexp.sweep.worker import Job, Outcome

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Study:
    """A stored sweep.

    Attributes
    ----------
    folder : Path
        The folder that holds the runs and the tables.
    swept : tuple of str
        The keys that were swept.
    text : str
        The text that the command line prints for this sweep.
    """

    folder: Path
    swept: tuple[str, ...]
    text: str

    def __repr__(self) -> str:
        return f"Study of {', '.join(self.swept) or 'one run'} in {self.folder}\n{self.text}".rstrip()

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(repr(self))}</pre>"

    @cached_property
    def results(self) -> pd.DataFrame:
        """One row a run: swept keys first, then what identifies a run, then every metric."""
        return read_results(self.folder)

    @cached_property
    def by_seed(self) -> pd.DataFrame:
        """One row a run and seed."""
        return read_results(self.folder, by_seed=True)

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """One row a paired comparison, all decided together. It has no row if nothing could be compared."""
        return self._csv("verdicts")

    @cached_property
    def best(self) -> pd.DataFrame:
        """One row a load, with the best configuration of that load. It is empty without ``study.best``."""
        return self._csv("best")

    def requests(self) -> pd.DataFrame:
        """Return the stored requests of all runs, one row each. The swept keys and the seed are the first columns.

        With ``output.every_replication``, the requests of all seeds are there.

        Raises
        ------
        UserError
            If a run has stored no requests (``output.requests=true`` stores them).
        """
        import pandas as pd

        parts = []
        for row in self.results.to_dict("records"):
            folder = self.folder / str(row["run"])
            files = sorted(folder.glob("requests*.parquet"))
            if not files:
                raise UserError(f"{folder}: holds no requests; output.requests=true stores them")
            for file in files:
                seed = int(file.stem.partition("_")[2] or row["seed"])
                part = pd.read_parquet(file)
                head = {key: row[key] for key in self.swept if key != "seed"} | {"seed": seed}
                for place, (key, value) in enumerate(head.items()):
                    part.insert(place, key, value)
                parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def _csv(self, name: str) -> pd.DataFrame:
        import pandas as pd

        path = self.folder / f"{name}.csv"
        return pd.read_csv(path) if path.is_file() else pd.DataFrame()


def sweep(jobs: int | None = None, **values: Any) -> Study:
    """Run every combination of the given values, store the runs as the command line does, and return the study.

    A run that is stored already is not made again. The folder is ``output.dir`` / ``study.name``.

    Parameters
    ----------
    jobs
        Number of worker processes. 1 runs everything in this process. None takes one for each core, if the sweep is
        long enough to be worth their start.
    **values
        As for `mbexp.configure`. A list, tuple, range or array is swept: ``num_gpus=[1, 2, 4]``,
        ``sla={"request_s": [5, 10]}``, ``**{"scheduler.parameters.slope": [1, 2]}``. If the value of a key is a list,
        a list of lists sweeps it.

    Raises
    ------
    UserError
        If any point has a mistake (before anything runs), or if a run fails.

    Examples
    --------
    >>> import mbexp
    >>> study = mbexp.sweep(scheduler=["static_fifo", "multi_bin_dynamic"], replications=5)  # doctest: +SKIP
    >>> study.results[["scheduler", "throughput_requests_per_s"]]  # doctest: +SKIP
    """
    from mbexp.sweep.best import targets_of
    from mbexp.sweep.ending import Asked, finish
    from mbexp.sweep.engine import execute
    from mbexp.sweep.plan import make_plan
    from mbexp.sweep.sweeper import study_name

    began = time.perf_counter()
    choices = {key: _choices(key, value) for key, value in _flat(values).items()}
    swept = [key for key, many in choices.items() if many.swept]
    points = _points(choices, swept)
    name = study_name(points, swept, "sweep")
    folder = Path(points[0].config.output.dir) / name
    if "output.dir" in swept:
        raise UserError("output.dir: a sweep has one folder; it cannot be swept")
    targets_of(points)  # a wrong one costs no run
    plan = make_plan(points, folder, points[0].config.force, _command(choices, bool(swept)))
    folder.mkdir(parents=True, exist_ok=True)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        ending = execute(plan, _crew(jobs))
        finish(Asked(name, "sweep", swept, points), plan, ending, time.perf_counter() - began)
    return Study(folder, tuple(swept), said.getvalue())


def compare(seeds: int = 5, jobs: int | None = None, **values: Any) -> pd.DataFrame:
    """Compare settings seed by seed on the same requests, and return the verdicts, corrected for their number.

    Parameters
    ----------
    seeds
        Number of seeds, at least 2 (``replications`` on the command line).
    jobs, **values
        As for `sweep`. At least one key has several values. ``**{"study.metrics": [...]}`` chooses the metrics.

    Returns
    -------
    DataFrame
        The rows of verdicts.csv. A row is one metric of one pair: a sentence, the winner, the difference and its
        interval.

    Examples
    --------
    >>> import mbexp
    >>> mbexp.compare(scheduler=["static_fifo", "multi_bin_dynamic"])["verdict"]  # doctest: +SKIP
    """
    if "replications" in values:
        raise UserError(f"replications={values['replications']}: seeds says how many; give one of them")
    if seeds < 2:
        raise UserError(f"seeds={seeds}: a comparison needs at least 2")
    study = sweep(jobs, replications=seeds, **values)
    if not study.swept:
        raise UserError("compare: nothing to compare; give a key several values, such as num_gpus=[2, 4]")
    return study.verdicts


class _Many(typing.NamedTuple):
    """The values of a key, and whether it is swept."""

    values: list[Any]
    swept: bool


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return dotted keys: dicts of groups and of parameters become keys of their own."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        dotted = prefix + key
        if isinstance(value, Mapping) and dotted != "workload.where":
            found |= _flat(value, f"{dotted}.")
        else:
            found[dotted] = value
    return found


def _choices(key: str, value: Any) -> _Many:
    several = isinstance(value, (list, tuple, range, np.ndarray))
    if several and _takes_list(key):
        several = len(value) > 0 and all(isinstance(each, (list, tuple, np.ndarray)) for each in value)
        if key == "predictor.matrix" and np.ndim(value) < 3:
            several = False
    many = [_plain(each) for each in value] if several else [_plain(value)]
    if not many:
        raise UserError(f"{key}=[]: nothing to sweep over")
    return _Many(many, several)


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    return list(value) if isinstance(value, (tuple, range)) else value


def _takes_list(key: str) -> bool:
    """Whether the values of a key are lists."""
    hint: Any = Config
    for name in key.split("."):
        if not dataclasses.is_dataclass(hint):
            return False
        hint = typing.get_type_hints(hint).get(name)
    options = [hint, *typing.get_args(hint)]
    return any(typing.get_origin(option) in (list, tuple) for option in options)


def _points(choices: Mapping[str, _Many], swept: Sequence[str]) -> list[Point]:
    if math.prod(len(many.values) for many in choices.values()) > MOST_POINTS:
        raise UserError(f"{', '.join(swept)}: a sweep has at most {MOST_POINTS:,} points; split it")
    points = []
    for values in itertools.product(*(many.values for many in choices.values())):
        given = dict(zip(choices, values, strict=True))
        shown = {key: override_value(each) if isinstance(each, (list, dict)) else each for key, each in given.items()}
        points.append(
            Point(
                overrides=tuple(f"{key}={override_value(value)}" for key, value in given.items()),
                swept={key: shown[key] for key in swept},
                choices=chosen_groups(given),
                config=configure(**given),
            )
        )
    know_own_metrics(points)
    return points


def _command(choices: Mapping[str, _Many], swept: bool) -> list[str]:
    """Return the command that makes the same runs."""
    words = [f"{key}={','.join(map(override_value, many.values))}" for key, many in choices.items()]
    return ["python", "-m", "mbexp", *(["-m"] if swept else []), *words]


def _crew(jobs: int | None) -> Crew:
    from mbexp.sweep.crew import cores

    workers = cores() if jobs is None or jobs == -1 else jobs
    if workers < 1:
        raise UserError(f"jobs={jobs}: must be a whole number of workers, or -1 for one on each core")

    def launch(job: Job, count: int, apart: bool = False) -> list[Outcome]:
        import joblib

        # joblib makes the jobs of one worker in this process
        made = joblib.Parallel(n_jobs=max(workers, 2) if apart else workers)(
            joblib.delayed(job.make_share)(number) for number in range(count)
        )
        return [outcome for share in made for outcome in share]

    return Crew(launch, workers, may_stay=True)
