"""Verdicts of a sweep: sides paired by seed, one setting at a time."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pytest

from mbexp.sweep.sides import sides_key
from mbexp.sweep.verdicts import observations, verdicts, without_effect


def rows(**sides: list[float]) -> list[dict[str, Any]]:
    return [
        {
            "scheduler": side,
            "seed": seed,
            "throughput_requests_per_s": value,
            "latency_p95_s": 100 - value,
            "request_sla_violation_pct": None,
        }
        for side, values in sides.items()
        for seed, value in enumerate(values)
    ]


def test_pairs_of_the_same_seed_are_compared() -> None:
    """The sides differ by about a tenth for every seed, though seeds differ by far more."""
    told = verdicts(rows(a=[10.0, 50.0, 90.0], b=[11.0, 55.1, 98.9]), ["scheduler", "seed"])

    assert [(each["metric"], each["winner"]) for each in told] == [
        ("throughput_requests_per_s", "b"), ("latency_p95_s", None),
    ]  # fmt: skip
    first = told[0]
    assert (first["first"], first["second"], first["seeds"]) == ("b", "a", 3)
    assert first["difference"] == pytest.approx(5.0)
    # the clearer of two comparisons must show at 97.5 %: t(0.9875, 2) = 6.205347
    logs = [math.log(11 / 10), math.log(55.1 / 50), math.log(98.9 / 90)]
    middle, half = statistics.mean(logs), 6.205347 * statistics.stdev(logs) / math.sqrt(3)
    assert first["relative_pct"] == pytest.approx(100 * math.expm1(middle))
    assert first["relative_low_pct"] == pytest.approx(100 * math.expm1(middle - half), rel=1e-6)
    assert first["relative_high_pct"] == pytest.approx(100 * math.expm1(middle + half), rel=1e-6)
    assert first["verdict"].startswith("b beats a by 10.0")
    assert (first["comparisons"], first["interval_pct"]) == (2, pytest.approx(97.5))
    assert first["p_value_corrected"] == pytest.approx(2 * first["p_value"])


def test_copies_of_one_run_are_no_verdict() -> None:
    """A trace file gives every seed the same requests: three runs that are copies show nothing."""
    copies = rows(a=[10.0] * 3, b=[11.0] * 3)

    assert verdicts(copies, ["scheduler", "seed"]) == []
    assert observations(copies, ["scheduler", "seed"]) == 1
    # of two copies and one other run there are two observations
    told = verdicts(rows(a=[10.0, 10.0, 20.0], b=[11.0, 11.0, 21.1]), ["scheduler", "seed"])
    assert {each["seeds"] for each in told} == {2}


def test_a_table_of_equal_sides_seldom_names_a_winner() -> None:
    """Four equal sides, three metrics, as a study tells them: at most one table in twenty errs."""
    generator = np.random.default_rng(np.random.SeedSequence([7, 11]))
    wrong = []
    for _ in range(150):
        shared = generator.normal(50, 5, 5)
        table = rows(**{side: list(shared + generator.normal(0, 1, 5)) for side in "abcd"})
        table = [row | {"request_sla_violation_pct": 50 + generator.normal()} for row in table]
        told = verdicts(table, ["scheduler", "seed"])
        assert len(told) == 18
        wrong.append(any(each["winner"] for each in told))
    assert np.mean(wrong) <= 0.05 + 2 * 0.018


def test_keys_that_change_nothing_are_found() -> None:
    table = [
        row | {"num_gpus": gpus, "workload.rate_scaling": scaling}
        for scaling in (1, 10)
        for gpus in (1, 2)
        for row in rows(a=[1.0 * gpus, 2.0 * gpus])
    ]
    swept = ["workload.rate_scaling", "num_gpus", "scheduler", "seed"]

    assert without_effect(table, swept) == ["workload.rate_scaling"]
    assert without_effect(table, ["num_gpus", "seed", "scheduler"]) == []
    assert without_effect([], swept) == []


def test_no_difference_is_no_verdict() -> None:
    told = verdicts(rows(a=[10.0, 12.0, 11.0], b=[11.0, 11.0, 11.5]), ["scheduler", "seed"])

    assert told[0]["winner"] is None
    assert told[0]["verdict"].startswith("no difference shown between b and a")


def test_one_seed_and_seeds_that_do_not_match_say_nothing() -> None:
    assert verdicts(rows(a=[1.0], b=[2.0]), ["scheduler"]) == []
    apart = rows(a=[1.0, 2.0]) + [row | {"seed": row["seed"] + 10} for row in rows(b=[1.0, 2.0])]
    assert verdicts(apart, ["scheduler", "seed"]) == []


def test_settings_are_compared_apart() -> None:
    table = [row | {"num_gpus": gpus} for gpus in (1, 2) for row in rows(a=[1.0, 2.0], b=[2.0, 3.5], c=[1.0, 1.0])]

    told = verdicts(table, ["num_gpus", "scheduler", "seed"])

    assert len(told) == 2 * 2 * 3  # settings, metrics that exist, pairs
    assert {each["num_gpus"] for each in told} == {1, 2}


def test_labels_name_the_sides_where_there_are_any() -> None:
    assert sides_key(["scheduler", "study.label", "num_gpus"]) == "study.label"
    assert sides_key(["num_gpus"]) is None
    table = [
        row | {"study.label": row["scheduler"], "num_gpus": gpus}
        for gpus, side in ((1, "a"), (9, "b"))
        for row in rows(**{side: [1.0, 2.0]})
    ]
    (first, *_) = verdicts(table, ["study.label", "num_gpus"])  # a label stands for its number of GPUs
    assert (first["first"], first["second"]) == ("b", "a")
