"""The BurstGPT-like generator against the published aggregates of BurstGPT file 1, with tolerances stated here.

Figures that hang on a few large jobs (bursts, gaps) scatter from trace to trace: their median over six seeds is
compared. Those that hardly scatter are compared seed by seed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbexp import configure
from mbexp.config.keys import load_config
from mbexp.errors import UserError
from mbexp.workload import cache, load_trace
from mbexp.workload.kinds import _burstgpt_calibration as fit
from mbexp.workload.kinds import burstgpt_like
from mbexp.workload.kinds.burstgpt_like import BLOCK_S, generate_block
from mbexp.workload.rows import Rows
from mbexp.workload.trace import Trace

SEEDS = range(6)
HOURS = BLOCK_S // 3600


def figures(seed: int) -> dict[str, Any]:
    rows = generate_block(seed)
    second = rows.arrival_s.astype(np.int64)
    api = rows.extra["log_type"] == 1
    served = rows.output_tokens > 0
    gaps = np.diff(second)
    minutes = np.bincount(second // 60, minlength=BLOCK_S // 60)
    days = np.bincount(second // 86_400, minlength=fit.DAYS)
    return {
        "rows": len(second),
        "failed_pct": 100 * np.mean(~served),
        "request_mean": rows.prompt_tokens.mean(),
        "request_sd": rows.prompt_tokens.std(),
        "request_quartiles": np.percentile(rows.prompt_tokens, [25, 50, 75]),
        "request_max": rows.prompt_tokens.max(),
        "response_mean": rows.output_tokens.mean(),
        "response_sd": rows.output_tokens.std(),
        "response_quartiles": np.percentile(rows.output_tokens, [25, 50, 75]),
        "response_max": rows.output_tokens.max(),
        "gap_cv": gaps.std() / gaps.mean(),
        "gap_percentiles": np.percentile(gaps, [50, 95, 99]),
        "longest_gap_s": gaps.max(),
        "gaps_over_1h": np.count_nonzero(gaps > 3600),
        "minute_cv": minutes.std() / minutes.mean(),
        "busiest_hour": np.bincount(second // 3600, minlength=HOURS).max(),
        "day_median": np.median(days),
        "day_peak": days.max() / days.mean(),
        "day_cv": days.std() / days.mean(),
        "hours_without_api": np.mean(np.bincount(second[api] // 3600, minlength=HOURS) == 0),
        "conversation_served": np.count_nonzero(served & ~api),
        "api_served": np.count_nonzero(served & api),
        "gpt4_share": rows.extra["model"][served].mean(),
        "correlation": np.corrcoef(*(_ranks(x[served & ~api]) for x in (rows.prompt_tokens, rows.output_tokens)))[0, 1],
        "profile": np.bincount(second // 3600 % 24, minlength=24) / len(second) * 24,
        "conversation_profile": np.bincount(second[~api] // 3600 % 24, minlength=24) / np.count_nonzero(~api) * 24,
        "weekend": _weekend_factor(second[~api]),
    }


def _ranks(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.argsort(np.argsort(values, kind="stable"), kind="stable")


def _weekend_factor(second: np.ndarray[Any, Any]) -> float:
    days = np.bincount(second // 86_400, minlength=fit.DAYS)
    weekend = np.isin(np.arange(fit.DAYS) % 7, (3, 4))
    return float(days[weekend].mean() / days[~weekend].mean())


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    return [figures(seed) for seed in SEEDS]


class TestAggregates:
    @pytest.mark.parametrize(
        ("name", "published", "tolerance"),
        [
            ("rows", 1_429_737, 0.01),
            ("failed_pct", 1.78, 0.04),
            ("request_mean", 611, 0.01),
            ("request_sd", 782, 0.01),
            ("response_mean", 123, 0.02),
            ("response_sd", 268, 0.02),
            ("request_quartiles", (137, 251, 758), 0.01),
            ("response_quartiles", (7, 34, 134), 0.02),
            ("gpt4_share", 215_127 / 1_404_294, 0.02),
            ("api_served", 1_258_587, 0.01),
            ("conversation_served", 145_707, 0.07),
            ("weekend", 0.6, 0.2),
        ],
    )
    def test_every_seed(self, found: list[dict[str, Any]], name: str, published: float, tolerance: float) -> None:
        for seen in found:
            assert np.asarray(seen[name]) == pytest.approx(np.asarray(published), rel=tolerance)

    @pytest.mark.parametrize(
        ("name", "published", "tolerance"),
        [
            ("gap_cv", 13.3, 0.10),
            ("gap_percentiles", (1, 12, 52), 0.15),
            ("longest_gap_s", 15_240, 0.20),
            ("gaps_over_1h", 49, 0.10),
            ("minute_cv", 2.91, 0.20),
            ("busiest_hour", 33_700, 0.25),
            ("day_median", 14_457, 0.25),
            ("day_peak", 6.38, 0.35),
            ("day_cv", 1.128, 0.30),
            ("hours_without_api", 0.36, 0.20),
        ],
    )
    def test_median_over_seeds(
        self, found: list[dict[str, Any]], name: str, published: float, tolerance: float
    ) -> None:
        median = np.median([seen[name] for seen in found], axis=0)
        assert np.asarray(median) == pytest.approx(np.asarray(published), rel=tolerance)

    def test_largest_lengths(self, found: list[dict[str, Any]]) -> None:
        assert max(seen["request_max"] for seen in found) <= 29_665
        assert max(seen["response_max"] for seen in found) <= 7_315
        assert np.median([seen["request_max"] for seen in found]) > 10_000

    def test_hours_of_the_day(self, found: list[dict[str, Any]]) -> None:
        conversation = np.mean([seen["conversation_profile"] for seen in found], axis=0)
        assert np.max(np.abs(conversation - fit.CONVERSATION_PROFILE)) < 0.2
        everything = np.mean([seen["profile"] for seen in found], axis=0)
        assert np.corrcoef(everything, fit.ALL_TRAFFIC_PROFILE)[0, 1] > 0.8

    def test_request_and_response_go_together(self, found: list[dict[str, Any]]) -> None:
        spearman = 6 / np.pi * np.arcsin(fit.LENGTH_CORRELATION / 2)  # of a Gaussian copula
        for seen in found:
            assert seen["correlation"] == pytest.approx(spearman, abs=0.02)

    def test_no_job_takes_over(self, found: list[dict[str, Any]]) -> None:
        assert max(seen["day_peak"] for seen in found) < 10


@pytest.fixture(scope="module")
def block() -> Rows:
    return generate_block(5)


class TestBlock:
    def test_rows_are_whole_seconds_in_order(self, block: Rows) -> None:
        rows = block
        assert np.array_equal(rows.arrival_s, np.floor(rows.arrival_s))
        assert np.all(np.diff(rows.arrival_s) >= 0)
        assert rows.arrival_s[0] >= 0
        assert rows.arrival_s[-1] < BLOCK_S
        assert np.array_equal(rows.prompt_tokens == 0, rows.output_tokens == 0)
        assert rows.output_tokens[rows.output_tokens > 0].min() >= 1
        assert rows.prompt_tokens.dtype == rows.output_tokens.dtype == np.int32

    def test_nothing_arrives_in_an_outage(self, block: Rows) -> None:
        rng = np.random.default_rng(np.random.SeedSequence([5, burstgpt_like._STREAMS["outages"], 0]))
        clock = burstgpt_like._Clock(rng)
        second = block.arrival_s
        assert len(clock.starts) > 20
        for start, end in zip(np.ceil(clock.starts), np.floor(clock.ends), strict=True):
            assert not np.any((second >= start) & (second < end))

    def test_seed_and_block_decide(self, block: Rows) -> None:
        first, again, other, later = block, generate_block(5), generate_block(6), generate_block(5, 1)
        assert np.array_equal(first.arrival_s, again.arrival_s)
        assert np.array_equal(first.output_tokens, again.output_tokens)
        assert not np.array_equal(first.output_tokens[:1000], other.output_tokens[:1000])
        assert not np.array_equal(first.output_tokens[:1000], later.output_tokens[:1000])

    def test_job_sizes_hold_the_total_and_the_limit(self) -> None:
        for weights in (np.array([1.0, 2.0, 1000.0] + [1.0] * 30), np.ones(400), np.array([1e9] * 12)):
            sizes = burstgpt_like._job_sizes(weights)
            assert sizes.max() <= fit.API_JOB_LARGEST
            assert sizes.sum() == pytest.approx(fit.API_REQUESTS, abs=len(sizes))


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trace]:
    folder = tmp_path_factory.getbasetemp() / "burstgpt_like_cache"  # one for all tests of this file
    monkeypatch.setattr(cache, "cache_dir", lambda: folder)

    def load_like(count: int | None, seed: int = 0, **window: Any) -> Trace:
        workload = {"kind": "burstgpt_like", "timestamps": "real", "window": window}
        return load_trace(load_config({"workload": workload}).workload, count, seed)

    return load_like


class TestTrace:
    def test_label_and_columns(self, load: Callable[..., Trace]) -> None:
        trace = load(1000)
        assert trace.source == "BurstGPT-like, calibrated to published aggregates"
        assert set(trace.labels("model")) == {"ChatGPT", "GPT-4"}
        assert trace.file_sha256 == ""
        assert trace.arrival_s[0] == 0
        assert np.all(np.diff(trace.arrival_s) > 0)  # ties are spread by default

    def test_all_of_it_is_61_days(self, load: Callable[..., Trace]) -> None:
        trace = load(None)
        assert trace.arrival_s[-1] / 86_400 == pytest.approx(fit.DAYS, abs=0.5)
        assert trace.dropped["failed"] / (len(trace) + trace.dropped["failed"]) == pytest.approx(0.0178, abs=0.0008)

    def test_default_window_has_the_mean_rate(self, load: Callable[..., Trace]) -> None:
        whole = load(None)
        rate = len(whole) / whole.arrival_s[-1]
        assert 9999 / load(10_000).arrival_s[-1] == pytest.approx(rate, rel=0.011)
        assert 9999 / load(10_000, kind="busiest").arrival_s[-1] > 10 * rate

    def test_longer_traces_keep_their_beginning(self, load: Callable[..., Trace]) -> None:
        whole = load(None)
        count = len(whole) + 500_000
        longer = load(count, kind="rows")
        assert len(longer) == count
        assert np.array_equal(longer.arrival_s[: len(whole) - 100], whole.arrival_s[:-100])
        assert np.array_equal(longer.output_tokens[: len(whole)], whole.output_tokens)
        assert np.all(np.diff(longer.arrival_s) >= 0)
        assert longer.dropped["failed"] > whole.dropped["failed"]

    def test_windows_behind_the_first_61_days(self, load: Callable[..., Trace]) -> None:
        rows = load(10, kind="rows", start_row=1_500_000)
        time = load(10, kind="time", start_s=62 * 86_400.0)
        assert len(rows) == len(time) == 10
        day = load(None, kind="time", start_s=60.5 * 86_400.0, duration_s=86_400.0)
        assert day.arrival_s[-1] <= 86_400

    def test_seeds_differ(self, load: Callable[..., Trace]) -> None:
        assert load(1000, 0).sha256 == load(1000, 0).sha256
        assert load(1000, 0).sha256 != load(1000, 1).sha256

    def test_the_copy_is_what_was_generated(
        self, load: Callable[..., Trace], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        stored = load(5000)
        monkeypatch.setattr(cache, "cache_dir", lambda: None)
        assert load_trace(load_config({"workload": {"timestamps": "real"}}).workload, 5000).sha256 == stored.sha256

    def test_more_than_the_machine_holds(self, load: Callable[..., Trace]) -> None:
        for keys in ({"count": 10**13}, {"count": 1, "kind": "time", "start_s": 1e15}):
            with pytest.raises(UserError, match=r"which need .* GB; this machine has"):
                load(**keys)


@pytest.mark.parametrize("likeness", [0.5, 0.9, 0.99])
def test_likeness_correlates_the_scores_inside_a_burst_and_leaves_their_distribution(likeness: float) -> None:
    sizes = np.array([1, 40_000, 2, 60_000])
    scores = np.random.default_rng(7).standard_normal(sizes.sum() + 5000)
    independent = scores.copy()
    burstgpt_like._make_alike(scores, sizes, likeness)
    first = np.cumsum(sizes) - sizes
    # By its definition: z(i) = rho z(i - 1) + sqrt(1 - rho^2) e(i), a burst begins anew, what is no burst stays.
    for begin, size in zip(first, sizes, strict=True):
        assert scores[begin] == independent[begin]
        steps = scores[begin + 1 : begin + size] - likeness * scores[begin : begin + size - 1]
        expected = (1 - likeness**2) ** 0.5 * independent[begin + 1 : begin + size]
        assert np.allclose(steps, expected, atol=1e-9)
    assert np.array_equal(scores[sizes.sum() :], independent[sizes.sum() :])
    long = scores[first[3] : first[3] + sizes[3]]
    few = sizes[3] * (1 - likeness) / (1 + likeness)  # as many independent draws say as much
    assert np.corrcoef(long[:-1], long[1:])[0, 1] == pytest.approx(likeness, abs=0.02)
    assert abs(long.mean()) < 4 / few**0.5
    assert long.var() == pytest.approx(1, abs=6 / few**0.5)


def test_likeness_changes_lengths_of_api_rows_only() -> None:
    independent, alike = generate_block(5), generate_block(5, 0, 0.9)
    assert np.array_equal(independent.arrival_s, alike.arrival_s)
    api = independent.extra["log_type"] == 1
    for name in ("prompt_tokens", "output_tokens"):
        before, after = getattr(independent, name), getattr(alike, name)
        assert np.array_equal(before[~api], after[~api])
        assert np.mean(before[api] != after[api]) > 0.9
        for share in (0.25, 0.5, 0.75, 0.95):
            assert np.quantile(after[api], share) == pytest.approx(np.quantile(before[api], share), rel=0.06)


def test_likeness_of_another_workload_is_refused() -> None:
    config = configure(workload="synthetic", **{"workload.burst_likeness": 0.5})
    with pytest.raises(UserError, match=r"workload\.burst_likeness=0\.5: has no effect with workload=synthetic"):
        load_trace(config.workload, 10, 0)
