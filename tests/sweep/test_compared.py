"""Verdicts over whatever was swept: the right pairs, and the numbers of a direct computation from the stored runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mbexp.config.compose import configure
from mbexp.errors import UserError
from mbexp.sweep.sides import metrics_of, settings_keys, sides_key
from mbexp.sweep.told import MOST, verdict_lines
from mbexp.sweep.verdicts import verdicts

Command = Callable[..., tuple[int, str, str]]

SMALL = ("workload=synthetic", "num_gpus=2", "num_requests=400", "replications=4", "study.name=s")
RULE = """
from mbexp.rules import bin_selection

@bin_selection
def longest_bin(now_s, queues, memory, parameters):
    found = queues.ready[0]
    for place in range(queues.ready_count):
        found = max(found, queues.ready[place])
    return found
"""


def check(folder: Path, key: str, settings: list[str], metrics: list[str]) -> pd.DataFrame:
    """Compare every row of ``verdicts.csv`` with a t test on the stored values, and its pairs with all there are."""
    told = pd.read_csv(folder / "verdicts.csv")
    seeds = pd.read_csv(folder / "replications.csv")
    groups = seeds.groupby(settings) if settings else [((), seeds)]
    expected = set()
    for where, part in groups:
        sides = part[key].unique()
        expected |= {
            (*where, metric, *sorted((a, b))) for a, b in itertools.combinations(sides, 2) for metric in metrics
        }
    assert {
        (*(row[name] for name in settings), row["metric"], *sorted((row["first"], row["second"])))
        for _, row in told.iterrows()
    } == expected
    for _, row in told.iterrows():
        part = seeds
        for name in settings:
            part = part[part[name] == row[name]]
        first, second = (
            part[part[key] == row[side]].set_index("seed")[row["metric"]].sort_index() for side in ("first", "second")
        )
        assert list(first.index) == list(second.index)
        assert row["difference"] == pytest.approx((first - second).mean(), abs=1e-9)
        if row["metric"].endswith("_pct") or min(first.min(), second.min()) <= 0:
            continue  # the step of a share is the least spread of its differences, which a t test knows nothing of
        ratio = np.log(first / second)
        if np.ptp(ratio) > 1e-9:
            assert row["p_value"] == pytest.approx(stats.ttest_1samp(ratio, 0).pvalue, rel=1e-6)
            assert row["relative_pct"] == pytest.approx(100 * (np.exp(ratio.mean()) - 1), rel=1e-6)
    return told


def test_a_swept_rule_is_compared_at_each_load(command: Command, tmp_path: Path) -> None:
    (tmp_path / "my_rules.py").write_text(RULE)
    code, out, errors = command(
        "-m", *SMALL, "scheduler=multi_bin_static", "scheduler.fill=greedy", "workload.arrivals.rate_per_s=2,20",
        "scheduler.selection=first_formed,shortest_bin,my_rules.longest_bin",
        "study.metrics=[latency_p95_s,ttft_mean_s]",
    )  # fmt: skip
    assert code == 0, errors
    told = check(tmp_path / "outputs" / "s", "scheduler.selection", ["workload.arrivals.rate_per_s"],
                 ["latency_p95_s", "ttft_mean_s"])  # fmt: skip
    assert "my_rules.longest_bin" in {*told["first"], *told["second"]}
    assert f"{len(told)} comparisons decided together (Holm)" in out


def test_another_swept_key_is_compared_without_being_named(command: Command, tmp_path: Path) -> None:
    code, _, errors = command("-m", *SMALL, "scheduler=multi_bin_static", "scheduler.fill=greedy,full")
    assert code == 0, errors
    told = check(tmp_path / "outputs" / "s", "scheduler.fill", [],
                 ["throughput_requests_per_s", "latency_p95_s", "request_sla_violation_pct"])  # fmt: skip
    assert len(told) == 3


def test_labels_are_compared_whatever_keys_they_stand_for(command: Command, tmp_path: Path) -> None:
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "own.yaml").write_text(
        "defaults:\n  - config\n  - override workload: synthetic\n  - _self_\n"
        "study: {name: s}\nnum_requests: 400\nreplications: 4\nhydra:\n  mode: MULTIRUN\n  sweeper:\n"
        "    params: {num_gpus: '1,2'}\n    points:\n"
        "      - {study.label: one queue, scheduler: static_fifo}\n"
        "      - {study.label: bins, scheduler: multi_bin_static, scheduler.fill: greedy}\n"
        "      - {study.label: short first, scheduler: multi_bin_static, scheduler.fill: greedy,"
        " scheduler.selection: shortest_bin}\n"
    )
    code, _, errors = command("--config-dir", "my", "-cn", "own")
    assert code == 0, errors
    told = check(tmp_path / "outputs" / "s", "study.label", ["num_gpus"],
                 ["throughput_requests_per_s", "latency_p95_s", "request_sla_violation_pct"])  # fmt: skip
    assert len(told) == 2 * 3 * 3


def test_a_side_that_does_not_set_a_key_meets_the_others_at_each_of_its_values() -> None:
    """Whole prompts have no token budget: they meet every budget of chunked ones, and budgets meet none."""
    rows = [
        {"study.label": label, "seed": seed, "throughput_requests_per_s": 10.0 + seed**2 + 3 * place, **budget}
        for place, (label, budget) in enumerate(
            [("chunked", {"execution.token_budget": 128}), ("chunked", {"execution.token_budget": 256}), ("whole", {})]
        )
        for seed in range(3)
    ]
    told = verdicts(rows, ["study.label", "execution.token_budget"])

    assert [(row["execution.token_budget"], row["first"], row["second"]) for row in told] == [
        (128, "whole", "chunked"), (256, "whole", "chunked"),
    ]  # fmt: skip
    assert [row["difference"] for row in told] == [pytest.approx(6.0), pytest.approx(3.0)]


def test_loads_are_never_taken_for_a_part_of_a_side() -> None:
    """Sides at two loads met other requests: nothing is compared, though the label would tell the load."""
    points = [{"study.label": "a", "workload.rate_scaling": 1}, {"study.label": "b", "workload.rate_scaling": 2}]
    swept = ["study.label", "workload.rate_scaling"]

    assert settings_keys("study.label", swept, points) == ["workload.rate_scaling"]
    rows = [point | {"seed": seed, "latency_p95_s": seed + 1.0} for point in points for seed in range(3)]
    assert verdicts(rows, swept) == []


def test_runs_that_are_missing_do_not_change_what_is_compared() -> None:
    """Side a is stored at one number of bins and side b at another: they are not taken for a pair."""
    points = [{"scheduler": side, "k_bins": k} for side in "ab" for k in (1, 2)]
    rows = [
        point | {"seed": seed, "latency_p95_s": seed + 1.0 + place}
        for place, point in enumerate([points[0], points[3]])
        for seed in range(3)
    ]
    assert verdicts(rows, ["scheduler", "k_bins"], points=points) == []


def test_the_compared_key_by_default() -> None:
    crossed = [{"scheduler": s, "study.label": label} for s in "ab" for label in "xy"]
    paired = [{"scheduler": s, "study.label": label} for s, label in ("ax", "bx", "ay")]
    alone = [{"scheduler": s, "study.label": label} for s, label in ("ax", "by", "bz")]
    both = ["scheduler", "study.label"]

    assert sides_key(both, points=crossed) == "scheduler"  # a label of workloads, say
    assert sides_key(both, points=paired) == "scheduler"
    assert sides_key(both, points=alone) == "study.label"  # each label has one scheduler
    assert sides_key(["seed", "workload.rate_scaling", "num_gpus", "bins"]) == "bins"
    assert sides_key(["bins", "k_bins"]) is None
    assert sides_key(["bins", "k_bins"], "k_bins") == "k_bins"


def test_what_cannot_be_compared_is_said_before_a_run(command: Command, tmp_path: Path) -> None:
    _, _, errors = command("-m", *SMALL, "k_bins=1,2", "study.compare=k_bin")
    assert "study.compare=k_bin: no such choice (did you mean 'k_bins'?)" in errors
    _, _, errors = command("-m", *SMALL, "k_bins=1,2", "study.metrics=[latency_p95]")
    assert "study.metrics=latency_p95: no such choice (did you mean 'latency_p95_s'?)" in errors
    _, _, errors = command("-m", *SMALL, "k_bins=1,2", "study.metrics=[num_batches]")
    assert "study.metrics=num_batches: more of it is neither better nor worse" in errors
    assert not list((tmp_path / "outputs").glob("s/*/summary.json"))
    with pytest.raises(UserError, match="no such choice"):
        metrics_of(["speed"])


def test_many_settings_are_a_small_table_of_what_matters() -> None:
    """Side b is twice as fast at four of five loads, and sides c to h differ in nothing: one line says so."""
    rng = np.random.default_rng(5)
    rows = []
    for load, seed in itertools.product(range(5), range(4)):
        shared = 10 + rng.random()
        for side in "abcdefgh":
            value = shared * (2 if side == "b" and load else 1) * (1 + 1e-4 * rng.random())
            rows.append({"scheduler": side, "workload.rate_scaling": load, "seed": seed, "latency_p95_s": 1 / value})
    study = configure().study
    swept = ["scheduler", "workload.rate_scaling", "seed"]
    told = verdicts(rows, swept, metrics=["latency_p95_s"])
    lines = verdict_lines(told, rows, swept, study, rows)

    assert len(lines) <= MOST + 6
    assert max(map(len, lines)) <= 100
    won = [line.split() for line in lines if line.split()[:2] == ["latency_p95_s", "b"]]
    assert len(won) == 7
    assert all(line[3:6] == ["4", "of", "5"] for line in won)
