"""Metrics of the user's own: keys of summaries, columns of sweeps, and rows of the catalogue after the run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

import mbexp
from mbexp import UserError, metric
from mbexp.results.catalogue import catalogue, find_column
from mbexp.results.catalogue.metric import _OWN, _ROWS
from mbexp.sweep.table import read_results

Run = Callable[..., tuple[int, str, str]]

FILE = '''
from mbexp import metric

@metric(better="lower", label="Wait of nine in ten")
def own_wait_p90_s(requests):
    """The wait that nine in ten stay below."""
    return (requests["start_s"] - requests["arrival_s"]).quantile(0.9)

@metric
def own_members(requests, batches):
    return batches["size"].max()

@metric
def own_text(requests):
    return "many"

@metric
def own_broken(requests):
    return requests["nothing"].max()

def plain(requests):
    return 1.0
'''


@pytest.fixture(autouse=True)
def as_before():
    before = dict(_ROWS), set(_OWN)
    yield
    for known, now in zip(before, (_ROWS, _OWN), strict=True):
        now.clear()
        now.update(known)


@pytest.fixture
def own(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A module whose name no other test has: Python imports each name once."""
    name = f"own_metrics_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(FILE)
    return name


def test_a_metric_of_a_file_is_a_key_of_the_summary(command: Run, tmp_path: Path, own: str) -> None:
    code, _, err = command(
        f"metrics=[{own}.own_wait_p90_s,{own}.own_members]", "num_requests=500", "warm_up.share_pct=20",
        "gpu.kv_capacity_tokens=2000",
    )  # fmt: skip

    assert (code, err) == (0, "")
    (run,) = [path for path in (tmp_path / "outputs").iterdir() if path.is_dir()]
    summary = json.loads((run / "summary.json").read_text())
    rows = parquet.read_table(run / "requests.parquet").to_pylist()
    served = [row for row in rows if row["status"] == "completed"]
    assert len(served) < 500  # some fit into no GPU
    waits = [row["start_s"] - row["arrival_s"] for row in served[len(served) * 20 // 100 :]]
    assert summary["own_wait_p90_s"] == pytest.approx(float(np.quantile(waits, 0.9)), rel=1e-12)
    sizes = [sum(row["batch"] == batch for row in served) for batch in {row["batch"] for row in served}]
    assert summary["own_members"] == max(sizes)


def test_it_is_a_column_of_a_sweep_that_is_known_without_its_code(command: Run, tmp_path: Path, own: str) -> None:
    code, _, err = command("-m", f"metrics=[{own}.own_wait_p90_s]", "num_gpus=1,2", "num_requests=300",
                           "replications=2", "study.name=mine")  # fmt: skip
    assert (code, err) == (0, "")
    del _ROWS["own_wait_p90_s"]
    _OWN.discard("own_wait_p90_s")

    frame = read_results(tmp_path / "outputs" / "mine")

    assert frame["own_wait_p90_s"].gt(0).all()
    assert frame["own_wait_p90_s_half_width"].notna().all()
    row = find_column("own_wait_p90_s")
    assert row is not None
    assert (row.unit, row.better, row.axis_label) == ("s", "lower", "Wait of nine in ten (s)")
    assert row.definition == "The wait that nine in ten stay below."


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_text", "gives str, not a number"),
        ("own_broken", "failed with KeyError: 'nothing'"),
        ("plain", "is no metric; decorate the function with mbexp.metric"),
        ("own_wait_p90", "(did you mean 'own_wait_p90_s'?)"),
    ],
)
def test_what_is_no_metric_is_named(name: str, message: str, command: Run, own: str) -> None:
    code, _, err = command(f"metrics=[{own}.{name}]", "num_requests=50")

    assert code == 1
    assert err.count("\n") == 1
    assert f"metrics={own}.{name}" in err
    assert message in err
    if name in ("own_broken", "plain"):
        assert re.search(rf"\({own}\.py line \d+", err)


def test_a_path_needs_a_module(command: Run) -> None:
    code, _, err = command("metrics=[wait]", "num_requests=50")
    assert code == 1
    assert "metrics=wait: must be the dotted path" in err


def test_functions_of_a_notebook(make_trace: Callable) -> None:
    @metric(key="own_span_s", better="lower")
    def span(requests):
        return requests["finish_s"].max() - requests["arrival_s"].min()

    trace = make_trace([0.0, 0.5, 3.0], [5, 6, 7])
    result = mbexp.simulate(trace, metrics=[span])

    assert result.summary["own_span_s"] == pytest.approx(result.summary["makespan_s"])
    assert catalogue()["own_span_s"].unit == "s"

    @metric(key="own_span_s", better="higher")  # the cell is run again
    def span_again(requests):
        return math.nan

    assert math.isnan(mbexp.simulate(trace, metrics=span_again).summary["own_span_s"])
    assert catalogue()["own_span_s"].better == "higher"


def test_names_and_units_are_those_of_the_catalogue() -> None:
    with pytest.raises(UserError, match="metric latency_mean_s: mbexp has a metric of this name"):
        metric(key="latency_mean_s")(lambda requests: 1.0)
    with pytest.raises(UserError, match="unit=ms: a name with this ending is in s"):
        metric(key="own_delay_s", unit="ms")(lambda requests: 1.0)


def test_a_metric_is_part_of_what_a_run_is_known_by(tmp_path: Path, own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mbexp.results.store import named_files, run_key

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = mbexp.configure(metrics=[f"{own}.own_wait_p90_s"])
    first = run_key(config, "", named_files(config))
    assert first != run_key(mbexp.configure(), "")
    (tmp_path / f"{own}.py").write_text(FILE.replace("0.9)", "0.8)"))
    assert first != run_key(config, "", named_files(config))
