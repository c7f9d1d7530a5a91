"""Every study of conf/ composes, opens with its command and its question, and runs at a reduced size."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mbexp.paths import config_dir
from mbexp.sweep.table import read_results

Command = Callable[..., tuple[int, str, str]]

STUDIES = sorted(path.stem for path in config_dir().glob("*.yaml") if path.stem != "config")
NAMED = {
    "compare", "request_scaling", "gpu_scaling", "k_bins", "grid_search", "method_comparison", "multi_bin_throughput",
}  # fmt: skip


def test_the_studies_that_are_promised_are_there() -> None:
    assert set(STUDIES) >= NAMED


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_opens_with_its_command_and_its_question(study: str) -> None:
    first, *rest = (config_dir() / f"{study}.yaml").read_text().splitlines()

    assert re.match(rf"# python -m mbexp -cn {study}( |$)", first)
    comment = [line for line in rest if line.startswith("# ")]
    assert comment
    assert all(len(line) <= 140 for line in rest)


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_runs_at_a_reduced_size(study: str, command: Command, tmp_path: Path) -> None:
    given = ["num_requests=60", "replications=1"]
    if study == "prefix_mooncake":  # its trace is downloaded; this one is as long as the test needs
        path = tmp_path / "trace.jsonl"
        blocks = ([n % 7, 7 + n % 5, 12 + n] for n in range(120))
        rows = (
            {"timestamp": 900 * n, "input_length": 1200, "output_length": 40, "hash_ids": ids}
            for n, ids in enumerate(blocks)
        )
        path.write_text("\n".join(map(json.dumps, rows)) + "\n")
        given.append(f"workload.path={path}")
    code, out, err = command("-cn", study, *given)

    assert code == 0, err
    folders = [path.parent for path in (tmp_path / "outputs").glob("*/study.json")]
    folder = next(path for path in folders if path.name.startswith(study))
    told = json.loads((folder / "study.json").read_text())
    assert told["config_name"] == study
    assert told["question"]
    assert told["failures"] == []
    table = read_results(folder)
    assert set(table["run"]) == set(told["runs"])
    assert set(told["swept"]) <= set(table.columns)
    assert table["completed_requests"].eq(60).all() or table["rejected_requests"].gt(0).any()
    assert f"{len(table)} rows of" in out


def test_a_study_is_narrowed_and_takes_another_workload(command: Command, tmp_path: Path) -> None:
    code, _, err = command("-cn", "gpu_scaling", "num_gpus=1,2", "k_bins=2", "workload=synthetic", "num_requests=60",
                           "workload.rate_scaling=1")  # fmt: skip

    assert code == 0, err
    table = read_results(tmp_path / "outputs" / "gpu_scaling")
    assert table["num_gpus"].tolist() == [1, 2]
    assert set(table["workload"]) == {"synthetic"}


def test_a_study_runs_on_a_real_trace(command: Command, shared_trace: Callable[[str], Path], tmp_path: Path) -> None:
    path = shared_trace("AzureLLMInferenceTrace_conv.csv")

    code, _, err = command("-cn", "gpu_scaling", "num_gpus=1,2", "k_bins=2", "workload=azure", "num_requests=60",
                           "workload.rate_scaling=1", f"workload.path={path}")  # fmt: skip

    assert code == 0, err
    assert set(read_results(tmp_path / "outputs" / "gpu_scaling")["workload"]) == {"azure"}


def test_grid_search_ends_with_the_configuration_of_each_load(command: Command, tmp_path: Path) -> None:
    code, out, _ = command("-cn", "grid_search", "num_requests=60,90", "num_gpus=1,64,100", "k_bins=1,2",
                           "workload.rate_scaling=1")  # fmt: skip

    assert code == 0
    assert "Fewest GPUs with at most 5 % of requests over 20 s and at most 5 % of tokens over 10 ms:" in out
    assert "Judged by one run each, so without an interval" in out
    assert "Each is chosen from 6 configurations" in out
    import pandas as pd

    best = pd.read_csv(tmp_path / "outputs" / "grid_search_1x" / "best.csv")
    assert best["num_requests"].tolist() == [60, 90]
    assert best["tried"].tolist() == [6, 6]
    table = read_results(tmp_path / "outputs" / "grid_search_1x")
    for row in best.itertuples():
        load = table[table["num_requests"] == row.num_requests]
        meeting = load[load["request_sla_violation_pct"] <= 5]
        assert row.meets_target == bool(len(meeting))
        if len(meeting):
            assert row.num_gpus == meeting["num_gpus"].min()


def test_method_comparison_completes_the_grid_and_stands_at_equal_gpus(command: Command, tmp_path: Path) -> None:
    narrow = ("num_requests=60", "num_gpus=1,2", "k_bins=1,2", "workload.rate_scaling=10")
    code, out, err = command("-cn", "method_comparison", *narrow)
    assert code == 0, err

    again = command("-cn", "method_comparison", *narrow)[1]

    assert "4 rows of 4 runs in outputs/grid_search_10x  (4 made, 0 stored before" in out
    assert "(0 made, 4 stored before" in again
    told = json.loads((tmp_path / "outputs" / "grid_search_10x" / "study.json").read_text())
    assert told["command"][:5] == ["python", "-m", "mbexp", "-cn", "grid_search"]
    table = read_results(tmp_path / "outputs" / "method_comparison_10x")
    import pandas as pd

    best = pd.read_csv(tmp_path / "outputs" / "grid_search_10x" / "best.csv").iloc[0]
    of = table.set_index("study.label")
    assert of.loc["static_fifo", "num_gpus"] == 1
    assert of.loc["multi_bin_dynamic", ["num_gpus", "k_bins"]].tolist() == [1, 8]
    assert of.loc["best multi_bin_dynamic", ["num_gpus", "k_bins"]].tolist() == [best.num_gpus, best.k_bins]
    equal = of[of.index.str.endswith("at equal GPUs")]
    assert set(equal["num_gpus"]) == {best.num_gpus}
    assert set(equal["scheduler"]) == {"static_fifo", "dynamic_no_bins", "multi_bin_dynamic"}
