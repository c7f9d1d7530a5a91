"""The Hydra sweeper: Hydra's syntax and launchers, one composition for each choice of groups, runs that resume."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf, read_write

from mbexp.errors import UserError
from mbexp.results.store import replace_file
from mbexp.sweep.best import PLANNED, Row, compared_keys, load_keys, targets_of
from mbexp.sweep.points import Assignments, Point, compose_points, expand, key_of

# Hydra 1.3 makes plug-ins of this namespace only: there the class goes by an entry of Hydra's list that is no module.
IN_NAMESPACE = "hydra_plugins.mbexp.StudySweeper"
BY_NAME = "mbexp.sweep.sweeper.StudySweeper"
TARGET = IN_NAMESPACE if hasattr(Plugins, "is_in_toplevel_plugins_module") else BY_NAME
LONGEST_NAME = 100  # of a sweep that is named after its keys


@dataclass
class StudySweeperConf:
    """What ``hydra.sweeper`` takes.

    Attributes
    ----------
    params : dict
        Keys that are swept unless the command line says otherwise, with values in Hydra's syntax.
    points : list of dict
        Sets of keys that belong together, each combined with every point of `params`.
    best_of : str
        A study that is completed first; for the best configuration of each of its loads `at_best` adds points.
    at_best : list of dict
        Sets of keys, set on top of such a load with its number of GPUs and bins.
    """

    _target_: str = TARGET
    params: dict[str, Any] | None = None
    points: list[Any] | None = None
    best_of: str | None = None
    at_best: list[Any] | None = None


def register() -> None:
    """Make the sweeper known to Hydra as ``hydra/sweeper=study``."""
    plugins = Plugins.instance()
    plugins.register(StudySweeper)
    plugins.class_name_to_class[TARGET] = StudySweeper
    ConfigStore.instance().store(group="hydra/sweeper", name="study", node=StudySweeperConf, provider="mbexp")


class StudySweeper(Sweeper):
    """Sweeps over values and groups; see `StudySweeperConf` for the parameters."""

    hydra_context: HydraContext
    config: DictConfig

    def __init__(
        self,
        params: Mapping[str, Any] | None = None,
        points: Sequence[Mapping[str, Any]] | None = None,
        best_of: str | None = None,
        at_best: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        self.params = params or {}
        self.points = points or []
        self.best_of = best_of
        self.at_best = at_best or []
        self.swept: list[str] = []
        self.compared: list[str] = []  # swept keys that a best configuration is chosen among, beside GPUs and bins
        self.command: list[str] | None = None  # that makes this study alone, where another study's command runs it

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives; the launcher is made when the folder is known."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def sweep(self, arguments: list[str]) -> Any:
        """Make the sweep that the overrides of a command line ask for; return its best configurations, if asked for."""
        from mbexp.results.store import command_line
        from mbexp.sweep.crew import crew_of
        from mbexp.sweep.ending import Asked, finish
        from mbexp.sweep.engine import execute
        from mbexp.sweep.plan import make_plan
        from mbexp.sweep.sides import metrics_of, sides_key

        began = time.perf_counter()
        config_name = str(self.config.hydra.job.config_name)
        swept, assignments = self._assignments(arguments)
        self.swept = swept
        points = compose_points(assignments, swept, self.config, self.hydra_context.config_loader)
        name = study_name(points, swept, config_name)
        folder = Path(points[0].config.output.dir) / name
        if len({point.config.output.dir for point in points}) > 1:
            raise UserError("output.dir: a sweep has one folder; it cannot be swept")
        with read_write(self.config.hydra.sweep):
            self.config.hydra.sweep.dir = str(folder)
        study = points[0].config.study
        given = [point.swept for point in points]
        sides_key(swept, study.compare, given)  # a wrong name costs no run
        self.compared = compared_keys(swept, study.compare, given)
        metrics_of(study.metrics)
        targets_of(points)
        plan = make_plan(points, folder, points[0].config.force, self.command or command_line())
        twice = len(points) - len(plan.runs)
        print(
            f"{name}: {len(plan.runs)} runs" + (f" ({twice} of {len(points)} points repeat another)" if twice else "")
        )
        save_config(self.config, folder)
        ending = execute(plan, crew_of(self.config, self.hydra_context, points[0]))
        return finish(Asked(name, config_name, swept, points), plan, ending, time.perf_counter() - began)

    def _assignments(self, arguments: list[str]) -> tuple[list[str], list[Assignments]]:
        """Return the swept keys and the override of every key at every point."""
        loader = self.hydra_context.config_loader
        if self.best_of is None:
            return expand(arguments, self.params, self.points, loader)
        parser = OverridesParser.create(config_loader=loader)
        given = {key_of(override): str(override.input_line) for override in parser.parse_overrides(arguments)}
        # Numbers of GPUs and bins on the command line are those to choose from.
        compared = [line for key, line in given.items() if key not in PLANNED]
        swept, assignments = expand(compared, self.params, self.points, loader)
        sets = [*self.points, *self.at_best]
        own = {key for keys in sets for key in keys if key not in PLANNED} | {"study.name"}
        best, loads, compared = self._complete_first([line for key, line in given.items() if key not in own])
        for row in best:
            chosen = {key: row[key] for key in (*loads, *compared, "num_gpus", "k_bins")}
            rest = [line for key, line in given.items() if key not in chosen]
            assignments += expand(rest, {}, [chosen | dict(keys) for keys in self.at_best], loader)[1]
        places = {key: list(dict.fromkeys(each.get(key) for each in assignments)) for key in loads}
        assignments.sort(key=lambda each: [places[key].index(each.get(key)) for key in loads])
        return list(dict.fromkeys([*swept, *(key for keys in sets for key in keys), "num_gpus", "k_bins"])), assignments

    def _complete_first(self, arguments: list[str]) -> tuple[list[Row], list[str], list[str]]:
        """Complete the study `best_of` (what is stored stays); return its best configurations, loads and choices."""
        loader = self.hydra_context.config_loader
        overrides = [str(line) for line in self.config.hydra.overrides.hydra]
        config = loader.load_configuration(self.best_of, [*overrides, *arguments], RunMode.MULTIRUN)
        settings: Any = OmegaConf.to_container(config.hydra.sweeper)
        settings.pop("_target_")
        first = StudySweeper(**settings)
        first.setup(hydra_context=self.hydra_context, task_function=self.task_function, config=config)
        first.command = ["python", "-m", "mbexp", "-cn", str(self.best_of), *overrides, *arguments]
        best = first.sweep(arguments)
        if not best:
            raise UserError(f"hydra.sweeper.best_of={self.best_of}: that study has no best configurations")
        return best, load_keys(first.swept, first.compared), first.compared


def study_name(points: Sequence[Point], swept: Sequence[str], config_name: str) -> str:
    """Return the name of a sweep and of its folder."""
    names = {point.config.study.name for point in points}
    name = names.pop() if len(names) == 1 else config_name
    if name is None:
        name = "_".join(["sweep", *swept]) if swept else "sweep"
        if len(name) > LONGEST_NAME:
            name = f"{name[:LONGEST_NAME]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    if Path(name).name != name or name.startswith("."):
        raise UserError(f"study.name={name}: must be the name of a folder, without a path")
    return name


def save_config(config: DictConfig, folder: Path) -> None:
    """Save the composed configuration of a sweep as Hydra does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / "multirun.yaml", lambda aside: OmegaConf.save(config, aside))
    except OSError as error:
        raise UserError(f"output.dir={folder.parent}: cannot write there ({error.strerror or error})") from error
