"""Users of a closed loop, in both modes: the machine-repair model, the asymptotic bounds, Little's law, arrivals."""

from __future__ import annotations

import numpy as np
import pytest

from mbexp import UserError, configure, simulate
from mbexp.results.statistics import batch_means_interval
from mbexp.results.store import run_key
from mbexp.theory import queueing
from mbexp.validate.setups import constant_time, one_queue

STEP_S = 0.001
LOOP = {"workload": "synthetic", "workload.arrivals.kind": "closed", "output.batches": False}
SHORT = {"workload.prompt": {"kind": "constant", "value_tokens": 1}}
# A batch of one takes an exponential second on each of 2 GPUs.
IN_BATCHES = {**one_queue(1, gpus=2), **constant_time(noise="exponential")}
# Each of 2 slots serves a request for as many milliseconds as it has tokens.
BY_ITERATION = {
    "execution": "continuous",
    "execution.prefill": "chunked",
    "execution.token_budget": 10**6,
    "gpu.law": {"kind": "linear", "length": "output", "c0_ms": 1000 * STEP_S, "c1_ms": 0.0},
    "gpu.kv_capacity_tokens": 2**31 - 1,
    "scheduler": "static_fifo",
    "scheduler.fixed_batch_size": 2,
    "num_gpus": 1,
    "workload.output": {"kind": "exponential", "mean_tokens": 1 / STEP_S},
}
MODES = {"run_to_completion": IN_BATCHES, "continuous": BY_ITERATION}


def users(count: int, think_s: float, kind: str = "exponential"):
    arrivals = {"users": count, "think_time_s": think_s, "think_kind": kind}
    return {**LOOP, **SHORT, **{f"workload.arrivals.{key}": value for key, value in arrivals.items()}}


def instants(result):
    records = result.outcome
    return records.arrival_s, records.column("start_s", slice(None)), records.column("finish_s", slice(None))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [3, 10, 40])
def test_the_machine_repair_model(mode, count):
    result = simulate(**users(count, 5.0), **MODES[mode], num_requests=60_000, seed=2)
    arrival_s, _, finish_s = instants(result)
    model = queueing.machine_repair(count, 5.0, 1.0, 2)
    interval = batch_means_interval((finish_s - arrival_s)[6000:], confidence=0.99)
    assert interval.half_width < 0.05 * model.latency
    # Under continuous batching an arrival waits half a step on average, and a length is half a token above its mean.
    rounding_s = STEP_S * count if mode == "continuous" else 0.0
    assert abs(interval.mean - model.latency) <= interval.half_width + rounding_s
    throughput = 54_000 / (arrival_s[-1] - arrival_s[5999])
    assert throughput == pytest.approx(model.throughput, rel=0.015)


@pytest.mark.parametrize(("count", "think_s"), [(1, 4.0), (2, 4.0), (9, 4.0), (10, 4.0), (20, 4.0), (5, 0.0)])
def test_constant_times_reach_the_asymptotic_bounds(count, think_s):
    """D/D/2: R = max(S, N S / c - Z) once the users have spread, and X = N / (R + Z) is the bound itself."""
    keys = {**one_queue(1, gpus=2), **constant_time()}
    arrival_s, _, finish_s = instants(simulate(**users(count, think_s, "constant"), **keys, num_requests=400))
    latency_s = (finish_s - arrival_s)[-100:]
    if count % 2 == 0:
        assert set(latency_s) == {max(1.0, count / 2 - think_s)}
    assert latency_s.mean() == pytest.approx(max(1.0, count / 2 - think_s), abs=0.5)
    bound = queueing.most_throughput(count, think_s, 1.0, 2)
    assert bound == count / (max(1.0, count / 2 - think_s) + think_s)
    # In any time T no more are answered than the bound carries, and the first of each user.
    for number in (100, 200, 400):
        assert number <= bound * finish_s[number - 1] + count


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["constant", "exponential"])
def test_the_next_request_comes_when_an_answer_was_thought_about(mode, kind):
    result = simulate(**users(7, 1.5, kind), **MODES[mode], num_requests=3000)
    arrival_s, _, finish_s = instants(result)
    due_s = np.sort(finish_s + result.trace.closed.think_s)
    assert np.array_equal(arrival_s, np.concatenate([np.zeros(7), due_s])[:3000])
    # Little's law: until the last arrival every user either waits for an answer or thinks.
    end_s = arrival_s[-1]
    waits_s = (np.minimum(finish_s, end_s) - np.minimum(arrival_s, end_s)).sum()
    thinks_s = np.clip(end_s - finish_s, 0.0, result.trace.closed.think_s).sum()
    assert waits_s + thinks_s == pytest.approx(7 * end_s, rel=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_without_thinking_as_many_are_in_the_system_as_there_are_users(mode):
    arrival_s, _, finish_s = instants(simulate(**users(16, 0.0), **MODES[mode], num_requests=500))
    assert np.array_equal(arrival_s[16:], np.sort(finish_s)[: 500 - 16])


def test_more_users_than_requests_send_all_at_once():
    arrival_s, _, _ = instants(simulate(**users(50, 1.0), **IN_BATCHES, num_requests=20))
    assert not arrival_s.any()


@pytest.mark.parametrize("execution", ["run_to_completion", "continuous"])
def test_a_rejected_request_is_answered_at_once(execution):
    keys = {**users(3, 1.0), "workload.output": {"kind": "uniform", "low_tokens": 1, "high_tokens": 100}}
    result = simulate(
        **keys, **{"gpu.kv_capacity_tokens": 90, "num_gpus": 1}, execution=execution, num_requests=400
    )  # fmt: skip
    summary, table = result.summary, result.requests
    assert summary["rejected_requests"] > 10
    served = table[table.status == "completed"]
    assert len(served) + summary["rejected_requests"] == 400
    assert table.arrival_s.isna().sum() == summary["rejected_requests"]
    assert (served.arrival_s == 0).sum() == 3
    assert served.arrival_s.is_monotonic_increasing


def test_a_closed_loop_is_never_overloaded():
    summary = simulate(**users(500, 0.0), **IN_BATCHES, num_requests=2000).summary
    assert not summary["overloaded"]
    assert not summary["queue_climbing"]
    assert np.isnan(summary["offered_load"])


def test_a_trace_file_sent_by_users_keeps_its_lengths(tmp_path):
    path = tmp_path / "lengths.csv"
    rows = [(index, 10 + index % 7, 5 + index % 11) for index in range(100)]
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + "\n".join(f"{a},{b},{c}" for a, b, c in rows) + "\n")
    keys = {"workload.path": str(path), "workload.timestamps": "generated", "workload.arrivals.kind": "closed"}
    result = simulate(workload="csv", **keys, **{"workload.arrivals.users": 4}, num_requests=100)
    assert result.trace.prompt_tokens.tolist() == [row[1] for row in rows]
    arrival_s, _, finish_s = instants(result)
    assert np.array_equal(arrival_s[4:], np.sort(finish_s)[:96])


def test_users_change_the_trace_and_the_key():
    traces = [simulate(**users(count, 1.0), **IN_BATCHES, num_requests=30).trace for count in (2, 3)]
    assert traces[0].sha256 != traces[1].sha256
    assert run_key(configure(**users(2, 1.0)), "a") != run_key(configure(**users(3, 1.0)), "a")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({**LOOP}, "workload.arrivals.users=null: workload.arrivals.kind=closed needs it"),
        (
            {"workload": "synthetic", "workload.arrivals.users": 4},
            "workload.arrivals.users=4: has no effect with workload.arrivals.kind=poisson",
        ),
        ({**users(4, 1.0), "warm_up.time_s": 5.0}, "warm_up.time_s=5: when requests of a closed loop arrive"),
        (
            {**users(4, 1.0), "scheduler": "static_fifo", "scheduler.fill": "full"},
            "scheduler.fill: every user of the closed loop waits for a batch",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(keys, told):
    with pytest.raises(UserError, match=told.split("(")[0]) as raised:
        simulate(**keys, num_requests=200)
    assert "\n" not in str(raised.value)
