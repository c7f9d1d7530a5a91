"""Overload, growth and the least number of GPUs: what a run shows, and what a bound proves."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbexp import Result, Trace, simulate
from mbexp.config.gpu_keys import GpuConfig, LawConfig
from mbexp.hardware import build_law
from mbexp.modes.continuous import execution_rules
from mbexp.policy.build import limit_max
from mbexp.results.growth import drifts, waiting_found
from mbexp.simulator.batches import least_work as batches
from mbexp.simulator.continuous import least_work as iterations
from tests import SHARED

MOONCAKE = SHARED / "traces" / "mooncake_conversation_trace.jsonl"
ALTERNATING = SHARED / "bugcases" / "overload_said_of_idle_gpus" / "alternating.csv"
WORDS = ("overload", "growth", "capacity", "climb", "least")


def verdict(result: Result) -> tuple[bool, bool, list[str]]:
    """Return overloaded, queue_climbing, and the warnings on either."""
    said = [warning for warning in result.warnings if any(word in warning for word in WORDS)]
    return result.summary["overloaded"], result.summary["queue_climbing"], said


def needs(path: Path) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not path.exists(), reason=f"{path.name} is not there")


# Long members pad short ones, so that full batches are not the cheapest.


def alternating() -> Trace:
    """A long prompt and a short one by turns, far enough apart for each to be served alone."""
    return Trace(
        arrival_s=np.arange(400) * 0.6,
        prompt_tokens=np.where(np.arange(400) % 2, 40_000, 10).astype(np.int32),
        output_tokens=np.where(np.arange(400) % 2, 2, 120).astype(np.int32),
    )


def test_a_load_above_one_of_full_batches_is_no_overload():
    result = simulate(alternating(), gpu="roofline_h100", num_gpus=1, scheduler="static_fifo")
    assert result.summary["offered_load"] > 1
    assert result.summary["queue_delay_mean_s"] < 0.5
    assert verdict(result) == (False, False, [])


@needs(ALTERNATING)
def test_idle_gpus_are_not_overloaded():
    keys = {"workload": "csv", "workload.path": str(ALTERNATING), "num_requests": None}
    result = simulate(**keys, gpu="roofline_h100", num_gpus=1, scheduler="static_fifo")
    assert result.summary["offered_load"] > 1
    assert verdict(result) == (False, False, [])


@needs(MOONCAKE)
@pytest.mark.parametrize(
    "keys",
    [
        {"num_gpus": 8, "scheduler": "static_fifo", "scheduler.fixed_batch_size": 64, "workload.spread_ties_s": 3},
        {"num_gpus": 1000, "execution": "continuous", "output.batches": False},
    ],
    ids=["batches", "continuous"],
)
def test_a_real_trace_on_idle_gpus_is_not_overload(keys):
    result = simulate(
        workload="mooncake", **{"workload.path": str(MOONCAKE)}, num_requests=12_031, gpu="roofline_h100", **keys
    )
    assert result.summary["gpu_utilization_pct"] < 50
    assert verdict(result) == (False, False, [])


def test_requests_that_arrive_together_do_not_wait_for_each_other():
    """More and more of them in each second, each on a GPU of its own."""
    arrival_s = np.repeat(np.arange(40.0), np.arange(1, 41))
    ones = np.ones(len(arrival_s), np.int32)
    for execution in ("continuous", "run_to_completion"):
        result = simulate(
            Trace(arrival_s=arrival_s, prompt_tokens=ones, output_tokens=ones),
            gpu="roofline_h100",
            num_gpus=50,
            execution=execution,
        )
        assert not waiting_found(result.outcome, 800).any()
        assert verdict(result) == (False, False, [])


def test_a_walk_without_drift_does_not_grow():
    """Rank correlation alone takes one walk in three for growth; the test of its changes takes one in a thousand."""
    rng = np.random.default_rng(0)
    walks = np.cumsum(rng.normal(size=(4000, 40)), axis=1)
    assert np.mean([drifts(walk) > 3.32 for walk in walks]) == pytest.approx(0.001, abs=0.0015)
    assert drifts(np.arange(40.0)) == np.inf
    assert drifts(np.arange(40.0)[::-1]) == drifts(np.ones(40)) == 0


# Twenty random workloads below and above a capacity found by search.

COUNT = 2000


def workload(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    """Return arrivals at mean rate 1, prompts, outputs and the other keys; every other one is continuous."""
    rng = np.random.default_rng(number)
    gaps = [
        rng.exponential(size=COUNT),
        rng.gamma(0.5, 2, COUNT),
        np.where(rng.random(COUNT) < 0.3, 0.0, rng.exponential(1 / 0.7, COUNT)),
        np.ones(COUNT),
    ][number // 2 % 4]
    prompt = np.clip(rng.lognormal(5.5, rng.uniform(0.3, 1.2), COUNT), 1, 8000).astype(np.int32)
    output = np.clip(rng.lognormal(4.5, rng.uniform(0.3, 1.0), COUNT), 1, 2000).astype(np.int32)
    keys: dict[str, Any] = {
        "gpu": str(rng.choice(["roofline_h100", "linear_p2", "rtx4080_qwen3_1_7b"])),
        "num_gpus": int(rng.integers(1, 6)),
        "scheduler": str(rng.choice(["static_fifo", "dynamic_no_bins", "multi_bin_dynamic"])),
        "output.batches": False,
    }
    size = "fixed_batch_size" if keys["scheduler"] == "static_fifo" else "batch_size_max"
    keys[f"scheduler.{size}"] = int(rng.choice([2, 8, 16]))
    if number % 2:
        keys["execution"] = "continuous"
        keys["execution.assignment"] = str(rng.choice(["join_shortest", "central", "least_kv"]))
        keys["execution.prefill"] = str(rng.choice(["first", "chunked"]))
    return np.cumsum(gaps) / gaps.mean(), prompt, output, keys


def served_at(number: int, rate_per_s: float) -> Result:
    arrival_s, prompt, output, keys = workload(number)
    return simulate(Trace(arrival_s=arrival_s / rate_per_s, prompt_tokens=prompt, output_tokens=output), **keys)


def left_over(result: Result) -> float:
    """Return by how much the number in the system grew for each arrival of the second half of the run."""
    arrival_s, finish_s = result.requests["arrival_s"].to_numpy(), np.sort(result.requests["finish_s"])
    half = COUNT // 2
    done = np.searchsorted(finish_s, arrival_s[[half, COUNT - 1]])
    return 1 - (done[1] - done[0]) / (COUNT - 1 - half)


def capacity_per_s(number: int) -> float:
    """Search for the highest rate at which the number in the system does not grow; 4 % fine."""
    finish_s = np.sort(served_at(number, 1e6).requests["finish_s"])
    flood_per_s = 0.6 * COUNT / (finish_s[int(0.8 * COUNT)] - finish_s[int(0.2 * COUNT)])
    low, high = 0.7 * flood_per_s, 1.25 * flood_per_s
    for _ in range(4):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if left_over(served_at(number, middle)) > 0.03 else (middle, high)
    return float((low * high) ** 0.5)


@pytest.mark.parametrize("first", [0, 5, 10, 15])
def test_the_verdict_is_right_below_and_above_a_capacity_found_by_search(first):
    for number in range(first, first + 5):
        capacity = capacity_per_s(number)
        for share in (0.3, 0.6, 0.9):
            result = served_at(number, share * capacity)
            assert verdict(result) == (False, False, []), f"workload {number} at {share} of its capacity"
        over = served_at(number, 1.2 * capacity)
        overloaded, climbing, said = verdict(over)
        assert (overloaded, climbing) == (True, True), f"workload {number} at 1.2 of its capacity"
        assert said[0].startswith("overload: the queue grows")
        # A bound on capacity is true: that many GPUs is not more than what the search found.
        for warning in said[1:]:
            least = int(warning.removeprefix("capacity: ").split()[0])
            assert least <= np.ceil(1.25 * over.outcome.num_gpus)


# The bound.


@pytest.mark.parametrize("kind", ["roofline", "linear", "affine", "grid_interpolation"])
def test_no_way_to_form_batches_takes_less_than_the_bound(kind):
    """Every partition of six requests into batches of at most four, priced."""
    settings = {
        "roofline": LawConfig(kind="roofline", card="h100"),
        "linear": LawConfig(kind="linear"),
        "affine": LawConfig(kind="affine"),
        "grid_interpolation": LawConfig(kind="grid_interpolation", path="rtx4080_qwen3_1_7b_generated.csv"),
    }
    law = build_law(GpuConfig(law=settings[kind]))
    rng = np.random.default_rng(1)
    ratios = []
    for _ in range(20):
        prompt = rng.choice([10, 300, 5000], 6).astype(np.int32)
        output = rng.choice([1, 17, 160, 900], 6).astype(np.int32)

        def price(members: list[int], prompt=prompt, output=output) -> float:
            p, o = prompt[members], output[members]
            longest = int(p.max()), int(o.max()), int((p + o).max())
            return law.service(len(members), *longest, int(p.sum()), int(o.sum()))[0]

        least_s = min(sum(price(part) for part in parts) for parts in partitions(list(range(6)), 4))
        keys = {"num_gpus": 1, "scheduler": "static_fifo", "scheduler.fixed_batch_size": 4}
        trace = Trace(arrival_s=np.zeros(6), prompt_tokens=prompt, output_tokens=output)
        outcome = simulate(trace, gpu="roofline_h100", **keys).outcome
        ratios.append(batches.least_work_s(outcome, law, 4) / least_s)
    assert max(ratios) <= 1 + 1e-9
    assert max(ratios) > 0.5  # and it says something


def partitions(items: list[int], most: int) -> Any:
    """Yield every way to split items into parts of at most `most`."""
    if not items:
        yield []
        return
    first, *rest = items
    for size in range(min(most, len(items))):
        for others in itertools.combinations(rest, size):
            left = [item for item in rest if item not in others]
            for parts in partitions(left, most):
                yield [[first, *others], *parts]


def test_equal_requests_in_full_batches_reach_the_bound():
    """Lengths that are told apart exactly, so that nothing is lost by rounding them down."""
    ones = np.full(64, 128, np.int32)
    keys = {"num_gpus": 1, "scheduler": "static_fifo", "scheduler.fixed_batch_size": 16, "gpu": "linear_p2"}
    result = simulate(Trace(arrival_s=np.zeros(64), prompt_tokens=ones, output_tokens=ones), **keys)
    busy_s = float((result.outcome.batches["finish_s"] - result.outcome.batches["start_s"]).sum())
    assert batches.least_work_s(result.outcome, result.law, 16) == pytest.approx(busy_s)


@pytest.mark.parametrize("prefill", ["first", "chunked"])
def test_no_run_of_iterations_takes_less_than_the_bound(prefill):
    ratios = []
    for number in range(1, 20, 2):
        arrival_s, prompt, output, keys = workload(number)
        keys |= {"execution.prefill": prefill, "gpu": ["roofline_h100", "linear_p2"][number // 2 % 2]}
        trace = Trace(arrival_s=arrival_s * 1e-6, prompt_tokens=prompt, output_tokens=output)
        result = simulate(trace, **keys)
        rules = execution_rules(result.config.execution, result.config.gpu)
        most = limit_max(result.config.scheduler)
        least_s = iterations.least_work_s(result.outcome, result.law, rules, most)
        ratios.append(least_s / float(result.outcome.gpus["busy_s"].sum()))
    assert max(ratios) <= 1 + 1e-9
    assert max(ratios) > 0.8


def test_nothing_is_said_of_a_price_that_is_not_known_to_rise(make_trace):
    trace = make_trace(np.arange(400) / 1000, [100] * 400)
    known = simulate(trace, gpu="linear_p2", num_gpus=1)
    assert known.summary["overloaded"]
    assert any("GPUs is the least" in warning for warning in known.warnings)
    noisy = simulate(trace, gpu="linear_p2", num_gpus=1, **{"gpu.noise.kind": "exponential"})
    assert noisy.summary["overloaded"]
    assert not any("GPUs is the least" in warning for warning in noisy.warnings)
