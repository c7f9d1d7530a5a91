"""Run folders: complete or not at all, and named so that equal runs share a name and others do not."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from mbexp import UserError, configure, simulate
from mbexp.results.store import complete_folder, git_state, run_key, save, write_json
from mbexp.version import RESULTS_VERSION


def test_the_key_is_the_configuration_and_the_trace() -> None:
    config = configure(num_gpus=8)

    assert run_key(config, "a") == run_key(configure(**{"gpu.count": 8}), "a")
    assert run_key(config, "a") == run_key(configure(num_gpus=8, **{"output.dir": "elsewhere"}), "a")
    assert run_key(config, "a") != run_key(config, "b")
    assert run_key(config, "a") != run_key(configure(num_gpus=9), "a")
    assert run_key(config, "a") != run_key(configure(num_gpus=8, seed=1), "a")
    estimates = [{"execution.future_estimate": name} for name in ("low", "history")]
    estimates += [{**estimates[1], "execution.future_history": 40}, {"execution.gives_way": "least_predicted"}]
    estimates += [{"predictor.low_factor": 0.5}, {"predictor.high_factor": 2}]
    keys = {run_key(configure(num_gpus=8, **keys), "a") for keys in estimates}
    assert len(keys) == len(estimates)
    assert run_key(config, "a") not in keys


def test_the_key_is_the_same_whether_or_not_groups_are_named_once_for_all() -> None:
    """Written out here from the configuration as a whole."""
    known: dict[int, tuple[object, str]] = {}
    for config in [configure(seed=seed, num_gpus=gpus, **{"sla.request_s": 9.5}) for seed in (0, 1) for gpus in (2, 4)]:
        values = dataclasses.asdict(config)
        for left_out in (
            "sla.targets", "workload.path", "execution.engine", "execution.admission", "execution.future_estimate",
            "execution.future_history", "execution.gives_way", "predictor.low_factor", "predictor.high_factor",
            "scheduler.wait",
        ):  # fmt: skip
            group, name = left_out.split(".")
            values[group].pop(name)
        for group in ("output", "study", "force"):
            values.pop(group)
        text = json.dumps([RESULTS_VERSION, "a", values], sort_keys=True)
        assert run_key(config, "a") == hashlib.sha256(text.encode()).hexdigest()[:12]
        assert run_key(config, "a", [], known) == run_key(config, "a")


def test_a_rule_of_admission_is_in_the_key_where_it_means_something() -> None:

    def key(prefill: str, admission: str) -> str:
        keys = {"execution.prefill": prefill, "execution.admission": admission}
        return run_key(configure(execution="continuous", **keys), "a")

    assert key("first", "budget") == key("first", "any")
    assert key("chunked", "budget") != key("chunked", "any")


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), complete_folder(tmp_path / "run") as aside:  # noqa: PT012
        (aside / "file").write_text("half")
        raise ZeroDivisionError

    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"writing failed \(No space left on device\)"):  # noqa: SIM117
        with complete_folder(tmp_path / "run"):
            raise OSError(28, "No space left on device")

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_already_is_kept(tmp_path: Path) -> None:
    with complete_folder(tmp_path / "run") as aside:
        (aside / "file").write_text("first")
    with complete_folder(tmp_path / "run") as aside:
        (aside / "file").write_text("second")

    assert (tmp_path / "run" / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_does_not_exist_is_null(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": np.nan, "b": [np.inf, np.float64(1.5)], "c": np.int32(3), "d": {"e": True}})

    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": [None, 1.5], "c": 3, "d": {"e": True}}


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({}, {"batches.parquet", "requests.parquet"}),
        ({"requests": False}, {"batches.parquet"}),
        ({"batches": False, "requests": False}, set()),
    ],
)
def test_tables_are_stored_as_asked(output: dict[str, bool], expected: set[str], tmp_path: Path, make_trace) -> None:  # type: ignore[no-untyped-def]
    result = simulate(make_trace([0.0, 1.0], [5, 6]), output=output)

    folder = save(result, tmp_path / "run", ["mbexp"])

    assert {path.name for path in folder.glob("*.parquet")} == expected


def test_stored_tables_are_those_in_memory(tmp_path: Path) -> None:
    result = simulate(num_requests=3000, num_gpus=16)

    folder = save(result, tmp_path / "run", ["mbexp"])

    for name in ("batches", "requests"):
        stored = parquet.read_table(folder / f"{name}.parquet").to_pandas()
        assert stored.equals(getattr(result, name)), name
    assert len(result.requests) == 3000
    assert "model" in result.requests


def test_the_folder_says_where_it_comes_from(tmp_path: Path, make_trace) -> None:  # type: ignore[no-untyped-def]
    result = simulate(make_trace([0.0, 1.0], [5, 6]), seed=3)

    values = json.loads((save(result, tmp_path / "run", ["mbexp", "seed=3"]) / "provenance.json").read_text())

    assert values["seed"] == 3
    assert values["command"] == ["mbexp", "seed=3"]
    assert values["trace_sha256"] == result.trace.sha256
    assert {"numpy", "numba", "pyarrow", "hydra-core"} <= set(values["dependencies"])
    assert values["law_provenance"]
    if sys.platform == "linux":
        assert values["cpu"] in Path("/proc/cpuinfo").read_text() or values["cpu"] == os.uname().machine
        assert values["libc"] == os.confstr("CS_GNU_LIBC_VERSION")


def test_a_changed_array_changes_the_traces_hash(make_trace) -> None:  # type: ignore[no-untyped-def]
    trace = make_trace([0.0, 1.0], [5, 6])

    assert dataclasses.replace(trace, prompt_tokens=trace.prompt_tokens + 1).sha256 != trace.sha256


def test_a_run_without_git_says_nothing_of_a_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr("mbexp.results.store.subprocess.run", absent)
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr("mbexp.results.store.__file__", str(tmp_path / "mbexp" / "results" / "store.py"))
    assert git_state.__wrapped__() is None
    monkeypatch.setattr("mbexp.results.store.__file__", str(tmp_path / "elsewhere" / "mbexp" / "results" / "store.py"))
    assert git_state.__wrapped__() is None  # installed: the folder is no checkout


def test_the_state_of_a_checkout_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mbexp" / "results").mkdir(parents=True)
    module = tmp_path / "mbexp" / "results" / "store.py"
    module.write_text("")
    command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*command, *words], check=True)
    monkeypatch.setattr("mbexp.results.store.__file__", str(module))
    state = git_state.__wrapped__()
    assert len(state["commit"]) == 40
    assert not state["modified"]
    module.write_text("changed")
    assert git_state.__wrapped__() == {**state, "modified": True}


def test_a_folder_that_cannot_take_its_name_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("mbexp.results.store.os.rename", refuse)
    with pytest.raises(UserError, match=r"writing failed \(Permission denied\)"), complete_folder(tmp_path / "run"):
        pass
    assert list(tmp_path.iterdir()) == []
