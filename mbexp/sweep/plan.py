"""From points to runs: each run's key, which of them are stored already, and a file that tells workers what to do."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mbexp.config.keys import Config, load_config
from mbexp.config.schema import dotted_paths, is_group
from mbexp.errors import UserError
from mbexp.results.stored import Damaged, read_run
from mbexp.sweep.claims import claim
from mbexp.sweep.inputs import trace_hash, trace_request
from mbexp.sweep.points import Point

WORK = ".work"  # what a sweep needs while it runs: its plan, and
CLAIMS = f"{WORK}/claims"
FAILED = "failed"
WHOLE_TRACE = 2_000_000


@dataclass(frozen=True)
class Run:
    """One run of a sweep.

    Attributes
    ----------
    key : str
        Name of its folder.
    overrides : tuple of str
    values : dict
        Its configuration as plain data; `config` is made of it when it is needed.
    trace_hash : str
        Of the file whose requests it is to meet (see `run_key`).
    """

    key: str
    overrides: tuple[str, ...]
    values: dict[str, Any]
    trace_hash: str

    @cached_property
    def config(self) -> Config:
        """Return the checked configuration."""
        return load_config(self.values)

    @property
    def requests(self) -> int:
        """How many requests it simulates; where it takes a whole trace, a guess on the high side."""
        return int(self.values["num_requests"] or WHOLE_TRACE) * int(self.values["replications"])


@dataclass(frozen=True)
class Plan:
    """What a sweep has to do.

    Attributes
    ----------
    folder : Path
        The sweep's.
    runs : list of Run
        Distinct runs, those that meet the same requests and bins beside one another.
    key_of : list of str
        Run of each point, in the order of the points.
    force : bool
    command : list of str
    """

    folder: Path
    runs: list[Run]
    key_of: list[str]
    force: bool
    command: list[str]


def make_plan(points: Sequence[Point], folder: Path, force: bool, command: list[str]) -> Plan:
    """Return the distinct runs of `points` in the order in which they share most."""
    from mbexp.results.store import named_files, run_key

    runs: dict[str, tuple[tuple[str, ...], Run]] = {}
    key_of = []
    hashes: dict[str, str] = {}
    named: dict[str, list[str]] = {}  # by what names files
    # Points share most of their groups: what is made of a group is made once, and kept by its id.
    texts: dict[int, tuple[Any, str]] = {}
    plain: dict[int, dict[str, Any]] = {}
    requests: dict[tuple[Any, ...], str] = {}
    paths: dict[tuple[Any, ...], str] = {}
    for point in points:
        config = point.config
        asked = (id(config.workload), id(config.predictor), config.num_requests, config.seed, config.replicate)
        if asked not in requests:
            requests[asked] = trace_request(config)
        request = requests[asked]
        if request not in hashes:
            hashes[request] = trace_hash(config)
        groups = (*(id(value) for value in vars(config).values() if is_group(value)), *config.metrics)
        if groups not in paths:
            paths[groups] = json.dumps([dotted_paths(config), config.gpu.law.path, config.gpu.law.model])
        names = paths[groups]
        if names not in named:
            named[names] = named_files(config)
        key = run_key(config, hashes[request], named[names], texts)
        key_of.append(key)
        if key not in runs:
            values = _plain(config, plain)
            bins = json.dumps([values["predictor"], values["bins"]])
            runs[key] = (request, bins), Run(key, point.overrides, values, hashes[request])
    order: dict[tuple[str, ...], int] = {}
    for shared, _ in runs.values():
        order.setdefault(shared[:1], len(order))
        order.setdefault(shared, len(order))
    # The longest first, so that no worker is left alone with one at the end.
    ordered = sorted(runs.values(), key=lambda item: (-item[1].requests, order[item[0][:1]], order[item[0]]))
    return Plan(folder, [run for _, run in ordered], key_of, force, command)


def _plain(config: Config, known: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Return a configuration as plain data; groups that it shares with others are shared there too."""
    values = dict(vars(config))
    for name, value in values.items():
        if is_group(value):
            if id(value) not in known:
                known[id(value)] = dataclasses.asdict(value)
            values[name] = known[id(value)]
    return values


@contextlib.contextmanager
def written_plan(plan: Plan) -> Iterator[Path]:
    """Give a file that workers can read `plan` from, for the length of the block; `token_of` it is the plan's alone."""
    path = plan.folder.absolute() / WORK / f"plan-{secrets.token_hex(4)}.json"
    fields = [field.name for field in dataclasses.fields(Run)]
    lines = [{name: getattr(run, name) for name in fields} for run in plan.runs]
    values = {"cwd": os.getcwd(), "force": plan.force, "command": plan.command, "key_of": plan.key_of, "runs": lines}
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(claim(path))  # so that one can tell whether the sweep it belongs to is still there
            path.write_text(json.dumps(values), encoding="utf-8")
        except OSError as error:
            where = f"output.dir={plan.folder.parent}"
            raise UserError(f"{where}: cannot write there ({error.strerror or error})") from error
        yield path


def token_of(plan_file: Path) -> str:
    """Return what marks runs and failures of a plan, so that no clock has to tell them from earlier ones."""
    return plan_file.stem


def read_plan(path: Path) -> Plan:
    """Return the plan that a file holds, and go to the folder that it was written in."""
    values = json.loads(path.read_text(encoding="utf-8"))
    if os.getcwd() != values["cwd"]:  # a worker that has served a sweep elsewhere
        os.chdir(values["cwd"])
    runs = [Run(**line | {"overrides": tuple(line["overrides"])}) for line in values["runs"]]
    return Plan(path.parent.parent, runs, values["key_of"], values["force"], values["command"])


def stored(folder: Path, key: str, by: str | None = None) -> bool:
    """Whether a run is stored, whole, and, where a plan's token is given, by that plan."""
    return (folder / key).is_dir() and not why_not_stored(folder, key, by)


def why_not_stored(folder: Path, key: str, by: str | None = None) -> str:
    """Return what is wrong with the folder of a run, or an empty string."""
    try:
        _, provenance = read_run(folder / key)
    except Damaged as error:
        return str(error)
    return "" if by is None or provenance.get("plan") == by else "made by an earlier sweep"
