"""Sweeps that are resumed, repeated, shared, and hit by what goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]

SMALL = ("num_requests=200",)
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
BASIC = ("hydra/launcher=basic",)
BERT_K2 = ("predictor=confusion", "predictor.confusion=bert_k2")  # a matrix for two bins: any other K raises
RUN_NAME = 12

posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


def complaints(err: str) -> list[str]:
    """Return what is written to the terminal besides the progress, which a slow machine comes to show."""
    return [line for line in err.splitlines() if " runs done" not in line]


def runs(folder: Path) -> set[str]:
    """Return the names of the stored runs of a sweep."""
    return {path.name for path in folder.glob("*") if len(path.name) == RUN_NAME and (path / "summary.json").is_file()}


def times(folder: Path) -> dict[str, int]:
    """Return when each run was made."""
    return {name: (folder / name / "summary.json").stat().st_mtime_ns for name in runs(folder)}


def only_results(folder: Path) -> bool:
    """Whether nothing half-written and nothing of a running sweep is left."""
    return not [path.name for path in folder.glob(".*")]


def study(folder: Path) -> dict[str, object]:
    values: dict[str, object] = json.loads((folder / "study.json").read_text())
    return values


@pytest.mark.parametrize("launcher", [JOBLIB, BASIC], ids=["joblib", "basic"])
def test_a_sweep_started_again_runs_only_what_is_missing(
    command: Command, tmp_path: Path, launcher: tuple[str, ...]
) -> None:
    folder = tmp_path / "outputs" / "sweep_k_bins"
    assert command("-m", "k_bins=1,2", *SMALL, *launcher)[0] == 0
    before = times(folder)

    code, out, _ = command("-m", "k_bins=1,2,4", *SMALL, *launcher)

    assert code == 0
    assert "1 made, 2 stored before" in out
    after = times(folder)
    assert len(after) == 3
    assert {name: after[name] for name in before} == before
    assert (study(folder)["made"], study(folder)["stored_before"]) == (1, 2)
    assert only_results(folder)


def test_another_launcher_goes_on_where_one_stopped(command: Command, tmp_path: Path) -> None:
    command("-m", "k_bins=1,2", *SMALL, *BASIC)

    _, out, _ = command("-m", "k_bins=1,2,4", *SMALL, *JOBLIB)

    assert "1 made, 2 stored before" in out


def test_force_runs_all_again_and_gives_the_same_table(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "outputs" / "sweep_k_bins"
    command("-m", "k_bins=1,2", *SMALL)
    before = times(folder)
    tables = {name: (folder / name).read_bytes() for name in ("results.csv", "results.parquet")}

    _, out, _ = command("-m", "k_bins=1,2", *SMALL, "force=true")

    assert "2 made, 0 stored before" in out
    after = times(folder)
    assert after.keys() == before.keys()
    assert all(after[name] > before[name] for name in before)
    assert {name: (folder / name).read_bytes() for name in tables} == tables
    assert only_results(folder)


def test_a_run_folder_is_complete_and_says_how_it_came_about(command: Command, tmp_path: Path) -> None:
    command("-m", "k_bins=2,4", *SMALL)

    folder = tmp_path / "outputs" / "sweep_k_bins"
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == [
        "multirun.yaml", "results.csv", "results.parquet", "study.json",
    ]  # fmt: skip
    for name in runs(folder):
        names = sorted(path.name for path in (folder / name).iterdir())
        assert names == [
            "batches.parquet", "config.yaml", "overrides.yaml", "provenance.json", "requests.parquet", "run.log",
            "summary.json",
        ]  # fmt: skip
    import yaml

    overrides = [yaml.safe_load((folder / name / "overrides.yaml").read_text()) for name in runs(folder)]
    assert sorted(overrides) == [["k_bins=2", "num_requests=200"], ["k_bins=4", "num_requests=200"]]


def test_two_points_that_are_the_same_run_are_made_once(command: Command, tmp_path: Path) -> None:
    code, out, _ = command("-m", "k_bins=2,2,4", *SMALL)

    assert code == 0
    assert "2 runs (1 of 3 points repeat another)" in out
    assert "2 rows of 2 runs" in out
    assert len(runs(tmp_path / "outputs" / "sweep_k_bins")) == 2


@pytest.mark.parametrize("launcher", [JOBLIB, ()], ids=["joblib", "default"])
def test_one_bad_run_loses_neither_the_others_nor_the_table(
    command: Command, tmp_path: Path, launcher: tuple[str, ...]
) -> None:
    code, out, err = command("-m", "k_bins=1,2,4", *SMALL, *BERT_K2, *launcher)

    folder = tmp_path / "outputs" / "sweep_k_bins"
    assert code == 1
    assert "1 rows of 3 runs" in out
    assert len(complaints(err)) == 1
    assert "2 of 3 runs failed; the first (" in err
    assert "k_bins=1" in err
    assert "a matrix of 2 bins for a run of 1" in err
    assert "the same command makes them again" in err
    logs = sorted((folder / "failed").iterdir())
    assert len(logs) == 2
    assert str(Path("outputs/sweep_k_bins/failed")) in err
    assert "k_bins=" in logs[0].read_text()
    assert len((folder / "results.csv").read_text().splitlines()) >= 2
    failures = study(folder)["failures"]
    assert isinstance(failures, list)
    assert {failure["overrides"][0] for failure in failures} == {"k_bins=1", "k_bins=4"}
    assert all(Path(failure["log"]).is_file() for failure in failures)


def test_a_repaired_sweep_forgets_its_failures(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = "import os\nfrom mbexp.policy.selection import round_robin as pick\n"
    sys.modules.pop("rule", None)
    (tmp_path / "rule.py").write_text(rule + "if 'READY' not in os.environ: raise RuntimeError('not yet')\n")
    sweep = ("-m", "scheduler.selection=rule.pick,round_robin", *SMALL, *BASIC)
    code, _, err = command(*sweep)
    assert code == 1
    assert "not yet" in err
    folder = tmp_path / "outputs" / "sweep_scheduler.selection"
    assert len(list((folder / "failed").iterdir())) == 1

    sys.modules.pop("rule", None)
    monkeypatch.setenv("READY", "yes")
    code, out, _ = command(*sweep)

    assert code == 0
    assert "1 made, 1 stored before" in out
    assert not (folder / "failed").exists()


def test_what_all_runs_fail_for_is_said_without_the_words_of_one(command: Command, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("when,prompt_tokens,output_tokens\n0,1,1\n")

    code, _, err = command(
        "-m", "scheduler=static_fifo,dynamic_no_bins", *SMALL, "workload=csv", f"workload.path={log}"
    )

    assert code == 1
    assert "mbexp: all 2 runs failed: " in err
    assert "has no column 'arrival_s'" in err


@posix_only
def test_a_killed_worker_costs_its_own_run_alone(command: Command, tmp_path: Path) -> None:
    (tmp_path / "killer.py").write_text("import os, mbexp\nos.kill(os.getpid(), 9)\n")
    rules = "scheduler.selection=round_robin,longest_queue,killer.pick,oldest_head,first_formed"

    code, out, err = command("-m", rules, *SMALL, *JOBLIB)

    folder = tmp_path / "outputs" / "sweep_scheduler.selection"
    assert code == 1
    assert "4 rows of 5 runs" in out
    assert "1 of 5 runs failed" in err
    assert "killer.pick" in err
    assert "the process that made it died (killed, or out of memory)" in err
    assert len(runs(folder)) == 4
    assert only_results(folder)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("kbins=1,2", "mbexp: kbins: unknown key (did you mean 'k_bins'?)"),
        ("num_gpu=1,2", "mbexp: num_gpu: unknown key (did you mean 'num_gpus'?)"),
        ("gpu.counts=1,2", "mbexp: gpu.counts: unknown key (did you mean 'gpu.count'?)"),
        ("num_gpus=0,2", "mbexp: num_gpus=0: must be at least 1"),
        ("scheduler=static_fio,static_fifo", "mbexp: scheduler=static_fio: no such choice (did you mean 'static_fifo'"),
        ("study.name=a/b", "mbexp: study.name=a/b: must be the name of a folder, without a path"),
        ("output.dir=a,b", "mbexp: output.dir: a sweep has one folder; it cannot be swept"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_sweep_is_one_line_and_nothing_runs(
    command: Command, tmp_path: Path, argument: str, message: str
) -> None:
    code, _, err = command("-m", argument, *SMALL)

    assert code == 1
    assert err.startswith(message)
    assert len(complaints(err)) == 1
    assert not (tmp_path / "outputs").exists()


def test_a_sweep_that_cannot_be_stored_is_one_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file where the folder should be")

    code, _, err = command("-m", "k_bins=1,2", *SMALL)

    assert code == 1
    assert err.startswith("mbexp: output.dir=outputs: cannot write there (")
    assert len(complaints(err)) == 1


def test_a_sweep_of_many_keys_has_a_folder_of_bearable_name(command: Command, tmp_path: Path) -> None:
    keys = ["alpha_requests", "delta_requests", "tolerance_ms", "window_batches", "interval_batches"]
    swept = [f"scheduler.controller.{key}=1,1" for key in keys]  # the product is one run

    code, out, _ = command("-m", *swept, *SMALL)

    assert code == 0
    assert "1 runs (31 of 32 points repeat another)" in out
    (folder,) = (tmp_path / "outputs").iterdir()
    assert folder.name.startswith("sweep_scheduler.controller.alpha_requests_")
    assert len(folder.name) < 160


def test_claims_that_cannot_be_written_end_a_job_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mbexp.sweep.plan import written_plan
    from mbexp.sweep.worker import make_runs
    from tests.sweep.test_plan import plan_of, point

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    plan = plan_of(tmp_path / "sweep", point(num_requests=10), point(num_requests=11))
    with written_plan(plan) as file:
        monkeypatch.setattr("mbexp.sweep.worker.claim", refuse)
        (outcome,) = make_runs(plan, [0, 1], file)
    assert outcome.reason == f"cannot write in {tmp_path / 'sweep'} (Permission denied)"


def test_a_launcher_that_cannot_start_is_one_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "conf" / "hydra" / "launcher").mkdir(parents=True)
    (tmp_path / "conf" / "hydra" / "launcher" / "broken.yaml").write_text(
        "defaults: [joblib, _self_]\ntimeout: -1\nn_jobs: 2\npre_dispatch: nonsense()\n"
    )

    code, _, err = command("--config-dir", "conf", "-m", "k_bins=1,2", *SMALL, "hydra/launcher=broken")

    assert code == 1
    assert complaints(err)[0].startswith("mbexp: hydra/launcher: ")
    assert len(complaints(err)) == 1


def test_a_narrower_sweep_keeps_the_wider_ones_table(command: Command, tmp_path: Path) -> None:
    command("-m", "k_bins=1,2,4", *SMALL)
    folder = tmp_path / "outputs" / "sweep_k_bins"
    wide = (folder / "results.csv").read_bytes()

    command("-m", "k_bins=1,2", *SMALL)

    (earlier,) = (folder / "earlier").iterdir()
    assert (earlier / "results.csv").read_bytes() == wide
    assert (earlier / "study.json").is_file()
    assert len(runs(folder)) == 3


@posix_only
class TestSignals:
    """Processes of their own, ended from outside."""

    SWEEP = ("-m", "sla.request_s=range(1,601)", "num_requests=5000", "output.requests=false", "study.name=signals")

    @pytest.fixture
    def started(self, tmp_path: Path) -> tuple[subprocess.Popen[str], Path, list[int]]:
        """Start a sweep in a process group of its own and wait until its workers have stored something."""
        process = subprocess.Popen(
            [sys.executable, "-m", "mbexp", *self.SWEEP, *JOBLIB],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        folder = tmp_path / "outputs" / "signals"
        deadline = time.monotonic() + 120
        while len(runs(folder)) < 2 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        assert process.poll() is None, process.communicate()
        return process, folder, children(process.pid)

    @pytest.mark.parametrize("how", ["ctrl-c", pytest.param("terminate", marks=pytest.mark.slow)])
    def test_finished_runs_stay_and_the_same_command_goes_on(
        self, started: tuple[subprocess.Popen[str], Path, list[int]], how: str, command: Command
    ) -> None:
        process, folder, workers = started
        if how == "ctrl-c":
            os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
        else:
            process.terminate()
        out, err = process.communicate(timeout=30)

        assert process.returncode == 130
        made = len(runs(folder))
        assert 2 <= made < 600
        assert f"{made} rows of 600 runs" in out
        assert f"{600 - made} of 600 runs are missing; the same command makes them" in out
        assert "Traceback" not in err
        assert study(folder)["interrupted"] is True
        assert only_results(folder)
        assert_ended(workers)
        code, out, _ = command(*[word.replace("range(1,601)", "range(1,5)") for word in self.SWEEP])
        assert code == 0
        assert "4 rows of 4 runs" in out
        assert "4 made" not in out

    def test_no_worker_outlives_a_killed_parent(
        self, started: tuple[subprocess.Popen[str], Path, list[int]], command: Command
    ) -> None:
        process, folder, workers = started
        process.kill()
        process.communicate(timeout=30)

        assert len(workers) >= 2
        assert_ended(workers)
        command(*[word.replace("range(1,601)", "1") for word in self.SWEEP])
        assert only_results(folder)  # what the killed sweep left is gone


@posix_only
def test_two_sweeps_at_once_share_the_work(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mbexp", "-m", "sla.request_s=range(1,61)", "num_requests=5000", *BASIC]
    both = [
        subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=120) for process in both]

    assert [process.returncode for process in both] == [0, 0], ended
    folder = tmp_path / "outputs" / "sweep_sla.request_s"
    assert len(runs(folder)) == 60
    assert all("60 rows of 60 runs" in out for out, _ in ended)
    assert only_results(folder)
    made = [int(out.split(" made,")[0].rpartition("(")[2]) for out, _ in ended]
    assert sum(made) == 60  # no run was made twice


@posix_only
def test_a_full_disk_stops_the_sweep_with_a_reason_and_it_can_go_on(tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk without room: the same failed write."""
    limited = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))\n"
        "from mbexp.cli.main import main\n"
        "main()\n"
    )
    words = ["-m", "num_requests=100,5000,200", "study.name=full"]
    full = subprocess.run(
        [sys.executable, "-c", limited, *words], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )

    folder = tmp_path / "outputs" / "full"
    assert full.returncode == 1
    assert "1 of 3 runs failed, 2 were not tried" in full.stderr
    assert "File too large" in full.stderr
    assert len(complaints(full.stderr)) == 1
    assert only_results(folder)
    ended = subprocess.run(
        [sys.executable, "-m", "mbexp", *words], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert "3 rows of 3 runs" in ended.stdout


def children(pid: int) -> list[int]:
    """Return the processes started by `pid`."""
    shown = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in shown.splitlines()]
    return [child for child, parent in pairs if parent == pid]


def assert_ended(pids: list[int]) -> None:
    """Wait for processes to be gone (a zombie is)."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        shown = subprocess.run(["ps", "-A", "-o", "pid=,stat="], capture_output=True, text=True, check=True).stdout
        alive = {int(line.split()[0]) for line in shown.splitlines() if not line.split()[1].startswith("Z")}
        if not alive & set(pids):
            return
        time.sleep(0.1)
    raise AssertionError(f"still there: {sorted(alive & set(pids))}")
