"""Policies that only continuous batching has: assignment, running limit, shares of GPUs; and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from mbexp.config.keys import ControllerConfig, ExecutionConfig, SchedulerConfig, SlaConfig
from mbexp.errors import UserError
from mbexp.policy import assignment, build_policy, running_limit
from mbexp.policy.continuous import build_continuous_policy
from mbexp.simulator.continuous.setup import gpu_shares

NONE = np.zeros(8)


def assign(rule, requests, kv=None, first=0, count=None, share=0, draws=(0.0, 0.0), memory=NONE):
    requests = np.array(requests)
    kv = np.array(requests if kv is None else kv)
    return rule(first, len(requests) - first if count is None else count, share, requests, kv, 10, *draws, memory)


def test_join_shortest_takes_the_fewest_and_the_lowest_of_equals():
    assert assign(assignment.join_shortest, [3, 1, 2, 1]) == 1
    assert assign(assignment.join_shortest, [0, 3, 2, 5], first=1) == 2


def test_least_kv_looks_at_tokens_not_requests():
    assert assign(assignment.least_kv, [1, 9], kv=[500, 400]) == 1


def test_round_robin_keeps_a_turn_for_each_share():
    memory = np.zeros(8)
    turns = [assign(assignment.round_robin, [0] * 5, first=0, count=2, share=0, memory=memory) for _ in range(3)]
    other = [assign(assignment.round_robin, [0] * 5, first=2, count=3, share=1, memory=memory) for _ in range(4)]
    assert turns == [0, 1, 0]
    assert other == [2, 3, 4, 2]


def test_power_of_two_draws_two_different_gpus_evenly():
    draws = np.random.default_rng(1).random((4000, 2))
    even = [assign(assignment.power_of_two, [0, 0, 0, 0], draws=pair) for pair in draws]
    assert np.bincount(even) == pytest.approx([1000] * 4, abs=120)
    # The busiest of four is never taken, since the other drawn has fewer; the idlest whenever it is drawn.
    loaded = [assign(assignment.power_of_two, [3, 0, 1, 2], draws=pair) for pair in draws]
    shares = np.bincount(loaded, minlength=4) / len(loaded)
    assert shares[0] == 0
    assert shares == pytest.approx([0, 1 / 2, 1 / 3, 1 / 6], abs=0.03)
    assert assign(assignment.power_of_two, [7], draws=(0.9, 0.9)) == 0
    assert assign(assignment.power_of_two, [1, 1], draws=(1 - 2**-53, 1 - 2**-53)) == 1


def policy(scheduler, **execution):
    config = ExecutionConfig(name="continuous", **execution)
    return build_continuous_policy(SchedulerConfig(**scheduler), SlaConfig(token_ms=50), config, 62_000)


def limits_of(scheduler, calls):
    rules = policy(scheduler)
    state = rules.limit_state(1)[0]
    function, parameters = rules.running_limit, rules.running_limit_parameters
    found = [function(parameters, state, 0, 0, 0, 0.0, 0.0, 0, 0.0, 0)]
    return found + [function(parameters, state, *call) for call in calls]


def test_a_fixed_size_is_a_cap_and_never_asked_again():
    rules = policy({"batch_size": "fixed", "fixed_batch_size": 8})
    assert rules.running_limit(rules.running_limit_parameters, NONE, 0, 0, 0, 0.0, 0.0, 0, 0.0, 0) == 8
    assert (rules.limit_max, rules.interval_steps) == (8, 0)


# (running, waiting, finished, sum, sum of squares, tokens, sum of gaps, steps)
def quick(running, waiting, finished=0, mean=704.1, sigma=360.6, gap_s=0.01, steps=10):
    squares = finished * (mean**2 + sigma**2)
    return running, waiting, finished, finished * mean, squares, running * steps, running * steps * gap_s, steps


def test_memory_bound_is_the_closed_form_of_algorithm_1():
    scheduler = {"batch_size_max": 1000, "controller": ControllerConfig(alpha_requests=1.0)}
    # b_SLA stays out of the way: far below the SLA the interval's upper end stays at B_max.
    many = quick(10, 5, finished=100_000)
    limits = limits_of({**scheduler, "memory_overflow_probability": 0.05}, [many] * 3)
    assert limits[0] == 500
    assert limits[-1] == 80  # 80.499 in the sheet of reference values


def test_memory_bound_waits_for_work_of_both_kinds():
    scheduler = {"batch_size_max": 1000}
    state_of_b_mem = []
    for waiting in (0, 3):
        rules = policy(scheduler)
        state = rules.limit_state(1)[0]
        function, parameters = rules.running_limit, rules.running_limit_parameters
        function(parameters, state, 0, 0, 0, 0.0, 0.0, 0, 0.0, 0)
        function(parameters, state, *quick(10, waiting, finished=1000))
        state_of_b_mem.append(state[running_limit.B_MEM])
    assert state_of_b_mem == [1000, 80]


def test_limit_is_never_below_the_running_count():
    slow = quick(60, 5, finished=1000, mean=7000.0, sigma=10.0, gap_s=0.2)
    assert limits_of({"batch_size_max": 128}, [slow] * 20)[-1] == 60


def test_printed_l0_lets_the_bound_run_away():
    rules = policy({"batch_size_max": 1000, "memory_rule": "printed"})
    state = rules.limit_state(1)[0]
    running = 100
    rules.running_limit(rules.running_limit_parameters, state, 0, 0, 0, 0.0, 0.0, 0, 0.0, 0)
    for _ in range(80):
        rules.running_limit(rules.running_limit_parameters, state, *quick(running, 5, finished=1000))
        assert state[running_limit.B_MEM] > running or running == 1000
        running = int(state[running_limit.B_MEM])
    assert running == 1000  # far beyond the 80 that memory holds


def test_printed_l0_needs_requests_that_run():
    with pytest.raises(UserError, match=r"scheduler\.memory_rule=printed"):
        build_policy(SchedulerConfig(memory_rule="printed"), SlaConfig(), 62_000)


def test_controller_settles_where_p2_says():
    # tau = .22 b + 30 ms, D = 50 ms: 90.9 requests.
    scheduler = {"batch_size_max": 200, "controller": ControllerConfig(tolerance_ms=2.0, window_batches=1)}
    rules = policy(scheduler)
    state = rules.limit_state(1)[0]
    limit = rules.running_limit(rules.running_limit_parameters, state, 0, 0, 0, 0.0, 0.0, 0, 0.0, 0)
    seen = []
    for _ in range(200):
        gap_s = (0.22 * limit + 30) / 1000
        limit = rules.running_limit(
            rules.running_limit_parameters, state, *quick(limit, 5, gap_s=gap_s)
        )  # everyone runs who may
        seen.append(limit)
    assert np.mean(seen[-50:]) == pytest.approx(90.9, abs=12)


def test_equal_shares_go_to_the_first_bins():
    first, count = gpu_shares("equal_share", 8, 3, np.zeros(1, np.uint16), np.ones(1, np.int32))
    assert count.tolist() == [3, 3, 2]
    assert first.tolist() == [0, 3, 6]


def test_shares_by_load_follow_the_predicted_outputs():
    bins = np.repeat([0, 1, 2], [70, 20, 10]).astype(np.uint16)
    tokens = np.repeat([1, 10, 100], [70, 20, 10]).astype(np.int32)  # loads 70, 200, 1000
    first, count = gpu_shares("load_share", 13, 3, bins, tokens)
    assert count.tolist() == [1 + 0, 1 + 2, 1 + 8]  # of ten: .55, 1.57, 7.87
    assert first.tolist() == [0, 1, 4]
    assert gpu_shares("load_share", 5, 2, bins[:0], tokens[:0])[1].tolist() == [3, 2]


def test_all_gpus_are_one_share_where_any_serves_any_bin():
    for serves in ("any_bin", "one_bin"):
        first, count = gpu_shares(serves, 5, 3, np.zeros(1, np.uint16), np.ones(1, np.int32))
        assert (first.tolist(), count.tolist()) == ([0], [5])


def test_a_rule_of_the_other_mode_is_refused():
    with pytest.raises(UserError, match=r"not a rule of this kind under execution=continuous"):
        policy({"batch_size": "mbexp.policy.batch_size.fixed"})
    with pytest.raises(UserError, match=r"execution.assignment=mbexp.policy.selection.oldest_head"):
        policy({}, assignment="mbexp.policy.selection.oldest_head")


def test_own_rules_are_named_by_their_path():
    rules = policy({"batch_size": "mbexp.policy.running_limit.cap"}, assignment="mbexp.policy.assignment.join_shortest")
    assert rules.running_limit is running_limit.cap
    assert rules.assign is assignment.join_shortest
    assert not rules.central
    assert rules.needs_draws  # what an own rule draws is not known
    assert not policy({}, assignment="least_kv").needs_draws
