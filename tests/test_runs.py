"""The list of stored runs: what it finds, filters and shows."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mbexp import metric, runs, simulate
from mbexp.results import index
from mbexp.results.catalogue import metric as metric_rows
from mbexp.results.store import save
from mbexp.runs import main, matches, stored_runs
from mbexp.sweep.text import text_table

NOT_WHOLE = "mbexp: not listed: outputs/broken/provenance.json: missing\n"
List = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a single run and a sweep of two in ``outputs``, and with what is none."""
    folder = tmp_path_factory.mktemp("runs")
    outputs = folder / "outputs"
    one = simulate(num_requests=100, num_gpus=7, scheduler="static_fifo")
    save(one, outputs / "20260101T000000.000000Z_static_fifo_0123456789ab", [])
    for key, k in (("aaaaaaaaaaaa", 2), ("bbbbbbbbbbbb", 4)):
        save(simulate(num_requests=100, num_gpus=16, k_bins=k), outputs / "sweep_k_bins" / key, [])
    for name, content in ((".x.1.partial", "{}"), ("broken", "{")):
        (outputs / name).mkdir()
        (outputs / name / "summary.json").write_text(content)
    return folder


@pytest.fixture
def listed(store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> List:
    """Return a function that lists the runs of `store`."""
    monkeypatch.chdir(store)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> tuple[int, str, str]:
        code = main(words)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_single_runs_and_runs_of_sweeps_are_listed(listed: List) -> None:
    code, out, err = listed()

    assert (code, err) == (0, NOT_WHOLE)
    lines = out.splitlines()
    assert lines[-1] == "3 runs"
    assert sum("outputs/" in line for line in lines) == 3
    assert sum("static_fifo" in line for line in lines) == 1
    assert sum(line.count("sweep_k_bins") == 2 for line in lines) == 2  # the study, and in the folder


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        (["scheduler=static_fifo"], 1),
        (["scheduler=multi*"], 2),
        (["scheduler!=multi*"], 1),
        (["num_gpus>=8", "k_bins<4"], 1),
        (["num_gpus=16", "k_bins=4"], 1),
        (["request_sla_violation_pct<=100"], 3),
        (["study=sweep_k_bins"], 2),
        (["study=null"], 1),
        (["workload.path!=null"], 0),
        (["output.batches=true"], 3),
        (["outputs/sweep_k_bins"], 2),
    ],
)
def test_filters(listed: List, filters: list[str], count: int) -> None:
    code, out, _ = listed(*filters)

    assert code == 0
    expected = f"{count} runs" if count else "no stored run meets that"
    assert out.splitlines()[-1] == expected


def test_order_columns_limit_and_csv(listed: List) -> None:
    _, out, _ = listed(
        "--sort", "num_gpus", "--reverse", "--columns", "run,num_gpus,scheduler", "--csv", "--limit", "2"
    )

    rows = list(csv.reader(io.StringIO(out)))
    assert rows[0] == ["run", "num_gpus", "scheduler.name"]
    assert [row[1:] for row in rows[1:]] == [["16", "multi_bin_dynamic"], ["7", "static_fifo"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["num_gpu=3"], "mbexp: num_gpu: no stored run has such a key (did you mean 'num_gpus'?)\n"),
        (["--sort", "nope"], "mbexp: nope: no stored run has such a key\n"),
        (["elsewhere"], "mbexp: elsewhere: no such folder\n"),
    ],
)
def test_mistakes_are_one_line(listed: List, words: list[str], message: str) -> None:
    code, _, err = listed(*words)

    assert (code, err.removeprefix(NOT_WHOLE)) == (1, message)


def test_nothing_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == "no stored runs\n"


def test_rows_hold_configuration_and_metrics(listed: List) -> None:
    first, *_ = [row for row in stored_runs(Path("outputs")) if row["num_gpus"] == 7]

    assert first["gpu.law.kind"] == "affine"
    assert first["bins.kind"] == "equal_mass"
    assert first["num_bins"] == 1
    assert first["completed_requests"] == 100


@pytest.mark.parametrize(
    ("value", "condition", "expected"),
    [
        (3, ("a", "=", "3.0"), True),
        (1_000, ("a", ">", "9_99"), True),
        (3, ("a", "=", "x"), False),
        (3, ("a", "!=", "x"), True),
        (None, ("a", "=", "null"), True),
        (None, ("a", ">", "3"), False),
        (None, ("a", "!=", "3"), True),
        (True, ("a", "=", "true"), True),
        ("b", ("a", ">", "a"), True),
    ],
)
def test_a_condition(value: object, condition: tuple[str, str, str], expected: bool) -> None:
    assert matches({"a": value}, condition) is expected


def test_metrics_of_ones_own_are_listed_with_their_labels(
    listed: List, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index alone must know them: a command that reads no run has seen none of their code."""

    def forget() -> None:
        for key in [*metric_rows._OWN]:
            del metric_rows._ROWS[key]
        metric_rows._OWN.clear()

    @metric(better="lower", label="Last end")
    def last_end_s(requests: pd.DataFrame) -> float:
        return float(requests["finish_s"].max())

    monkeypatch.setenv("MBEXP_CACHE", str(tmp_path / "cache"))
    shown: list[list[str]] = []
    monkeypatch.setattr(runs, "text_table", lambda rows, keys: (shown.append(keys), text_table(rows, keys))[1])
    monkeypatch.setattr(index, "INDEXED_FROM", 1)
    result = simulate(num_requests=50, metrics=[last_end_s])
    folder = tmp_path / "runs" / "cccccccccccc"
    save(result, folder, [])
    for read_again in (True, False):
        forget()
        if not read_again:
            monkeypatch.setattr(index, "read_run", None)
        assert listed(str(tmp_path / "runs"))[0] == 0
        assert shown[-1][-2:] == ["last_end_s", "folder"]
        out = listed(str(tmp_path / "runs"), "--columns", "run,last_end_s")[1]
        assert "last end (s)" in out.lower()
        assert float(out.splitlines()[1].split()[1]) == pytest.approx(result.summary["last_end_s"], abs=0.06)
    assert listed(str(tmp_path / "runs"), "last_end_s<0")[1] == "no stored run meets that\n"
    forget()
