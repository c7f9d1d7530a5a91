"""Intervals must cover a known truth as often as they say, and verdicts must not claim more than the pairs show."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbexp.errors import UserError
from mbexp.results import comparisons, statistics
from mbexp.results.notes import FEW_SPELLS, tail_spells
from mbexp.theory import queueing


def mm1_waits(load: float, count: int, seed: int) -> np.ndarray:
    """Waits of M/M/1 with mean service 1 by Lindley's recursion, started empty."""
    generator = np.random.default_rng(np.random.SeedSequence([seed, 11]))
    steps = generator.exponential(1, count) - generator.exponential(1 / load, count)
    walk = np.concatenate([[0.0], np.cumsum(steps)[:-1]])
    return walk - np.minimum.accumulate(walk)


def share_within(covered: list[bool]) -> float:
    return float(np.mean(covered))


def test_the_recursion_of_this_file_is_right() -> None:
    assert mm1_waits(0.5, 2_000_000, 0).mean() == pytest.approx(queueing.mm1(0.5, 1).wait, rel=0.02)


def test_replications_cover_the_true_wait_of_mm1() -> None:
    truth = queueing.mm1(0.5, 1).wait
    covered = []
    for experiment in range(400):
        means = [mm1_waits(0.5, 4000, 1000 * experiment + run)[400:].mean() for run in range(5)]
        covered.append(statistics.mean_interval(means).contains(truth))
    # 400 experiments: two standard errors of a share of 0.95 are 0.022
    assert 0.92 <= share_within(covered) <= 0.98


def test_batch_means_of_one_long_run_cover_the_true_wait_of_mm1() -> None:
    truth = queueing.mm1(0.5, 1).wait
    intervals = [statistics.batch_means_interval(mm1_waits(0.5, 40_000, seed)[4000:]) for seed in range(400)]
    covered = [interval.contains(truth) for interval in intervals]
    assert 0.92 <= share_within(covered) <= 0.98
    assert np.mean([bool(interval.warnings) for interval in intervals]) < 0.05


def test_a_ninety_per_cent_interval_covers_less() -> None:
    generator = np.random.default_rng(np.random.SeedSequence([1, 11]))
    sample = generator.normal(3, 1, (4000, 4))
    covered = [statistics.mean_interval(row, confidence=0.9).contains(3) for row in sample]
    assert share_within(covered) == pytest.approx(0.9, abs=0.015)


def test_a_run_too_short_for_its_correlation_is_flagged_and_really_covers_too_little() -> None:
    truth = queueing.mm1(0.95, 1).wait
    intervals = [statistics.batch_means_interval(mm1_waits(0.95, 3000, seed)) for seed in range(200)]
    assert share_within([interval.contains(truth) for interval in intervals]) < 0.8
    assert np.mean([bool(interval.warnings) for interval in intervals]) > 0.9


def test_an_overloaded_run_is_flagged() -> None:
    for seed in range(20):
        interval = statistics.batch_means_interval(mm1_waits(1.2, 20_000, seed))
        assert any("overloaded" in warning for warning in interval.warnings)


def test_steady_state_warnings_need_something_to_judge() -> None:
    assert statistics.steady_state_warnings([1.0] * 10) == ()
    assert statistics.steady_state_warnings(mm1_waits(0.5, 40_000, 3)[4000:]) == ()
    assert statistics.steady_state_warnings(mm1_waits(1.2, 20_000, 3))


def test_a_growing_queue_is_flagged_even_where_the_first_to_come_wait_longest() -> None:
    generator = np.random.default_rng(np.random.SeedSequence([4, 11]))
    arrival = np.cumsum(generator.exponential(1, 20_000))
    for load, growing in ((0.5, False), (1.2, True)):
        start = arrival + mm1_waits(load, 20_000, 5)
        assert any("climb" in text for text in statistics.growth_warnings(arrival, start)) is growing
    # one in ten is served only after the last arrival: latencies fall with time, the queue grows
    starved = np.where(np.arange(20_000) % 10 == 0, arrival[-1] + 1, arrival)
    assert statistics.growth_warnings(arrival, starved)
    assert not any("climb" in text for text in statistics.steady_state_warnings(starved - arrival))
    with pytest.raises(UserError):
        statistics.growth_warnings(arrival, arrival[1:])


def test_the_half_width_is_students() -> None:
    interval = statistics.mean_interval([1.0, 2.0, 4.0])
    assert interval.mean == pytest.approx(7 / 3)
    assert interval.half_width == pytest.approx(4.302653 * math.sqrt(7 / 3) / math.sqrt(3), rel=1e-6)
    assert interval.low == pytest.approx(interval.mean - interval.half_width)
    assert str(interval) == "2.3 ± 3.8"


def test_one_run_has_a_mean_and_no_interval() -> None:
    interval = statistics.mean_interval([4.0])
    assert interval.mean == 4
    assert math.isnan(interval.half_width)
    assert not interval.contains(4)
    assert str(interval) == "4 (no interval from 1 run)"


def test_pairing_finds_what_unpaired_runs_hide() -> None:
    generator = np.random.default_rng(np.random.SeedSequence([2, 11]))
    shared = generator.normal(100, 20, 6)  # the seed's requests move both sides together
    better = 1.113 * shared + generator.normal(0, 0.3, 6)
    comparison = comparisons.paired_comparison(better, shared, higher_is_better=True)
    assert comparison.winner == 1
    sentence = comparison.verdict("multi_bin_dynamic", "dynamic_no_bins")
    assert sentence.startswith("multi_bin_dynamic beats dynamic_no_bins by 11.")
    assert re.search(r" by 11\.\d % \(10\.\d to 11\.\d %\)$", sentence)
    assert statistics.mean_interval(better).contains(shared.mean())


def test_the_direction_of_a_metric_decides_who_wins() -> None:
    low, high = [1.0, 1.1, 0.9], [2.0, 2.2, 2.1]
    assert comparisons.paired_comparison(low, high, higher_is_better=False).winner == 1
    lost = comparisons.paired_comparison(low, high, higher_is_better=True)
    assert lost.winner == -1
    assert lost.verdict("a", "b") == "a is beaten by b by 53 % (41 to 62 %)"  # e^(-0.7445 +- 0.2211)


def test_what_more_than_doubles_is_told_as_a_multiple() -> None:
    slow, fast = [3.0, 3.3, 3.2], [1.0, 1.2, 1.1]
    lost = comparisons.paired_comparison(slow, fast, higher_is_better=False)
    assert lost.verdict("a", "b") == "a is beaten by b, 2.9 times as much (2.6 to 3.2)"
    assert (
        comparisons.paired_comparison(slow, fast, higher_is_better=True).verdict("a", "b").startswith("a beats b, 2.9")
    )
    assert comparisons.paired_comparison(fast, slow, higher_is_better=False).verdict("a", "b").endswith("%)")
    # An end that lies above 1 is not written as 1.
    wide = comparisons.paired_comparison([2.0, 9.0, 30.0], [1.0, 2.0, 3.0], higher_is_better=False, confidence=0.8)
    low, high = (float(text) for text in re.search(r"\((\S+) to (\S+)\)", wide.verdict("a", "b")).groups())
    assert wide.winner == -1
    assert 1 < low < high
    unsure = comparisons.paired_comparison([1.0, 9.0, 2.0], [2.0, 1.0, 3.1], higher_is_better=False)
    assert re.fullmatch(
        r"no difference shown between a and b \(\S+ times as much, \S+ to \S+\)", unsure.verdict("a", "b")
    )


def test_no_difference_is_said_so() -> None:
    comparison = comparisons.paired_comparison([1.0, 3.0, 2.0], [2.0, 1.0, 3.1], higher_is_better=True)
    assert comparison.winner == 0
    assert comparison.verdict("a", "b").startswith("no difference shown between a and b (")
    same = comparisons.paired_comparison([1.0, 3.0], [1.0, 3.0], higher_is_better=True)
    assert same.winner == 0
    single = comparisons.paired_comparison([1.0], [3.0], higher_is_better=True)
    assert single.winner == 0
    assert single.verdict("a", "b") == "a against b: no verdict from 1 paired run; add seeds"


def test_a_percentage_is_compared_in_points_and_a_zero_base_has_no_share() -> None:
    comparison = comparisons.paired_comparison([2.0, 2.5, 3.0], [0.0, 0.0, 0.0], higher_is_better=False)
    assert not comparison.relative
    assert comparison.verdict("a", "b", "percentage points") == "a is beaten by b by 2 percentage points (1 to 4)"


def equal_studies(sides: int, metrics: int, studies: int, seeds: int = 5) -> np.ndarray:
    """Values of equal sides, shape (studies, sides, metrics, seeds): a seed moves all alike, metrics go together."""
    generator = np.random.default_rng(np.random.SeedSequence([5, sides]))
    shared = generator.normal(10, 2, (studies, 1, 1, seeds))
    own = generator.normal(0, 0.7, (studies, sides, 1, seeds))
    return shared + own + generator.normal(0, 0.7, (studies, sides, metrics, seeds))


@pytest.mark.parametrize(("sides", "metrics"), [(4, 3), (6, 1)])
def test_equal_sides_seldom_beat_one_another_anywhere_in_a_table(sides: int, metrics: int) -> None:
    """Of 400 studies of equal sides 5 % may name a winner: two standard errors of that share are 2.2 %."""
    wrong, alone = [], []
    for study in equal_studies(sides, metrics, 400):
        pairs = [
            {"first": study[one, metric], "second": study[other, metric], "higher_is_better": True}
            for metric in range(metrics)
            for one, other in itertools.combinations(range(sides), 2)
        ]
        together = comparisons.compare_together(pairs)
        wrong.append(any(comparison.winner for comparison in together))
        alone.append(any(comparison.p_value < 0.05 for comparison in together))
    assert np.mean(wrong) <= 0.072
    assert np.mean(alone) > 0.2  # what was told before they were decided together


def test_holms_rule_by_hand() -> None:
    """Differences of n = 2 have t = mean / half their distance, one degree of freedom: p = 1 - 2 atan(t) / pi."""
    of_t = {"clear": 500.0, "next": 60.0, "third": 20.0, "none": 1.0}
    pairs = [
        {"first": [t - 1, t + 1], "second": [0.0, 0.0], "higher_is_better": True, "relative": False}
        for t in of_t.values()
    ]
    p = [1 - 2 * math.atan(t) / math.pi for t in of_t.values()]

    found = comparisons.compare_together(pairs)

    assert [comparison.p_value for comparison in found] == pytest.approx(p)
    corrected = [4 * p[0], 3 * p[1], 2 * p[2], 0.5]
    assert [comparison.p_corrected for comparison in found] == pytest.approx(corrected)
    assert [comparison.winner for comparison in found] == [1, 1, 0, 0]  # 2 p[2] = 0.064
    assert [comparison.confidence for comparison in found] == pytest.approx(
        [1 - 0.05 / 4, 1 - 0.05 / 3, 1 - 0.05 / 2, 1 - 0.05 / 2]
    )
    assert {comparison.comparisons for comparison in found} == {4}


@given(
    st.lists(st.tuples(st.floats(0.1, 1e3), st.floats(-0.05, 1)), min_size=2, max_size=6),
    st.floats(-0.3, 0.3),
    st.sampled_from(["", "s", "percentage points"]),
)
def test_a_verdict_and_its_interval_never_disagree(pairs: list[tuple[float, float]], effect: float, unit: str) -> None:
    """Not even as printed: 0 lies outside of the ends in the sentence exactly where a winner is named."""
    b = np.array([base for base, _ in pairs])
    a = b * (1 + effect) + np.array([noise for _, noise in pairs])
    comparison = comparisons.paired_comparison(a, b, higher_is_better=True, relative=not unit)
    sentence = comparison.verdict("one", "other", unit)
    ends = re.search(r"\(.*?(-?[\d.e+-]+) to (-?[\d.e+-]+)(?: %)?\)$", sentence)
    assert bool(comparison.winner) == (" beats " in sentence or " beaten " in sentence)
    assert bool(comparison.winner) == (comparison.p_value < 0.05)
    if ends:
        low, high = float(ends[1]), float(ends[2])
        equal = 1 if " times as much" in sentence else 0
        assert bool(comparison.winner) == (low > equal or high < equal)
        if comparison.winner:
            assert low > equal
            assert (comparison.winner > 0) == (" beats " in sentence)


def test_false_verdicts_are_as_rare_as_stated_and_relative_intervals_cover() -> None:
    generator = np.random.default_rng(np.random.SeedSequence([3, 11]))
    false_verdicts, covered, differences = [], [], []
    for _ in range(3000):
        shared = generator.lognormal(1, 1, 5)  # bursts make one seed ten times as slow as another
        a, b = shared * generator.lognormal(0, 0.1, 5), shared * generator.lognormal(0, 0.1, 5)
        false_verdicts.append(comparisons.paired_comparison(a, b, True).winner != 0)
        better = comparisons.paired_comparison(1.2 * a, b, True).effect
        covered.append(better.low <= 20.0 <= better.high)
        a, b = generator.normal(12, 1, 5), generator.normal(10, 1, 5)
        difference = comparisons.paired_comparison(a, b, True, relative=False).effect
        differences.append(difference.low <= 2.0 <= difference.high)
    assert np.mean(false_verdicts) == pytest.approx(0.05, abs=0.012)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)
    assert np.mean(differences) == pytest.approx(0.95, abs=0.012)


def test_two_seeds_among_many_comparisons_say_little() -> None:
    """One degree of freedom at 0.05 / 10,000: t = 127,324, so that the ratio can be anything."""
    pair = {"first": [2.0, 3.0], "second": [1.0, 2.0], "higher_is_better": True}
    (found, *_) = comparisons.compare_together([pair] * 100)
    assert re.search(r"\(2 times as much, 0 to \de\+\d+\)$", found.verdict("a", "b"))
    wide = comparisons.paired_comparison(**pair, confidence=1 - 5e-6)
    assert wide.verdict("a", "b").endswith("(2 times as much, 0 to inf)")


def test_rounding_is_no_difference() -> None:
    almost = statistics.mean_interval([0.1 + 0.2]).mean  # 0.30000000000000004
    for relative in (True, False):
        comparison = comparisons.paired_comparison([almost, 1.0], [0.3, 1.0], True, relative=relative)
        assert (comparison.winner, comparison.p_value) == (0, 1)
        assert comparison.verdict("a", "b") == "no difference shown between a and b (equal in all 2 pairs)"


def test_copies_are_one_observation() -> None:
    runs = [{"seed": seed, "run": f"r{seed}", "latency_mean_s": value} for seed, value in enumerate((1.0, 1.0, 2.0))]
    assert statistics.distinct(runs) == [0, 2]
    equal = comparisons.paired_comparison([3.0, 3.0, 3.0], [1.0, 1.0, 1.0], higher_is_better=True)
    assert (equal.winner, math.isnan(equal.effect.low), equal.p_value) == (0, True, 1)
    assert equal.verdict("a", "b") == "a against b: no verdict, since all 3 pairs differ by the same"
    # a share of 1,000 requests moves in steps of 0.1: three runs of 100 % against three of 0 % do differ
    shares = comparisons.paired_comparison([0.0] * 3, [100.0] * 3, False, relative=False, resolution=0.1)
    assert shares.winner == 1
    table = pd.DataFrame({"side": ["a", "b"] * 4, "seed": [0, 0, 1, 1, 2, 2, 3, 3], "latency_mean_s": [1.0, 2.0] * 4})
    assert comparisons.compare_runs(table, "side", "a", "b", "latency_mean_s").count == 1


def test_few_spells_of_slow_requests_are_told_from_many() -> None:
    """M/M/1: at load 0.9 intervals of the p99 wait from 5 x 20,000 requests cover it too rarely, at 0.5 they do."""
    spells = {}
    for load, covers in ((0.5, True), (0.9, False)):
        waits = [mm1_waits(load, 20_000, seed) for seed in range(300)]
        tails = np.quantile(waits, 0.99, axis=1)
        spells[load] = np.array([tail_spells(wait, tail) for wait, tail in zip(waits[:100], tails, strict=False)])
        truth = math.log(100 * load) / (1 - load)  # P(wait > t) = load e^(-(1 - load) t)
        intervals = [statistics.mean_interval(five) for five in tails.reshape(60, 5)]
        assert (share_within([interval.contains(truth) for interval in intervals]) > 0.9) is covers
        assert share_within([interval.low > truth for interval in intervals]) < 0.05  # misses are too low
    assert np.mean(spells[0.5] < FEW_SPELLS) < 0.02
    assert np.mean(spells[0.9] < FEW_SPELLS) > 0.8
    assert np.median(spells[0.9]) == pytest.approx(2.6, abs=0.5)  # so that some 80,000 are advised
    generator = np.random.default_rng(6)
    independent = [generator.random(20_000) for _ in range(50)]
    assert np.median([tail_spells(values, 0.99) for values in independent]) > 150  # of 200


def test_runs_are_paired_by_seed_from_a_table() -> None:
    table = pd.DataFrame(
        {
            "scheduler": ["a", "a", "a", "b", "b", "b"],
            "seed": [0, 1, 2, 2, 0, 1],
            "latency_mean_s": [1.0, 2.0, 3.0, 3.5, 1.4, 2.6],
            "batch_size_mean": [1.0] * 6,
        }
    )
    comparison = comparisons.compare_runs(table, "scheduler", "a", "b", "latency_mean_s")
    assert comparison.difference == pytest.approx(-0.5)
    logs = [math.log(1 / 1.4), math.log(2 / 2.6), math.log(3 / 3.5)]
    mean, deviation = sum(logs) / 3, np.std(logs, ddof=1)
    assert comparison.effect.mean == pytest.approx(100 * (math.exp(mean) - 1))
    assert comparison.effect.high == pytest.approx(
        100 * (math.exp(mean + 4.302653 * deviation / math.sqrt(3)) - 1), rel=1e-6
    )
    assert comparison.winner == 1
    for bad in (
        lambda: comparisons.compare_runs(table, "scheduler", "a", "c", "latency_mean_s"),
        lambda: comparisons.compare_runs(table, "schedular", "a", "b", "latency_mean_s"),
        lambda: comparisons.compare_runs(table, "scheduler", "a", "b", "batch_size_mean"),
        lambda: comparisons.compare_runs(table.assign(seed=0), "scheduler", "a", "b", "latency_mean_s"),
        lambda: comparisons.compare_runs(table.assign(seed=range(6)), "scheduler", "a", "b", "latency_mean_s"),
    ):
        with pytest.raises(UserError):
            bad()


def test_a_table_of_intervals() -> None:
    table = pd.DataFrame({"k_bins": [1, 1, 2, 2], "seed": [0, 1, 0, 1], "latency_mean_s": [1.0, 3.0, 5.0, 5.0]})
    table["latency_max_s"] = [4.0, 4.0, 5.0, 6.0]
    result = statistics.interval_table(table, ["k_bins"], ["latency_mean_s"])
    assert result["k_bins"].tolist() == [1, 2]
    assert result["runs"].tolist() == [2, 2]
    assert result["latency_mean_s"].tolist() == [2, 5]
    flagged = statistics.interval_table(
        table.assign(overloaded=[True, True, False, True]), ["k_bins"], ["latency_mean_s"]
    )
    assert flagged["overloaded_runs"].tolist() == [2, 1]
    assert result["latency_mean_s_half_width"].tolist() == pytest.approx([12.7062, 0], rel=1e-4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: statistics.mean_interval([]),
        lambda: statistics.mean_interval([1.0, math.nan]),
        lambda: statistics.mean_interval([1.0, 2.0], confidence=95),
        lambda: statistics.batch_means_interval([1.0] * 5),
        lambda: statistics.batch_means_interval([1.0] * 5, batches=1),
        lambda: comparisons.paired_comparison([1.0, 2.0], [1.0], True),
        lambda: comparisons.is_higher_better("batch_size_mean"),
    ],
)
def test_a_mistake_is_one_clear_line(call) -> None:
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)


def test_constant_batches_give_a_zero_width_without_warning() -> None:
    interval = statistics.batch_means_interval([2.0] * 100)
    assert (interval.mean, interval.half_width, interval.warnings) == (2.0, 0.0, ())


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"column=latency: no such choice \(did you mean 'latency_s'\?\)"):
        statistics.interval_table(pd.DataFrame({"k": [1], "latency_s": [1.0]}), ["k"], ["latency"])


def test_few_parts_never_climb() -> None:
    assert statistics.climbs(range(8))
    assert not statistics.climbs(range(7))


def test_batch_means_leave_out_the_first_values_that_fill_no_batch() -> None:
    """What comes first is nearest to the start, which is not the steady state."""
    interval = statistics.batch_means_interval([1e9, *range(20)], batches=4)

    assert interval.mean == pytest.approx(9.5)
