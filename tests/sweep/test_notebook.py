"""Sweeps and comparisons from Python: the same runs, tables and verdicts as by the command line."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import mbexp
from mbexp import UserError

Run = Callable[..., tuple[int, str, str]]

KEYS = {"num_requests": 200, "workload.rate_scaling": 20, "study.name": "mine"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_python_and_the_command_line_ask_for_the_same_runs(command: Run, tmp_path: Path) -> None:
    study = mbexp.sweep(
        scheduler=["static_fifo", "multi_bin_dynamic"],
        num_gpus=range(1, 3),
        sla={"request_s": 9},
        replications=2,
        jobs=1,
        **KEYS,
    )
    verdicts = study.verdicts
    command_again = json.loads((study.folder / "study.json").read_text())["command"]

    assert command_again[:4] == ["python", "-m", "mbexp", "-m"]
    code, out, _ = command(*command_again[3:])  # the command that the study says made it

    assert code == 0
    assert "(0 made, 4 stored before" in out
    frame = pd.read_csv(tmp_path / "outputs" / "mine" / "results.csv")
    assert frame["run"].tolist() == study.results["run"].tolist()
    assert frame["scheduler"].tolist() == study.results["scheduler"].tolist()
    assert frame["latency_p95_s"].tolist() == study.results["latency_p95_s"].tolist()
    assert study.results["sla.request_s"].tolist() == [9] * 4
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "outputs" / "mine" / "verdicts.csv"), verdicts)
    assert len(verdicts) > 0


def test_the_study_holds_its_frames_and_says_what_it_is() -> None:
    study = mbexp.sweep(num_gpus=[1, 2], seed=[4, 5], jobs=1, **KEYS)

    assert study.swept == ("num_gpus", "seed")
    assert study.results[["num_gpus", "seed"]].values.tolist() == [[1, 4], [1, 5], [2, 4], [2, 5]]
    first = mbexp.simulate(num_gpus=2, seed=5, num_requests=200, **{"workload.rate_scaling": 20})
    assert study.results["latency_mean_s"].iloc[3] == first.summary["latency_mean_s"]
    assert repr(study).startswith(f"Study of num_gpus, seed in {study.folder}\n")
    assert study._repr_html_().startswith("<pre>Study of num_gpus")
    assert len(study.verdicts) == len(study.best) == 0


def test_requests_of_every_replication_are_stored() -> None:
    study = mbexp.sweep(num_gpus=[1, 2], replications=3, jobs=1, output={"every_replication": True}, **KEYS)

    requests = study.requests()

    assert requests.groupby(["num_gpus", "seed"]).size().to_dict() == {(g, s): 200 for g in (1, 2) for s in (0, 1, 2)}
    latency = (requests["finish_s"] - requests["arrival_s"]).groupby([requests["num_gpus"], requests["seed"]]).mean()
    by_seed = study.by_seed.set_index(["num_gpus", "seed"])["latency_mean_s"]
    pd.testing.assert_series_equal(latency.sort_index(), by_seed.sort_index(), check_names=False)


def test_without_it_the_first_replication_is_stored() -> None:
    study = mbexp.sweep(replications=3, jobs=1, **KEYS)
    assert study.requests()["seed"].unique().tolist() == [0]
    study = mbexp.sweep(jobs=1, output={"requests": False}, **{**KEYS, "study.name": "none"})
    with pytest.raises(UserError, match=r"holds no requests; output.requests=true stores them"):
        study.requests()


def test_compare_gives_verdicts() -> None:
    told = mbexp.compare(3, scheduler=["static_fifo", "multi_bin_dynamic"], jobs=1, **KEYS)

    assert set(told["first"]) | set(told["second"]) == {"static_fifo", "multi_bin_dynamic"}
    assert (told["seeds"] == 3).all()
    assert told["verdict"].str.contains("multi_bin_dynamic").all()
    with pytest.raises(UserError, match="compare: nothing to compare"):
        mbexp.compare(2, jobs=1, **KEYS)
    with pytest.raises(UserError, match="seeds=1: a comparison needs at least 2"):
        mbexp.compare(1, num_gpus=[1, 2])


def test_workers_make_the_same_runs() -> None:
    alone = mbexp.sweep(num_gpus=[1, 2], jobs=1, **KEYS)
    # a limit of time asks for processes that can be ended
    shared = mbexp.sweep(num_gpus=[1, 2], jobs=2, study={"timeout_s": 300, "name": "shared"}, num_requests=200,
                         **{"workload.rate_scaling": 20})  # fmt: skip

    assert json.loads((shared.folder / "study.json").read_text())["workers"] == 2
    assert shared.results["run"].tolist() == alone.results["run"].tolist()
    assert shared.results["latency_mean_s"].tolist() == alone.results["latency_mean_s"].tolist()


def test_lists_are_swept_unless_the_key_takes_a_list() -> None:
    explicit = {"bins": "explicit", "num_requests": 200, "study.name": "edges"}
    one = mbexp.sweep(k_bins=2, jobs=1, **explicit, **{"bins.edges": [50]})
    assert one.swept == ()
    two = mbexp.sweep(k_bins=2, jobs=1, **explicit, **{"bins.edges": [[50], [90]]})
    assert two.swept == ("bins.edges",)
    assert two.results["bins.edges"].tolist() == ["[50]", "[90]"]


def test_a_mistake_in_any_point_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="num_gpus=0"):
        mbexp.sweep(num_gpus=[1, 0], **KEYS)
    with pytest.raises(UserError, match=r"num_gpus=.*: nothing to sweep over"):
        mbexp.sweep(num_gpus=[], **KEYS)
    assert not (tmp_path / "outputs").exists()


def test_the_names_of_the_package_are_those_it_shows() -> None:
    import mbexp.sweep.engine

    assert isinstance(mbexp.sweep, types.ModuleType)
    assert callable(mbexp.sweep)
    assert {"sweep", "compare", "metric", "simulate", "configure", "load_trace", "Result", "Trace"} <= set(dir(mbexp))
    assert all(hasattr(mbexp, name) for name in dir(mbexp))
