"""The best configuration of each load, against a plain reading of the rule and the original's own choices."""

from __future__ import annotations

import csv
from typing import Any

import pytest

from mbexp.results.targets import parse
from mbexp.sweep.best import best_configurations, compared_keys, load_keys
from mbexp.sweep.ending import _left_open
from tests import SHARED

ORIGINAL = SHARED / "reference" / "original_results"


def row(gpus: int, k: int, violation: float | None, **more: Any) -> dict[str, Any]:
    return {"num_gpus": gpus, "k_bins": k, "request_sla_violation_pct": violation, "run": f"{gpus}-{k}", **more}


SWEPT = ["num_gpus", "k_bins"]


def test_the_fewest_gpus_that_meet_the_target_then_the_lowest_violation() -> None:
    rows = [row(1, 1, 30.0), row(2, 1, 5.0), row(2, 4, 4.0), row(2, 8, 4.5), row(4, 1, 0.0)]

    (best,) = best_configurations(rows, SWEPT, 5.0)

    assert (best["num_gpus"], best["k_bins"], best["meets_target"]) == (2, 4, True)


def test_the_target_itself_meets_it() -> None:
    (best,) = best_configurations([row(1, 1, 5.0), row(2, 1, 0.0)], SWEPT, 5.0)

    assert best["num_gpus"] == 1


def test_a_tie_goes_to_fewer_bins() -> None:
    (best,) = best_configurations([row(1, 8, 1.0), row(1, 2, 1.0)], SWEPT, 5.0)

    assert best["k_bins"] == 2


def test_where_none_meets_the_target_the_lowest_is_given_and_called_so() -> None:
    rows = [row(1, 1, 50.0), row(8, 1, 20.0), row(4, 2, 20.0), row(16, 1, 21.0)]

    (best,) = best_configurations(rows, SWEPT, 5.0)

    assert (best["num_gpus"], best["k_bins"], best["meets_target"]) == (4, 2, False)


def test_each_load_has_its_own_and_seeds_are_averaged() -> None:
    rows = [
        row(1, 1, violation, num_requests=n, seed=seed)
        for n, pair in ((10, (2.9, 3.1)), (20, (4.0, 8.0)))
        for seed, violation in enumerate(pair)
    ]

    few, many = best_configurations(rows, [*SWEPT, "num_requests", "seed"], 5.0)

    assert (few["num_requests"], few["request_sla_violation_pct"], few["meets_target"], few["runs"]) == (10, 3, True, 2)
    assert (many["num_requests"], many["request_sla_violation_pct"], many["meets_target"]) == (20, 6, False)


def test_a_target_is_met_where_the_upper_end_of_the_interval_meets_it() -> None:
    """Five seeds: t(0.975, 4) = 2.776445, so 3 and 4 +- 1.76 are told apart by their upper ends."""

    def seeds(gpus: int, *values: float) -> list[dict[str, Any]]:
        return [row(gpus, 1, value, seed=seed) for seed, value in enumerate(values)]

    meets, open_, fails = seeds(4, 1, 2, 3, 4, 5), seeds(2, 2, 3, 4, 5, 6), seeds(1, 8, 9, 10, 11, 12)
    (best,) = best_configurations([*fails, *open_, *meets], SWEPT, 5.0)
    assert (best["num_gpus"], best["judgement"], best["fewer_gpus_undecided"], best["tried"]) == (4, "meets", 2, 3)
    assert best["request_sla_violation_pct_half_width"] == pytest.approx(2.776445 * 2.5**0.5 / 5**0.5, rel=1e-6)
    (best,) = best_configurations([*fails, *open_], SWEPT, 5.0)
    assert (best["num_gpus"], best["judgement"], best["meets_target"]) == (2, "undecided", False)
    assert best["targets_not_met"] == "request_sla_violation_pct"
    assert best_configurations(fails, SWEPT, 5.0)[0]["judgement"] == "fails"


def test_the_token_target_is_judged_too_and_named_where_it_fails() -> None:
    """One GPU answers in time but writes too slowly: 134 ms between tokens where 50 are wanted."""
    token = "token_sla_violation_pct"
    (best,) = best_configurations([row(1, 1, 0.0, **{token: 60.0}), row(4, 1, 0.0, **{token: 1.0})], SWEPT, 5.0)
    assert (best["num_gpus"], best["meets_target"]) == (4, True)
    (best,) = best_configurations([row(1, 1, 0.0, **{token: 60.0}), row(4, 1, 7.0, **{token: 40.0})], SWEPT, 5.0)
    assert (best["num_gpus"], best["targets_not_met"]) == (4, f"request_sla_violation_pct, {token}")
    assert _left_open(best) == "no configuration tried meets the request SLA nor the token SLA; the nearest is given"
    # of requests of one token there is no gap to judge
    assert best_configurations([row(1, 1, 0.0, **{token: float("nan")})], SWEPT, 5.0)[0]["meets_target"]


def test_copies_are_one_run_without_an_interval() -> None:
    (best,) = best_configurations([row(1, 1, 4.0, seed=seed) for seed in range(5)], SWEPT, 5.0)

    assert (best["runs"], best["meets_target"], best["request_sla_violation_pct_half_width"]) == (1, True, None)


def test_what_is_compared_is_chosen_among_and_the_rest_is_a_load() -> None:
    """Rule b meets the target on 2 GPUs at both rates, rule a needs 4; a third key that nothing compares is a load."""
    swept = ["scheduler.selection", "workload.rate_scaling", "num_gpus", "k_bins"]
    rows = [
        row(gpus, k, {"a": 9.0, "b": 6.0}[rule] / gpus + k, **{"scheduler.selection": rule, swept[1]: rate})
        for rule in "ab" for rate in (1, 2) for gpus in (1, 2, 4) for k in (1, 2)
    ]  # fmt: skip
    compared = compared_keys(swept, None, rows)

    best = best_configurations(rows, swept, 4.0, compared=compared)

    assert (compared, load_keys(swept, compared)) == (["scheduler.selection"], ["workload.rate_scaling"])
    assert [(each[swept[1]], each[swept[0]], each["num_gpus"], each["k_bins"]) for each in best] == [
        (1, "b", 2, 1), (2, "b", 2, 1),
    ]  # fmt: skip
    assert [each["tried"] for each in best] == [12, 12]
    assert compared_keys([*swept, "scheduler.fill"], None, rows) == []
    assert compared_keys([*swept, "scheduler.fill"], "scheduler.fill", rows) == ["scheduler.fill"]
    assert compared_keys(swept, "k_bins", rows) == []


def test_two_labels_are_never_taken_for_one_configuration() -> None:
    """Labels at the same GPUs and bins were averaged: 0 and 8 % read as 4 %, which meets 5 %."""
    points = [
        {"study.label": "a", "scheduler": "x", "scheduler.fill": "full"},
        {"study.label": "b", "scheduler": "y"},
    ]
    rows = [row(1, 1, violation, **point) for point, violation in zip(points, (8.0, 0.0), strict=True)]
    compared = compared_keys(["study.label", "scheduler", "scheduler.fill"], None, points)
    assert compared == ["study.label", "scheduler", "scheduler.fill"]

    (best,) = best_configurations(rows, ["study.label", "scheduler", "scheduler.fill"], 5.0, compared=compared)

    assert (best["study.label"], best["request_sla_violation_pct"], best["tried"]) == ("b", 0.0, 2)
    each = best_configurations(rows, ["study.label"], 5.0)  # a figure that draws all labels marks one of each
    assert [(one["study.label"], one["meets_target"]) for one in each] == [("a", False), ("b", True)]


def test_metrics_that_a_study_names_decide_between_equals() -> None:
    swept = ["scheduler"]
    sides = {"a": (3.0, 7.0), "b": (2.0, 5.0), "c": (2.0, 6.0), "d": (None, 9.0)}
    rows = [
        row(1, 1, 0.0, scheduler=side, latency_p95_s=late, throughput_requests_per_s=many)
        for side, (late, many) in sides.items()
    ]

    def choice(*metrics: str) -> str:
        (best,) = best_configurations(rows, swept, 5.0, compared=swept, metrics=metrics)
        return str(best["scheduler"])

    assert choice("latency_p95_s", "throughput_requests_per_s") == "c"
    assert choice("throughput_requests_per_s") == "d"
    assert choice() == "a"  # the first, as asked for


def test_runs_without_a_measured_violation_take_no_part() -> None:
    assert best_configurations([row(1, 1, None), row(1, 2, float("nan"))], SWEPT, 5.0) == []


@pytest.mark.parametrize("scale", ["100x", "10x", "1x"])
def test_the_rule_chooses_what_the_original_chose(scale: str) -> None:
    """The original's method_comparison names the configuration that it took from its grid of the same scale."""
    if not ORIGINAL.is_dir():
        pytest.skip(f"{ORIGINAL} is not there")
    with (ORIGINAL / f"grid_search_{scale}.csv").open() as file:
        rows = [
            row(int(line["num_gpus"]), int(line["k_bins"]), float(line["request_sla_pct"]),
                num_requests=int(line["num_requests"]))
            for line in csv.DictReader(file)
        ]  # fmt: skip
    with (ORIGINAL / f"method_comparison_{scale}.csv").open() as file:
        chosen = {
            int(line["num_requests"]): (int(line["num_gpus"]), int(line["k_bins"]))
            for line in csv.DictReader(file)
            if line["method"].startswith("4.")
        }

    best = best_configurations(rows, ["num_requests", *SWEPT], 5.0)

    found = {each["num_requests"]: (each["num_gpus"], each["k_bins"]) for each in best}
    assert found == chosen


TTFT, GOOD = parse("ttft_p99_s<=1"), parse("goodput_pct>=90")


def judged(gpus: int, ttft_s: float | None, good_pct: float, **more: Any) -> dict[str, Any]:
    return row(gpus, 1, 0.0, ttft_p99_s=ttft_s, goodput_pct=good_pct, **more)


def test_targets_of_the_study_decide_in_place_of_violations() -> None:
    rows = [judged(1, 0.5, 80.0), judged(2, 3.0, 99.0), judged(4, 1.0, 90.0), judged(8, 0.1, 100.0)]
    (best,) = best_configurations(rows, SWEPT, 5.0, [TTFT, GOOD])
    assert (best["num_gpus"], best["judgement"], best["targets"]) == (4, "meets", "ttft_p99_s<=1, goodput_pct>=90")
    assert (best["ttft_p99_s"], best["goodput_pct"]) == (1.0, 90.0)
    assert "target_pct" not in best
    (nearest,) = best_configurations(rows[:2], SWEPT, 5.0, [TTFT, GOOD])
    assert (nearest["num_gpus"], nearest["targets_not_met"]) == (1, "goodput_pct")


def test_a_metric_that_a_run_lacks_and_overload_miss_the_targets() -> None:
    lacks = [judged(1, None, 99.0), judged(2, float("nan"), 99.0), judged(4, 0.5, 99.0, overloaded=True)]
    (best,) = best_configurations([*lacks, judged(8, 0.5, 99.0, overloaded=False)], SWEPT, 5.0, [TTFT, GOOD])
    assert best["num_gpus"] == 8
    (worst,) = best_configurations(lacks, SWEPT, 5.0, [TTFT, GOOD])
    assert (worst["num_gpus"], worst["meets_target"], worst["targets_not_met"]) == (4, False, "overloaded")


def test_every_target_is_judged_by_its_interval() -> None:
    # t(0.975, 2) = 4.3027: of 0.8, 0.9, 1.0 the interval is 0.9 ± 0.248, of 0.5, 0.6, 0.7 it is 0.6 ± 0.248.
    wide = [judged(1, value, 99.0, seed=seed) for seed, value in enumerate((0.8, 0.9, 1.0))]
    low = [judged(2, value, 95.0 + seed, seed=seed) for seed, value in enumerate((0.5, 0.6, 0.7))]
    (best,) = best_configurations([*wide, *low], SWEPT, 5.0, [TTFT, GOOD])
    assert (best["num_gpus"], best["fewer_gpus_undecided"]) == (2, 1)
    assert best["ttft_p99_s_half_width"] == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)
