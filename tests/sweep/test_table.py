"""The tidy table: its rows, columns and types, as docs/sweeps.md promises them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mbexp import UserError
from mbexp.sweep.table import read_results, to_table, write_csv
from mbexp.sweep.text import short_number, text_table

Command = Callable[..., tuple[int, str, str]]


def test_swept_keys_come_first_then_what_identifies_a_run_then_every_metric(command: Command, tmp_path: Path) -> None:
    command("-m", "num_gpus=2,4", "scheduler=static_fifo,multi_bin_dynamic", "num_requests=200")
    folder = tmp_path / "outputs" / "sweep_num_gpus_scheduler"

    table = read_results(folder)

    assert list(table.columns[:3]) == ["num_gpus", "scheduler", "run"]
    assert table["num_gpus"].tolist() == [2, 2, 4, 4]
    assert table["scheduler"].tolist() == ["static_fifo", "multi_bin_dynamic"] * 2
    assert table.columns[-1] == "warnings"
    promised = {
        "run", "scheduler", "workload", "gpu", "predictor", "bins", "sla", "execution", "num_gpus", "k_bins",
        "num_requests", "seed", "replications", "workload.timestamps", "workload.rate_scaling", "sla.token_ms",
        "sla.request_s", "trace_source", "trace_sha256", "law", "num_bins",
    }  # fmt: skip
    assert promised <= set(table.columns)
    assert "wall_time_s" not in table.columns
    summary = json.loads((folder / table["run"][0] / "summary.json").read_text())
    left_out = {"wall_time_s", "bins"}
    assert set(summary) - left_out <= set(table.columns)
    assert table["bins"].tolist() == ["equal_mass"] * 4
    assert table["num_bins"].tolist() == [1, 4, 1, 4]
    for name in set(summary) - left_out:
        value = summary[name]
        assert (value is None and pd.isna(table[name][0])) or table[name][0] == value, name


def test_csv_and_parquet_hold_the_same(command: Command, tmp_path: Path) -> None:
    command("-m", "num_gpus=2,4", "num_requests=200")
    folder = tmp_path / "outputs" / "sweep_num_gpus"

    from_parquet = read_results(folder)
    from_csv = pd.read_csv(folder / "results.csv")

    assert list(from_csv.columns) == list(from_parquet.columns)
    for name in from_parquet.columns:
        if pd.api.types.is_numeric_dtype(from_parquet[name]):
            # pandas before 3 reads CSV with an error in the last bit
            here, there = from_csv[name].to_numpy(float), from_parquet[name].to_numpy(float)
            np.testing.assert_allclose(here, there, rtol=1e-15, err_msg=name)


def test_replications_have_means_half_widths_and_a_row_for_each_seed(command: Command, tmp_path: Path) -> None:
    code, out, _ = command("-m", "scheduler=static_fifo,multi_bin_dynamic", "num_requests=300", "num_gpus=16",
                           "replications=3", "seed=4")  # fmt: skip
    folder = tmp_path / "outputs" / "sweep_scheduler"
    assert code == 0

    means, seeds = read_results(folder), read_results(folder, by_seed=True)

    assert len(means) == 2
    assert seeds["seed"].tolist() == [4, 5, 6] * 2
    one = seeds[seeds["scheduler"] == "static_fifo"]["latency_mean_s"]
    assert means["latency_mean_s"][0] == pytest.approx(one.mean())
    assert means["latency_mean_s_half_width"][0] == pytest.approx(4.302653 * one.std() / np.sqrt(3), rel=1e-6)
    place = list(means.columns).index("latency_mean_s")
    assert means.columns[place + 1] == "latency_mean_s_half_width"
    assert not [name for name in seeds.columns if name.endswith("_half_width")]
    told = pd.read_csv(folder / "verdicts.csv")
    assert set(told["metric"]) == {"throughput_requests_per_s", "latency_p95_s", "request_sla_violation_pct"}
    assert "multi_bin_dynamic" in out.split("latency_p95_s")[-1]
    assert " ± " in out


def test_a_sweep_says_what_its_runs_say_and_windows_of_a_file_are_paired(command: Command, tmp_path: Path) -> None:
    rows = [f"{index / 50},10,{10 + index}" for index in range(400)]
    (tmp_path / "a.csv").write_text("arrival_s,prompt_tokens,output_tokens\n" + "\n".join(rows) + "\n")
    sweep = ("-m", "scheduler=static_fifo,dynamic_no_bins", "workload=csv", "workload.path=a.csv", "seed=0,1,2",
             "num_gpus=1", "++num_requests=100", "study.name=s")  # fmt: skip

    _, out, _ = command(*sweep)
    assert "No verdict: all 3 seeds gave the same results, which are one observation." in out
    assert "! seed: no value changed any result" in " ".join(out.split())
    assert not (tmp_path / "outputs" / "s" / "verdicts.csv").exists()
    _, out, _ = command(*sweep, "replicate=windows")
    said = " ".join(out.split())
    assert "! 6 of 6 runs: windows: window 1 to 3 of 4 consecutive ones of 100 requests each" in said
    which = r"! \d+ of 6 runs \([^)]*\b(?:scheduler|seed)=[^)]*\): overload: the queue grows "
    assert re.search(which + r".* at an offered load of [\d.]+ to [\d.]+;", said)
    assert "3 comparisons decided together (Holm)" in out
    assert set(pd.read_csv(tmp_path / "outputs" / "s" / "verdicts.csv")["seeds"]) == {3}


def test_a_study_that_would_not_sweep_is_refused(command: Command, tmp_path: Path) -> None:
    study = "defaults: [config, _self_]\nnum_requests: 50\nhydra: {sweeper: {params: {num_gpus: '1,2'}}}\n"
    (tmp_path / "mine.yaml").write_text(study)

    code, _, err = command("--config-dir", str(tmp_path), "-cn", "mine")
    assert code == 1
    assert err.startswith("mbexp: hydra.sweeper.params is set, but one run was asked for: add -m, or ")
    assert command("--config-dir", str(tmp_path), "-cn", "mine", "hydra.mode=RUN")[0] == 0


def test_a_run_asked_for_under_two_labels_has_two_rows(command: Command, tmp_path: Path) -> None:
    code, out, _ = command("-m", "study.label=one,other", "num_requests=100")

    assert code == 0
    assert "2 rows of 1 runs" in out
    table = read_results(tmp_path / "outputs" / "sweep_study.label")
    assert table["study.label"].tolist() == ["one", "other"]
    assert table["run"].nunique() == 1


def test_what_a_row_lacks_is_null_and_kinds_are_kept(tmp_path: Path) -> None:
    table = to_table([{"a": 1, "b": 1.5, "flag": True, "warnings": "x\ny"}, {"a": 2, "c": "text", "warnings": ""}])

    assert table.to_pydict() == {
        "a": [1, 2], "b": [1.5, None], "flag": [True, None], "c": [None, "text"], "warnings": ["x\ny", ""],
    }  # fmt: skip
    write_csv(table, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        assert list(csv.reader(file))[1] == ["1", "1.5", "true", "", "x\ny"]


def test_a_folder_without_a_table_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no sweep is stored there"):
        read_results(tmp_path)


def test_a_table_that_cannot_be_written_says_that_the_runs_are_stored(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the runs are stored"):
        write_csv(to_table([{"a": 1}]), tmp_path / "nowhere" / "t.csv")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float("nan"), "-"), (float("inf"), "-"), (12_345.0, "12,345"), (0.0, "0"), (12_345.6, "12,346"),
        (12.345, "12.3"), (0.012345, "0.0123"), (0.00012345, "0.000123"), (1.5e9, "1.5e+09"),
    ],
)  # fmt: skip
def test_numbers_are_short_and_never_wrong_by_more_than_a_half_in_the_last_digit(value: float, text: str) -> None:
    assert short_number(value) == text


def test_what_does_not_fit_follows_below_after_the_columns_that_name_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second table repeats as many of the first columns as leave room, and a column that is too wide is alone."""
    metrics = ("latency_p95_s", "throughput_requests_per_s", "batch_size_mean", "batch_size_max", "queue_delay_max_s")
    rows = [
        {"num_gpus": gpus, "scheduler.selection": "a" * 20, **dict.fromkeys(metrics, 1.5), "folder": "f" * 75}
        for gpus in (2, 4)
    ]
    monkeypatch.setenv("COLUMNS", "80")
    lines = text_table(rows, [*rows[0]])
    tables = [part.splitlines() for part in "\n".join(lines).split("\n\n")]
    assert [table[-1].split()[0] for table in tables] == ["4", "4", "f" * 75]
    assert "a" * 20 in tables[1][-1]
    assert len(tables[2]) == 3  # a head of one line above two rows
    assert max(map(len, lines)) <= 80
    assert all(line.strip() for table in tables for line in table)
    monkeypatch.setenv("COLUMNS", "200")
    assert len(text_table(rows, [*rows[0]])) == 3
