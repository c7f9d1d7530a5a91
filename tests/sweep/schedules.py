"""Seeded schedules of faults over the sweep engine; `python -m tests.sweep.schedules 100000` tries so many.

A schedule is a few commands on one folder. Every write of theirs is a step, at which the schedule may kill the process,
interrupt it, let the disk be full for a while, or let another command run from its beginning to its end. Between
commands files are cut short, removed and given other times. Then one command runs without faults, and must find or make
every run, as if nothing had been. A killed process writes nothing more: none of its clean-up happens.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import errno
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from mbexp import configure
from mbexp.errors import UserError
from mbexp.results import index, store
from mbexp.results.stored import DAMAGED, Damaged, read_run
from mbexp.sweep import engine, making, worker
from mbexp.sweep.making import Crew
from mbexp.sweep.plan import Plan, Run
from mbexp.sweep.worker import Job, Outcome

STEPS = ("rename", "replace", "mkdir", "unlink", "rmdir")  # of os
MOST_STEPS = 20_000  # a schedule that takes more goes round in circles
CONFIG = configure(num_requests=10, output={"batches": False, "requests": False})
VALUES = dataclasses.asdict(CONFIG)


class Killed(BaseException):
    """The process ended at once."""


class Schedule:
    """One seeded schedule on a folder of its own."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.folder = folder
        self.keys = [f"{place:012x}" for place in range(self.rng.randint(1, 5))]
        self.processes: list[SimpleNamespace] = []
        self.steps = self.nested = 0
        self.full_for = 0  # steps with a full disk to come
        self.next_fault = 0
        self.made: Counter[str] = Counter()
        self.log: list[str] = []

    def run(self) -> None:
        """Run the schedule; an AssertionError tells what it broke."""
        with self._patched():
            for _ in range(self.rng.randint(1, 3)):
                self._set_fault()
                self.command(force=self.rng.random() < 0.2)
                self._damage()
            self.next_fault = self.full_for = 0
            engine.sweep_up(self.folder)  # which gives back a run that was being replaced
            whole = self.whole()
            self.made.clear()
            ending = self.command()
        assert ending is not None, "the last command failed"
        assert (ending.failed, ending.missing, ending.trouble) == ([], 0, ""), ending
        assert self.whole() == set(self.keys), "runs are missing"
        assert set(self.made) == set(self.keys) - whole, f"made {dict(self.made)} where {whole} were there"
        assert max(self.made.values(), default=1) == 1, f"made twice: {self.made}"
        left = {path.name for path in self.folder.iterdir()} - {*self.keys, DAMAGED}
        assert not left, f"left behind: {left}"

    def command(self, force: bool = False) -> engine.Ending | None:
        """Run a sweep as a process of its own; None where it was killed or ended in a line."""
        runs = [Run(key, (f"num_gpus={key}",), VALUES, "") for key in self.keys]
        crew = Crew(self._launch, self.rng.choice([1, 2, 2, 3]), may_stay=self.rng.random() < 0.3)
        with self._process("command"):
            try:
                return engine.execute(Plan(self.folder, runs, list(self.keys), force, []), crew)
            except UserError as error:
                self.log.append(f"line: {error}")
            except (Killed, KeyboardInterrupt) as end:
                self.log.append(f"command ended: {type(end).__name__}")
        return None

    def whole(self) -> set[str]:
        """Return the runs that are stored, whole and right."""
        found = set()
        for key in self.keys:
            with contextlib.suppress(Damaged):
                assert read_run(self.folder / key)[0]["of"] == key, f"{key} holds another run"
                found.add(key)
        return found

    def _launch(self, job: Job, jobs: int, apart: bool) -> Sequence[Outcome]:
        outcomes: list[Outcome] = []
        plan = worker.read_plan(job.plan_file)
        for share in job.shares:
            with self._process("worker"):
                try:
                    outcomes += worker.make_runs(plan, share, job.plan_file)
                except Killed:
                    if self.processes[-2].dead:  # the command, and so its workers
                        raise
                    self.log.append("worker killed")
                    raise BrokenExecutor("a worker died") from None
        return outcomes

    def _make_run(self, config: Any, inputs: Any) -> tuple[Any, list[Any]]:
        self.made[config.key] += 1
        summary = {"of": config.key, "wall_time_s": self.rng.choice([0.1, 2.0])}  # the second is flushed to the disk
        trace = SimpleNamespace(sha256="", source="", dropped={}, changed={}, __len__=lambda: 10)
        law = SimpleNamespace(name="", provenance="")
        return SimpleNamespace(config=CONFIG, summary=summary, warnings=(), trace=Sized(trace), law=law), []

    @contextlib.contextmanager
    def _process(self, name: str) -> Iterator[None]:
        self.processes.append(SimpleNamespace(name=name, dead=False))
        try:
            yield
        finally:
            self.processes.pop()

    def _set_fault(self) -> None:
        self.next_fault = self.steps + self.rng.choice([1, 5, 20, 60, 120]) + self.rng.randrange(20)

    def step(self, what: str, path: Any) -> None:
        """Count a write, and let the fault that is due happen before it."""
        if not self.processes:
            return
        process = self.processes[-1]
        if process.dead:
            raise Killed
        self.steps += 1
        assert self.steps < MOST_STEPS, "it does not end"
        if self.full_for:
            self.full_for -= 1
            if what != "unlink":
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
        if self.steps != self.next_fault:
            return
        fault = self.rng.choice(["kill", "kill", "kill", "full", "interrupt", "another", "clock"])
        self.log.append(f"{fault} of {process.name} before {what} {Path(str(path)).name}")
        self._set_fault()
        if fault == "kill":
            process.dead = True
            raise Killed
        if fault == "full":
            self.full_for = self.rng.choice([1, 3, 30])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        if fault == "interrupt" and process.name == "command":
            raise KeyboardInterrupt
        if fault == "another" and len(self.processes) < 3:
            due, self.next_fault = self.next_fault, 0
            held, self.processes = self.processes, []
            self.nested += 1
            try:
                self.command()
            finally:
                self.nested -= 1
                self.processes, self.next_fault = held, due
        if fault == "clock":
            self._shift_clocks()

    def _sleep(self, _: float) -> None:
        """A command within another would wait for it for ever: it is killed."""
        if self.nested:
            for process in self.processes:
                process.dead = True
            raise Killed

    def _shift_clocks(self) -> None:
        when = self.rng.choice([0, 4_000_000_000])
        for path in self.folder.rglob("*"):
            with contextlib.suppress(OSError):
                os.utime(path, (when, when))

    def _damage(self) -> None:
        """Do to the stored files what a power cut, or a person, may do."""
        files = sorted(path for path in self.folder.rglob("*") if path.is_file() and DAMAGED not in path.parts)
        for path in self.rng.sample(files, min(len(files), self.rng.choice([0, 0, 1, 3]))):
            kind = self.rng.choice(["cut", "zeros", "gone"])
            self.log.append(f"{kind} {path.relative_to(self.folder)}")
            size = path.stat().st_size
            if kind == "cut":
                os.truncate(path, self.rng.choice([0, size // 2, max(0, size - 1)]))
            elif kind == "zeros":
                path.write_bytes(b"\0" * size)
            else:
                OS["unlink"](path)
        if self.rng.random() < 0.2:
            self._shift_clocks()

    @contextlib.contextmanager
    def _patched(self) -> Iterator[None]:
        """Have every write of the engine be a step, and nothing be simulated."""
        with contextlib.ExitStack() as stack:
            for name in STEPS:
                stack.enter_context(mock.patch.object(os, name, self._stepping(name)))
            # Every second schedule has an index of its runs, which believes what it has read however young.
            believing = {"INDEXED_FROM": 1 + 99 * (self.seed % 2), "SETTLED_S": -1e10}
            cache = self.folder.parent / "cache"
            stack.enter_context(mock.patch.multiple(index, **believing, cache_dir=lambda: cache))
            stack.enter_context(mock.patch.object(Path, "write_text", self._write_text()))
            for target, value in (
                (engine, {"compile_first": lambda _: None, "Progress": lambda *_: contextlib.nullcontext()}),
                (
                    making,
                    {"worth_workers": lambda *_: False, "dotted_paths": lambda _: {}, "print": lambda *_, **__: None},
                ),
                (engine, {"print": lambda *_, **__: None, "is_alive": lambda _: False}),
                (worker, {"make_run": self._make_run, "names_files": lambda _: False}),
                (store, {"to_yaml": lambda _: "num_gpus: 1\n", "git_state": lambda: None}),
                (time, {"sleep": self._sleep}),
                (worker, {"SharedInputs": lambda: SimpleNamespace(trace=lambda _: SimpleNamespace(file_sha256=""))}),
            ):
                stack.enter_context(mock.patch.multiple(target, create=True, **value))
            stack.enter_context(mock.patch("mbexp.results.terminal.report", return_value=["made"]))
            stack.enter_context(mock.patch.object(Run, "config", property(lambda run: SimpleNamespace(key=run.key))))
            yield

    def _stepping(self, name: str) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **named: Any) -> Any:
            self.step(name, path)
            return OS[name](path, *rest, **named)

        return call

    def _write_text(self) -> Callable[..., int]:
        def write(path: Path, text: str, encoding: str | None = None, **_: Any) -> int:
            alive = not (self.processes and self.processes[-1].dead)
            try:
                self.step("write", path)
            except BaseException:
                if alive:  # what was written so far
                    with path.open("w", encoding=encoding) as file:
                        file.write(text[: self.rng.randrange(len(text) + 1)])
                raise
            with path.open("w", encoding=encoding) as file:
                return file.write(text)

        return write


class Sized(SimpleNamespace):
    """A trace that has a length and says nothing else."""

    def __init__(self, of: SimpleNamespace) -> None:
        super().__init__(**vars(of))

    def __len__(self) -> int:
        return 10


OS = {name: getattr(os, name) for name in STEPS}


def broken_by(seed: int) -> str:
    """Return what schedule `seed` broke, with what had happened; an empty string where all went well."""
    here = os.getcwd()
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="mbexp-schedule-", dir=base) as name:
        folder = Path(name) / "sweep"
        folder.mkdir()
        schedule = Schedule(seed, folder)
        try:
            schedule.run()
        except Exception as error:
            return f"schedule {seed}: {type(error).__name__}: {error}\n  " + "\n  ".join(schedule.log)
        finally:
            os.chdir(here)
    return ""


def main() -> int:
    """Try many schedules and print those that broke something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=100_000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    options = parser.parse_args()
    broken = 0
    for seed in range(options.first, options.first + options.count):
        told = broken_by(seed)
        if told:
            broken += 1
            print(told, flush=True)
    print(json.dumps({"schedules": options.count, "broken": broken}))
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
