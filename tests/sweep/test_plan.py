"""Plans: which runs there are, what they are called, in which order they are made, and which are stored."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mbexp import UserError, configure
from mbexp.results.store import complete_folder, generated_hash, run_key, write_json
from mbexp.results.stored import manifest
from mbexp.sweep.engine import sweep_up
from mbexp.sweep.inputs import SharedInputs, trace_hash
from mbexp.sweep.plan import CLAIMS, Plan, make_plan, read_plan, stored, written_plan
from mbexp.sweep.points import Point
from mbexp.sweep.worker import make_run


def point(**values: Any) -> Point:
    return Point(tuple(f"{key}={value}" for key, value in values.items()), values, {}, configure(**values))


def plan_of(folder: Path, *points: Point, force: bool = False) -> Plan:
    return make_plan(points, folder, force, ["mbexp"])


def store_run(folder: Path, plan: str | None = None, **metrics: Any) -> Path:
    """Write a run folder without simulating anything."""
    with complete_folder(folder, replace=True) as aside:
        write_json(aside / "summary.json", {"num_requests": 3, **metrics})
        (aside / "config.yaml").write_text("num_gpus: 1\n")
        write_json(
            aside / "provenance.json", {"plan": plan, "files": manifest(aside), "finished": "2026-01-01T00:00:00"}
        )
    return folder


def csv_trace(path: Path, rows: int = 3) -> Path:
    lines = [f"{index},{10 + index},{5 + index}" for index in range(rows)]
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + "\n".join(lines) + "\n")
    return path


def test_points_that_are_the_same_run_share_a_key(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, point(k_bins=2), point(k_bins=4), point(k_bins=2))

    assert len(plan.runs) == 2
    assert plan.key_of[0] == plan.key_of[2] != plan.key_of[1]


@pytest.mark.parametrize(
    "values",
    [
        {"output.dir": "elsewhere"},
        {"output.batches": False},
        {"study.label": "x"},
        {"study.best": True},
        {"force": True},
    ],
)
def test_what_does_not_change_numbers_does_not_change_the_key(values: dict[str, Any]) -> None:
    assert run_key(configure(**values), "t") == run_key(configure(), "t")


@pytest.mark.parametrize("values", [{"seed": 1}, {"replications": 2}, {"sla.token_ms": 9}, {"warm_up.share_pct": 1}])
def test_what_changes_numbers_changes_the_key(values: dict[str, Any]) -> None:
    assert run_key(configure(**values), "t") != run_key(configure(), "t")


def test_the_key_is_that_of_the_trace_not_of_its_path(tmp_path: Path) -> None:
    first, second = csv_trace(tmp_path / "a.csv"), csv_trace(tmp_path / "b.csv")
    longer = csv_trace(tmp_path / "c.csv", 4)
    keys = [plan_of(tmp_path, point(workload="csv", **{"workload.path": str(path)})).key_of[0]
            for path in (first, second, longer)]  # fmt: skip

    assert keys[0] == keys[1] != keys[2]


def test_the_key_follows_the_files_a_configuration_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule or a latency grid that was edited must not pass for the stored one."""
    monkeypatch.chdir(tmp_path)
    rule, grid = tmp_path / "rule.py", tmp_path / "grid.csv"
    keys = []
    for content in ("import mbexp\n", "import mbexp  # other\n"):
        rule.write_text(content)
        grid.write_text(content)
        mine = configure(**{"scheduler.selection": "rule.pick"})
        law = configure(gpu="grid_interpolation", **{"gpu.law.path": "grid.csv"})
        keys.append((run_key(mine, "t"), run_key(law, "t")))

    assert keys[0][0] != keys[1][0]
    assert keys[0][1] != keys[1][1]


def test_a_key_needs_no_requests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import mbexp.workload.load

    def fail(*_: Any) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(mbexp.workload.load, "load_trace", fail)
    path = csv_trace(tmp_path / "a.csv")

    plan_of(tmp_path, point(num_requests=10**8), point(workload="csv", **{"workload.path": str(path)}))


def test_generated_requests_are_named_by_their_source_of_random_numbers() -> None:
    assert trace_hash(configure(workload="synthetic")) == generated_hash()
    assert generated_hash().startswith("numpy ")


def test_a_missing_trace_is_found_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        plan_of(tmp_path, point(workload="csv", **{"workload.path": "nowhere.csv"}))


def test_long_runs_come_first_and_neighbours_share_their_inputs(tmp_path: Path) -> None:
    points = [
        point(num_requests=n, k_bins=k, num_gpus=g, seed=s)
        for g in (1, 2)
        for k in (2, 4)
        for n in (10, 20)
        for s in (0, 1)
    ]
    configs = [run.config for run in plan_of(tmp_path, *points).runs]

    assert [config.num_requests for config in configs] == [20] * 8 + [10] * 8
    asked = [(config.num_requests, config.seed) for config in configs]
    changes = sum(before != after for before, after in itertools.pairwise(asked))
    assert changes == 3  # each of the four traces is met in one stretch
    bins = [(config.num_requests, config.seed, config.k_bins) for config in configs]
    assert sum(before != after for before, after in itertools.pairwise(bins)) == 7


def test_workers_read_the_plan_they_were_given(tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "sweep", point(k_bins=2), point(scheduler="static_fifo"), force=True)

    with written_plan(plan) as path:
        again = read_plan(path)

        assert again.runs == plan.runs
        assert (again.key_of, again.force, again.command) == (plan.key_of, True, ["mbexp"])
        assert again.folder == plan.folder.absolute()
    assert not path.exists()


def test_a_plan_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(UserError, match="cannot write there"), written_plan(plan_of(tmp_path / "file" / "x", point())):
        pass


def test_stored_means_whole_and_by_this_plan_where_asked(tmp_path: Path) -> None:
    assert not stored(tmp_path, "key")
    (tmp_path / "key").mkdir()
    assert not stored(tmp_path, "key")
    store_run(tmp_path / "key", plan="plan-1")

    assert stored(tmp_path, "key")
    assert stored(tmp_path, "key", "plan-1")
    assert not stored(tmp_path, "key", "plan-2")


def test_a_trace_and_its_bins_are_made_once_for_all_runs_that_meet_them(monkeypatch: pytest.MonkeyPatch) -> None:
    import mbexp.prediction
    import mbexp.workload.load

    calls = []
    load, predict = mbexp.workload.load.load_trace, mbexp.prediction.predict
    monkeypatch.setattr(mbexp.workload, "load_trace", lambda *a: calls.append("trace") or load(*a), raising=False)
    monkeypatch.setattr(mbexp.prediction, "predict", lambda *a: calls.append("bins") or predict(*a))
    inputs = SharedInputs()
    results = [
        make_run(configure(num_requests=200, num_gpus=gpus, k_bins=k), inputs)[0] for k in (2, 4) for gpus in (1, 2, 4)
    ]

    assert calls == ["trace", "bins", "bins"]
    assert results[0].trace is results[-1].trace
    assert results[0].prediction is results[1].prediction
    alone = make_run(configure(num_requests=200, num_gpus=2, k_bins=4), SharedInputs())[0]
    same = results[4].summary | {"wall_time_s": 0}
    assert same == alone.summary | {"wall_time_s": 0}


def test_inputs_used_longest_ago_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mbexp.sweep.inputs.KEPT_BYTES", 5000)
    inputs = SharedInputs()
    first = inputs.trace(configure(num_requests=200, seed=0))
    for seed in range(1, 5):
        inputs.trace(configure(num_requests=200, seed=seed))

    assert inputs.trace(configure(num_requests=200, seed=4)) is inputs.trace(configure(num_requests=200, seed=4))
    assert inputs.trace(configure(num_requests=200, seed=0)) is not first


def test_half_written_runs_of_ended_sweeps_are_removed_and_those_being_written_stay(tmp_path: Path) -> None:
    from mbexp.sweep.claims import claim
    from mbexp.sweep.engine import sweep_up

    (tmp_path / ".dead.0.partial").mkdir()
    (tmp_path / ".alive.0.partial").mkdir()
    (tmp_path / ".lost.0.former").mkdir()
    with claim(tmp_path / CLAIMS / "alive"):
        sweep_up(tmp_path)

        assert sorted(os.listdir(tmp_path)) == [".alive.0.partial", ".work", "lost"]
    sweep_up(tmp_path)
    assert os.listdir(tmp_path) == ["lost"]


def test_a_file_that_changes_during_a_sweep_fails_its_runs(tmp_path: Path) -> None:
    from mbexp.sweep.worker import make_runs

    path = csv_trace(tmp_path / "a.csv")
    plan = plan_of(tmp_path / "sweep", point(workload="csv", **{"workload.path": str(path)}))
    csv_trace(path, 5)
    with written_plan(plan) as file:
        (outcome,) = make_runs(plan, [0], file)

    assert outcome.reason == "workload=csv: the file has changed since the sweep began"
    assert not stored(plan.folder, plan.key_of[0])


def test_a_module_that_changes_during_a_sweep_fails_the_runs_that_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mbexp.sweep.worker import make_runs

    monkeypatch.chdir(tmp_path)
    (tmp_path / "changing_rule.py").write_text("import mbexp, changing_helper\n"
                                               "from mbexp.policy.selection import round_robin as pick\n")  # fmt: skip
    (tmp_path / "changing_helper.py").write_text("x = 1\n")
    plan = plan_of(tmp_path / "sweep", point(num_requests=10, **{"scheduler.selection": "changing_rule.pick"}))
    (tmp_path / "changing_helper.py").write_text("x = 22\n")
    with written_plan(plan) as file:
        (outcome,) = make_runs(plan, [0], file)

    assert outcome.reason == "a rule, something it imports or reads, or a grid has changed since the sweep began"
    assert not stored(plan.folder, plan.key_of[0])


def test_workers_are_started_where_they_save_time(tmp_path: Path) -> None:
    from mbexp.sweep.making import worth_workers

    small = plan_of(tmp_path, *[point(num_requests=100, k_bins=k) for k in range(1, 9)])
    large = plan_of(tmp_path, *[point(num_requests=10_000_000, k_bins=k) for k in range(1, 9)])

    assert not worth_workers(small, range(8), 2)
    assert worth_workers(large, range(8), 2)
    assert not worth_workers(large, range(8), 1)
    assert not worth_workers(large, [0], 2)


def test_a_process_is_alive_until_it_has_ended_whether_or_not_anyone_asked_how() -> None:
    from mbexp.sweep.worker import is_alive

    assert is_alive(os.getpid())
    assert is_alive(1)  # of another user, most often
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert is_alive(process.pid)
        process.kill()
        deadline = time.monotonic() + 10
        while is_alive(process.pid) and time.monotonic() < deadline:  # a zombie: nobody has waited for it
            time.sleep(0.01)
        assert process.returncode is None
        assert not is_alive(process.pid)
    assert not is_alive(process.pid)


@pytest.mark.parametrize(
    ("target", "settings", "workers"),
    [
        ("hydra._internal.core_plugins.basic_launcher.BasicLauncher", {}, 1),
        ("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", {"n_jobs": 3}, 3),
        ("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", {"n_jobs": -1}, 8),
        ("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", {"n_jobs": -8}, 1),
        ("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", {"n_jobs": -20}, 1),
        ("hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher", {}, 8),
        ("hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher", {}, 0),
        ("hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher", {}, 0),
    ],
)
def test_how_many_runs_a_launcher_makes_side_by_side_here(
    target: str, settings: dict[str, int], workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mbexp.sweep import crew

    monkeypatch.setattr(crew, "cores", lambda: 8)
    assert crew.workers_of(target, SimpleNamespace(**settings)) == workers
    assert crew.cores() >= 1


@pytest.mark.parametrize(
    ("error", "stops"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (UserError("writing failed"), False),
        (OSError(errno.ENOENT, "No such file"), False),
    ],
)
def test_a_full_disk_ends_a_job_whoever_tells_of_it(error: Exception, stops: bool) -> None:
    from mbexp.sweep.worker import _no_room

    told = UserError("output.dir=x: writing failed")
    told.__cause__ = error
    assert _no_room(told) is _no_room(error) is stops


def test_of_a_run_that_was_being_replaced_one_stays(tmp_path: Path) -> None:
    for name in (".both.0.former", "both", ".alone.0.former"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(name)
    sweep_up(tmp_path)
    assert {path.name: (path / "summary.json").read_text() for path in tmp_path.iterdir()} == {
        "both": "both", "alone": ".alone.0.former",
    }  # fmt: skip
