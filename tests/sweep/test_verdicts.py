"""Verdicts of a sweep: sides paired by seed, one setting at a time."""

from __future__ import annotations

from typing import Any

import pytest

from mbexp.sweep.verdicts import sides_key, verdicts


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
    """The sides differ by exactly 1 for every seed, though seeds differ by far more."""
    told = verdicts(rows(a=[10.0, 50.0, 90.0], b=[11.0, 51.0, 91.0]), ["scheduler", "seed"])

    assert [(each["metric"], each["winner"]) for each in told] == [
        ("throughput_requests_per_s", "b"), ("latency_p95_s", "b"),
    ]  # fmt: skip
    first = told[0]
    assert (first["first"], first["second"], first["seeds"]) == ("b", "a", 3)
    assert first["difference"] == pytest.approx(1)
    assert first["difference_half_width"] == pytest.approx(0, abs=1e-9)
    assert first["relative_pct"] == pytest.approx(2)
    assert first["verdict"].startswith("b beats a by 2")


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
