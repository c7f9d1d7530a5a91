"""What goes wrong around a sweep: workers that die, runs that never end, damaged folders, clocks, no locks."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest

from mbexp import UserError
from mbexp.results.stored import DAMAGED
from mbexp.sweep import claims
from mbexp.sweep.claims import claim
from mbexp.sweep.engine import execute, sweep_up
from mbexp.sweep.making import DIED, Crew, Made, make
from mbexp.sweep.plan import CLAIMS, FAILED, Plan, read_plan, stored, token_of, written_plan
from mbexp.sweep.worker import Job, Outcome, failure, make_runs
from tests.sweep.test_plan import plan_of, point, store_run

Command = Callable[..., tuple[int, str, str]]

SMALL = ("num_requests=50",)
posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


class Workers:
    """A launcher whose jobs are made here, each as a worker would; `dies` says which die, and when."""

    def __init__(self, dies: Callable[[Workers, str], bool] = lambda workers, key: False, starts: int = 100) -> None:
        self.dies = dies
        self.starts = starts  # beyond those of the first launches
        self.launched: list[list[list[str]]] = []
        self.held: list[Any] = []

    def crew(self, workers: int = 2, **settings: Any) -> Crew:
        return Crew(self, workers, **settings)

    def __call__(self, job: Job, jobs: int, apart: bool) -> Sequence[Outcome]:
        plan = read_plan(job.plan_file)
        self.launched.append([[plan.runs[place].key for place in share] for share in job.shares])
        if len(self.launched) <= -self.starts:
            raise BrokenExecutor("killed before it began")
        outcomes = []
        for place in (place for share in job.shares for place in share):
            key = plan.runs[place].key
            if self.dies(self, key):
                (plan.folder / CLAIMS).mkdir(parents=True, exist_ok=True)
                (plan.folder / CLAIMS / key).touch()  # a claim whose holder is gone
                raise BrokenExecutor("a worker died")
            outcomes += make_runs(plan, [place], job.plan_file)
        return outcomes


def four(folder: Path, force: bool = False, **values: Any) -> Plan:
    return plan_of(folder, *[point(num_requests=10 + n, **values) for n in range(4)], force=force)


def test_workers_that_die_before_they_begin_are_started_again(tmp_path: Path) -> None:
    plan, workers = four(tmp_path), Workers(starts=-1)
    ending = execute(plan, workers.crew())

    assert (ending.made, ending.failed, ending.trouble, len(workers.launched)) == (4, [], "", 2)


def test_where_they_die_again_the_runs_are_made_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, workers = four(tmp_path), Workers(starts=-9)
    ending = execute(plan, workers.crew())

    assert (ending.made, ending.failed, ending.trouble, len(workers.launched)) == (4, [], "", 2)
    assert (
        "worker processes end before they begin (killed?); the runs are made in this process" in capsys.readouterr().out
    )


def test_a_run_that_kills_its_process_comes_last_and_stops_no_other(tmp_path: Path) -> None:
    plan = four(tmp_path)
    first = plan.runs[0].key
    workers = Workers(lambda _, key: key == first)
    ending = execute(plan, workers.crew())

    assert ending.made == 3
    assert [(outcome.key, outcome.reason) for outcome in ending.failed] == [(first, DIED)]
    assert workers.launched[-1] == [[first]]
    assert Path(ending.failed[0].log).read_text().startswith(DIED)


def test_what_killed_the_command_itself_comes_last_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The claim of a run whose holder is gone is what an earlier command left that crashed."""
    plan = four(tmp_path)
    first = plan.runs[0].key
    (tmp_path / CLAIMS).mkdir(parents=True)
    (tmp_path / CLAIMS / first).touch()
    workers = Workers(lambda _, key: key == first)
    ending = execute(plan, workers.crew(may_stay=True))

    assert workers.launched == [[[first]]]
    assert (ending.made, [outcome.key for outcome in ending.failed]) == (3, [first])
    execute(plan, workers.crew(may_stay=True))
    assert workers.launched[1:] == [[[first]]]  # it is still not tried in this process


def test_under_force_a_run_stored_before_does_not_count_as_made_when_a_worker_died(tmp_path: Path) -> None:
    execute(four(tmp_path), Workers().crew())
    plan = four(tmp_path, force=True)
    before = {run.key: (tmp_path / run.key / "summary.json").stat().st_ino for run in plan.runs}
    second = plan.runs[1].key
    ending = execute(plan, Workers(lambda workers, key: key == second and len(workers.launched) == 1).crew())

    assert (ending.made, ending.missing, ending.failed) == (4, 0, [])
    assert all((tmp_path / key / "summary.json").stat().st_ino != before[key] for key in before)


def test_a_run_that_someone_else_stored_while_its_claim_was_awaited_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, point(num_requests=10))

    @contextlib.contextmanager
    def stored_meanwhile(path: Path, real: Any = claim) -> Any:
        store_run(tmp_path / plan.runs[0].key)
        with real(path) as mine:
            yield mine

    monkeypatch.setattr("mbexp.sweep.worker.claim", stored_meanwhile)
    monkeypatch.setattr("mbexp.sweep.worker.make_run", lambda *_: pytest.fail("made again"))
    assert execute(plan, Workers().crew()).made_elsewhere == 1


@pytest.mark.parametrize("year", [1990, 2090])
def test_a_failure_of_an_earlier_command_does_not_count_whatever_the_clock_says(year: int, tmp_path: Path) -> None:
    plan = four(tmp_path)
    key, when = plan.runs[0].key, (year - 1970) * 31_557_600
    (tmp_path / FAILED).mkdir()
    log = tmp_path / FAILED / f"{key}.log"
    log.write_text("it failed\nplan-00000000\n")
    os.utime(log, (when, when))

    assert execute(plan, Workers().crew()).made == 4
    assert not log.exists()


def damages(run: Path) -> dict[str, Callable[[], object]]:
    """Return what can have happened to the folder of a run."""

    def cut(name: str, left: float) -> Callable[[], None]:
        return lambda: os.truncate(run / name, int((run / name).stat().st_size * left))

    def swap(name: str) -> Callable[[], int]:
        return lambda: (run / name).write_bytes(b"\0" * (run / name).stat().st_size)

    names = ("summary.json", "provenance.json", "config.yaml", "batches.parquet", "requests.parquet")
    return {
        **{f"no {name}": (run / name).unlink for name in names},
        **{f"empty {name}": cut(name, 0) for name in names},
        **{f"half {name}": cut(name, 0.5) for name in names},
        **{f"zeros in {name}": swap(name) for name in names[:3]},
        "list in summary.json": lambda: (run / "summary.json").write_text("[]"),
        "list in provenance.json": lambda: (run / "provenance.json").write_text("[]"),
        "empty folder": lambda: [path.unlink() for path in run.iterdir()],
    }


def test_what_cannot_be_read_is_named_set_aside_and_made_again(command: Command, tmp_path: Path) -> None:
    count = len(damages(tmp_path))
    sweep = ("-m", f"sla.request_s=range(1,{count + 2})", *SMALL, "hydra/launcher=basic", "study.name=hurt")
    folder = tmp_path / "outputs" / "hurt"
    assert command(*sweep)[0] == 0
    tables = {name: (folder / name).read_bytes() for name in ("results.csv", "results.parquet")}
    keys = json.loads((folder / "study.json").read_text())["runs"]
    for key, kind in zip(keys, damages(tmp_path), strict=False):
        damages(folder / key)[kind]()

    code, out, err = command(*sweep)

    assert (code, err) == (0, "")
    assert f"{count} stored runs cannot be read and are made again (kept in outputs/hurt/damaged): " in out
    assert f"({count} made, 1 stored before" in out
    assert {name: (folder / name).read_bytes() for name in tables} == tables
    assert {path.name for path in (folder / DAMAGED).iterdir()} == set(keys[:count])
    assert f"(0 made, {count + 1} stored before" in command(*sweep)[1]


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(claims.fcntl, "flock", refuse)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_young_half_written_runs_and_claims_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / CLAIMS).mkdir(parents=True)
    (tmp_path / CLAIMS / "someones").touch()
    long_ago = time.time() - 10 * 86400
    for name in (".someones.0.partial", ".old.0.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    for path in (tmp_path / ".old.0.partial" / "file", tmp_path / ".old.0.partial"):
        os.utime(path, (long_ago, long_ago))

    assert sweep_up(tmp_path) == set()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".someones.0.partial", ".work"]
    assert (tmp_path / CLAIMS / "someones").exists()


def test_what_is_stored_does_not_decide_where_files_go(command: Command, tmp_path: Path) -> None:
    sweep = ("-m", "k_bins=1,2", *SMALL, "study.name=moved")
    folder = tmp_path / "outputs" / "moved"
    command(*sweep)
    known = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps(known | {"finished": str(tmp_path / "elsewhere")}))

    assert command(*[word.replace("1,2", "1") for word in sweep])[0] == 0
    (earlier,) = (folder / "earlier").iterdir()
    assert (earlier / "results.csv").is_file()
    assert not (tmp_path / "elsewhere").exists()


def test_runs_of_several_versions_are_told(command: Command, tmp_path: Path) -> None:
    sweep = ("-m", "k_bins=1,2", *SMALL)
    folder = tmp_path / "outputs" / "sweep_k_bins"
    assert "several versions" not in command(*sweep)[1]
    path = folder / json.loads((folder / "study.json").read_text())["runs"][0] / "provenance.json"
    known = json.loads(path.read_text())
    path.write_text(json.dumps(known | {"git": {"commit": "b915b73" * 6, "modified": False}}))

    out = command(*sweep)[1]

    (line,) = [line for line in out.splitlines() if "several versions" in line]
    assert line.startswith("! these runs were made with several versions of mbexp (")
    assert "commit b915b73b in 1" in line
    assert json.loads((folder / "study.json").read_text())["versions"] == line.removeprefix("! ")


def test_a_text_is_no_formula_for_a_spreadsheet(tmp_path: Path) -> None:
    from mbexp.sweep.table import to_table, write_csv

    write_csv(
        to_table([{"a": "=1+1", "b": -2.0, "warnings": ""}, {"a": "@x", "b": 3.0, "warnings": ""}]), tmp_path / "t.csv"
    )

    with (tmp_path / "t.csv").open(newline="") as file:
        assert [*csv.reader(file)][1:] == [["'=1+1", "-2", ""], ["'@x", "3", ""]]


def test_a_sweep_beyond_all_measure_is_one_line(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mbexp.sweep.points.MOST_POINTS", 1000)
    for words in (("seed=range(100000000)",), ("seed=range(50)", "k_bins=range(1,50)")):
        code, _, err = command("-m", *words, *SMALL)
        assert (code, err.count("\n")) == (1, 1)
        assert "a sweep has at most 1,000 points" in err
    assert not (tmp_path / "outputs").exists()


def test_a_limit_needs_a_process_that_can_be_ended(command: Command) -> None:
    code, _, err = command("-m", "k_bins=1,2", *SMALL, "study.timeout_s=5", "hydra/launcher=basic")
    assert (code, err.count("\n")) == (1, 1)
    assert "study.timeout_s: hydra/launcher=basic has no process that could be ended" in err


ENDLESS = """
import itertools, os
from mbexp.policy.selection import round_robin, longest_queue
if os.environ.get("ENDLESS"): sum(itertools.repeat(0))  # in C, without a look at signals: like compiled code
"""


def test_a_run_that_takes_too_long_ends_its_process_and_says_where_it_was(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, point(num_requests=10, **{"study.timeout_s": 0.2}), point(num_requests=11))
    key = next(run.key for run in plan.runs if run.values["study"]["timeout_s"])

    def too_long(_: Workers, died: str) -> bool:
        if died != key:
            return False
        code = (f"from mbexp.sweep.worker import *\nimport itertools\nrun = Run({key!r}, ('a=1',), "
                "{'study': {'timeout_s': 0.2}}, '')\n"
                f"with ended_in_time(Path({str(tmp_path / FAILED / key)!r} + '.log'), run, {token!r}):\n"
                "    sum(itertools.repeat(0))  # in C, without a look at signals: like compiled code\n")  # fmt: skip
        assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 1
        return True

    with written_plan(plan) as plan_file:
        token, made = token_of(plan_file), Made()
        make(plan, plan_file, [0, 1], Workers(too_long).crew(), set(), made)
        assert failure(tmp_path, key, token) == "took longer than study.timeout_s=0.2"
    assert all(stored(tmp_path, run.key) is (run.key != key) for run in plan.runs)
    assert "line 5 in <module>" in (tmp_path / FAILED / f"{key}.log").read_text()
    assert not list(tmp_path.glob(f"{FAILED}/*.watched"))


@pytest.mark.slow
@posix_only
def test_a_run_that_takes_too_long_is_ended_and_the_others_are_made(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    monkeypatch.setenv("ENDLESS", "1")
    code, out, err = command("-m", "scheduler.selection=endless.round_robin,round_robin,longest_queue", *SMALL,
                             "study.timeout_s=8", "hydra.launcher.n_jobs=1")  # fmt: skip

    assert code == 1
    assert "2 rows of 3 runs" in out
    assert "1 of 3 runs failed; the first (scheduler.selection=endless.round_robin" in err
    assert "took longer than study.timeout_s=8" in err
    (log,) = (tmp_path / "outputs" / "sweep_scheduler.selection" / "failed").iterdir()
    assert "endless.py" in log.read_text()  # where it was


@posix_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_command_whatever_it_computes(number: int, tmp_path: Path) -> None:
    code = ("from mbexp.cli.signals import interruptible\nimport itertools\n"
            "with interruptible():\n    print(flush=True)\n    sum(itertools.repeat(0))\n")  # fmt: skip
    with started(code, tmp_path) as process:
        time.sleep(0.2)
        process.send_signal(number)
        time.sleep(0.2)
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(10) == -number


@posix_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_an_interruption_wherever_it_comes(number: int, tmp_path: Path) -> None:
    code = ("from mbexp.cli import main\nimport time\n"
            "def job():\n    print(flush=True)\n    time.sleep(60)\n"
            "main.job = job\nmain.main()\n")  # fmt: skip
    with started(code, tmp_path) as process:
        process.send_signal(number)
        _, err = process.communicate(timeout=10)
        assert (process.returncode, err) == (130, "mbexp: interrupted; nothing half-written was left behind\n")


@pytest.mark.skipif(sys.platform != "linux", reason="the system does it on Linux")
def test_a_worker_ends_with_its_parent_whatever_it_computes(tmp_path: Path) -> None:
    child = ("from mbexp.sweep.worker import end_with\nimport itertools, os\n"
             "end_with(os.getppid())\nprint(os.getpid(), flush=True)\nsum(itertools.repeat(0))\n")  # fmt: skip
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}])\n"
    with started(parent, tmp_path) as process:
        worker = int(process.line)  # type: ignore[attr-defined]
        process.kill()
        deadline = time.monotonic() + 10
        while Path(f"/proc/{worker}/stat").exists() and time.monotonic() < deadline:
            if Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
            raise AssertionError("it went on")


@contextlib.contextmanager
def started(code: str, folder: Path) -> Any:
    """Run a program until it has written a line."""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a test that a shell started in the background has SIGINT ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout is not None
        process.line = process.stdout.readline()  # type: ignore[attr-defined]
        try:
            yield process
        finally:
            process.kill()


def test_a_plan_with_a_limit_is_refused_before_anything_runs_without_processes(tmp_path: Path) -> None:
    plan = four(tmp_path, **{"study.timeout_s": 5})
    with pytest.raises(UserError, match=r"study.timeout_s"):
        execute(plan, Workers().crew(has_processes=False))
    assert not any(stored(tmp_path, run.key) for run in plan.runs)
