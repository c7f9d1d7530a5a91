"""Synthetic workloads: the distributions asked for, whole tokens, and streams of the seed that do not mix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mbexp.config.keys import load_config
from mbexp.errors import UserError
from mbexp.workload import load_trace
from mbexp.workload.trace import Trace

N = 200_000


def load(count: int | None = N, seed: int = 0, **keys: Any) -> Trace:
    workload = {"kind": "synthetic", "timestamps": "real"} | keys
    return load_trace(load_config({"workload": workload}).workload, count, seed)


def lengths(count: int = N, seed: int = 0, **keys: Any) -> Any:
    return load(count, seed, output=keys).output_tokens


class TestArrivals:
    @pytest.mark.parametrize(
        ("arrivals", "cv"),
        [
            ({"kind": "poisson"}, 1.0),
            ({"kind": "gamma", "cv": 0.5}, 0.5),
            ({"kind": "gamma", "cv": 3.0}, 3.0),
            ({"kind": "constant"}, 0.0),
        ],
    )
    def test_rate_and_variation(self, arrivals: dict[str, Any], cv: float) -> None:
        gaps = np.diff(load(arrivals=arrivals | {"rate_per_s": 4.0}).arrival_s)
        error = 5 * max(cv, 1e-9) / math.sqrt(N)  # five standard errors of the mean
        assert gaps.mean() * 4.0 == pytest.approx(1.0, rel=error)
        assert gaps.std() / gaps.mean() == pytest.approx(cv, abs=0.03 * cv + 1e-9)

    def test_poisson_gaps_are_exponential(self) -> None:
        gaps = np.sort(np.diff(load().arrival_s))
        distance = np.max(np.abs((1 - np.exp(-gaps)) - (np.arange(len(gaps)) + 0.5) / len(gaps)))
        assert distance < 1.63 / math.sqrt(len(gaps))  # Kolmogorov-Smirnov, 1 %

    def test_at_once(self) -> None:
        assert not load(5, arrivals={"kind": "at_once"}).arrival_s.any()

    def test_constant_starts_at_zero(self) -> None:
        assert load(3, arrivals={"kind": "constant", "rate_per_s": 4.0}).arrival_s.tolist() == [0.0, 0.25, 0.5]

    def test_scaled_timestamps_are_faster(self) -> None:
        slow, fast = load(100), load(100, timestamps="scaled", rate_scaling=10.0)
        assert fast.arrival_s == pytest.approx(slow.arrival_s / 10)

    def test_absurd_rate(self) -> None:
        with pytest.raises(UserError, match=r"rate_per_s=1e-300: must be at least"):
            load(10, arrivals={"rate_per_s": 1e-300})


class TestLengths:
    def test_constant(self) -> None:
        assert np.unique(lengths(kind="constant", value_tokens=7)).tolist() == [7]

    def test_uniform_includes_both_ends_evenly(self) -> None:
        counts = np.bincount(lengths(kind="uniform", low_tokens=3, high_tokens=12), minlength=13)
        assert counts[:3].sum() == 0
        assert np.max(np.abs(counts[3:] / N - 0.1)) < 5 * math.sqrt(0.09 / N)

    def test_uniform_of_int32(self) -> None:
        top = 2**31 - 1
        assert lengths(50, kind="uniform", low_tokens=top, high_tokens=top).tolist() == [top] * 50

    def test_exponential_is_rounded_up(self) -> None:
        """The ceiling of an exponential of mean m is geometric with 1 - exp(-1/m)."""
        drawn = lengths(kind="exponential", mean_tokens=2.0)
        success = 1 - math.exp(-0.5)
        assert drawn.min() == 1
        assert drawn.mean() == pytest.approx(1 / success, rel=5 * math.sqrt(1 - success) / math.sqrt(N))
        assert np.mean(drawn == 1) == pytest.approx(success, abs=5 * math.sqrt(0.25 / N))

    def test_lognormal_has_the_mean_asked_for(self) -> None:
        drawn = lengths(kind="lognormal", mean_tokens=600.0, sigma=1.0)
        assert drawn.mean() == pytest.approx(600, rel=5 * math.sqrt(math.e - 1) / math.sqrt(N))
        assert np.log(drawn).std() == pytest.approx(1.0, abs=0.01)
        assert lengths(1000, kind="lognormal", mean_tokens=0.01, sigma=0.0).tolist() == [1] * 1000

    def test_empirical(self) -> None:
        drawn = lengths(kind="empirical", values_tokens=[5, 5, 5, 9])
        assert set(drawn.tolist()) == {5, 9}
        assert np.mean(drawn == 5) == pytest.approx(0.75, abs=5 * math.sqrt(0.1875 / N))

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ({"kind": "constant"}, "workload.output.value_tokens=null: workload.output.kind=constant needs it"),
            (
                {"kind": "uniform", "low_tokens": 3},
                "workload.output.high_tokens=null: workload.output.kind=uniform needs it",
            ),
            (
                {"kind": "uniform", "low_tokens": 3, "high_tokens": 2},
                "low_tokens=3: must not exceed workload.output.high_tokens=2",
            ),
            ({"kind": "exponential"}, "workload.output.mean_tokens=null"),
            ({"kind": "lognormal", "mean_tokens": 5.0}, "workload.output.sigma=null"),
            ({"kind": "empirical", "values_tokens": []}, "workload.output.values_tokens=null"),
            ({"kind": "exponential", "mean_tokens": 1e12}, "mean_tokens=1e+12: a drawn length is"),
            ({"kind": "lognormal", "mean_tokens": 1e300, "sigma": 20.0}, "mean_tokens=1e+300: must be at most 1e+15"),
            ({"kind": "constant", "value_tokens": 1.5}, "workload.output.value_tokens=1.5: must be a whole number"),
            ({"kind": "constant", "value_tokens": 0}, "workload.output.value_tokens=0: must be at least 1"),
            ({"kind": "constant", "value_tokens": 2**31}, "must be at most 2147483647"),
            ({"kind": "empirical", "values_tokens": [3, 0]}, "workload.output.values_tokens[1]=0: must be at least 1"),
        ],
    )
    def test_mistakes(self, keys: dict[str, Any], message: str) -> None:
        with pytest.raises(UserError) as caught:
            lengths(100, **keys)
        assert message in str(caught.value)


class TestStreams:
    def test_a_seed_repeats_and_another_differs(self) -> None:
        keys = {
            "prompt": {"kind": "exponential", "mean_tokens": 50.0},
            "output": {"kind": "exponential", "mean_tokens": 50.0},
        }
        assert load(1000, 3, **keys).sha256 == load(1000, 3, **keys).sha256
        assert load(1000, 3, **keys).sha256 != load(1000, 4, **keys).sha256
        both = load(1000, 3, **keys)
        assert not np.array_equal(both.prompt_tokens, both.output_tokens)

    def test_changing_one_leaves_the_others(self) -> None:
        exponential = {"kind": "exponential", "mean_tokens": 50.0}
        base = load(1000, output=exponential)
        other = load(1000, output=exponential, prompt=exponential, arrivals={"kind": "gamma", "cv": 2.0})
        assert np.array_equal(base.output_tokens, other.output_tokens)
        assert np.array_equal(base.arrival_s, load(1000, prompt=exponential).arrival_s)

    def test_shorter_trace_is_the_beginning_of_a_longer(self) -> None:
        keys = {
            "prompt": {"kind": "uniform", "low_tokens": 1, "high_tokens": 9},
            "arrivals": {"kind": "gamma", "cv": 2.0},
        }
        short, long = load(100, **keys), load(1000, **keys)
        assert np.array_equal(short.arrival_s, long.arrival_s[:100])
        assert np.array_equal(short.prompt_tokens, long.prompt_tokens[:100])

    def test_first_rows_can_be_left_out(self) -> None:
        whole, late = load(30), load(20, window={"kind": "rows", "start_row": 10})
        assert late.arrival_s == pytest.approx(whole.arrival_s[10:] - whole.arrival_s[10])

    def test_big_seed(self) -> None:
        assert len(load(10, 10**40)) == 10


class TestLimits:
    def test_no_end(self) -> None:
        with pytest.raises(UserError, match=r"num_requests=null: a synthetic workload has no end"):
            load(None)

    def test_time_window(self) -> None:
        with pytest.raises(UserError, match=r"window\.kind=time: a synthetic workload has as many"):
            load(10, window={"kind": "time"})

    def test_more_than_the_machine_holds(self) -> None:
        with pytest.raises(
            UserError, match=r"has about 1,000,000,000,000 requests, which need 48,000 GB; this machine has"
        ):
            load(10**12)

    def test_source_says_what_it_is(self) -> None:
        assert load(1).source == "synthetic: poisson arrivals, constant prompts, constant outputs"
