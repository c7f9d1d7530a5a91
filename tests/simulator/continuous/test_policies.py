"""Policies that only continuous batching has: assignment, running limit, shares of GPUs; and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from mbexp.config.keys import SlaConfig
from mbexp.config.scheduler_keys import ControllerConfig, SchedulerConfig
from mbexp.errors import UserError
from mbexp.policy import assignment, limit
from mbexp.policy.build import Policy, build_policy
from mbexp.policy.views import BEFORE_THE_RUN, Arrival, Gpus, Interval
from mbexp.simulator.continuous.setup import gpu_shares

NONE = np.zeros(8)


def assign(rule, requests, kv=None, first=0, count=None, share=0, draws=(0.0, 0.0), memory=NONE):
    requests = np.array(requests)
    kv = np.array(requests if kv is None else kv)
    gpus = Gpus(first, len(requests) if count is None else first + count, share, requests, kv)
    return rule(gpus, Arrival(10, *draws), memory, np.zeros(0))


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


def policy(scheduler: dict, assignment: str = "central") -> Policy:
    return build_policy(
        SchedulerConfig(**scheduler), SlaConfig(token_ms=50), 62_000, in_batches=False, assignment=assignment
    )


def next_limit(rules: Policy, state: np.ndarray, call: tuple, memory: tuple = (0, 0.0, 0.0)) -> int:
    """Return the limit after an interval given as `quick` gives it; `memory`: in prefill, held, capacity."""
    running, waiting, finished, tokens, squares, decoded, gap_sum_s, steps = call
    interval = Interval(
        False, running, waiting, finished, tokens, squares, gap_sum_s / max(decoded, 1), decoded / steps, *memory
    )
    return rules.limit.function(interval, rules.bounds, state, rules.limit.parameters)


def first_limit(rules: Policy, state: np.ndarray) -> int:
    return rules.limit.function(BEFORE_THE_RUN, rules.bounds, state, rules.limit.parameters)


def limits_of(scheduler, calls):
    rules = policy(scheduler)
    state = rules.limit_state(1)[0]
    return [first_limit(rules, state)] + [next_limit(rules, state, call) for call in calls]


def test_a_fixed_size_is_a_cap_and_never_asked_again():
    rules = policy({"batch_size": "fixed", "fixed_batch_size": 8})
    assert first_limit(rules, NONE) == 8
    assert rules.limit_max == 8
    assert rules.is_fixed


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
        first_limit(rules, state)
        next_limit(rules, state, quick(10, waiting, finished=1000))
        state_of_b_mem.append(state[limit.B_MEM])
    assert state_of_b_mem == [1000, 80]


def test_limit_is_never_below_the_running_count():
    slow = quick(60, 5, finished=1000, mean=7000.0, sigma=10.0, gap_s=0.2)
    assert limits_of({"batch_size_max": 128}, [slow] * 20)[-1] == 60


def test_printed_l0_lets_the_bound_run_away():
    rules = policy({"batch_size_max": 1000, "memory_rule": "printed"})
    state = rules.limit_state(1)[0]
    running = 100
    first_limit(rules, state)
    for _ in range(80):
        next_limit(rules, state, quick(running, 5, finished=1000))
        assert state[limit.B_MEM] > running or running == 1000
        running = int(state[limit.B_MEM])
    assert running == 1000  # far beyond the 80 that memory holds


def test_printed_l0_needs_requests_that_run():
    with pytest.raises(UserError, match=r"scheduler\.memory_rule=printed"):
        build_policy(SchedulerConfig(memory_rule="printed"), SlaConfig(), 62_000)


# In turn: 20 hold 240 of 1000 blocks, 12 each, and 0.95 * 1000 / 12 = 79.2; nobody waits but 3 in prefill; nobody runs;
# nothing is held; 50 hold 20 each, which leaves 47.5, but 50 run; 5 blocks are held by 40, or 0.125 each: beyond B_max.
RELEASED = [
    ((20, 8), (3, 240.0, 1000.0), 79),
    ((20, 3), (3, 480.0, 1000.0), 79),
    ((0, 8), (0, 0.0, 1000.0), 79),
    ((1, 8), (1, 0.0, 1000.0), 79),
    ((50, 1), (0, 1000.0, 1000.0), 50),
    ((40, 1), (0, 5.0, 1000.0), 600),
    ((1, 1), (0, 1000.0, 1000.0), 4),
]


def test_the_released_rule_goes_by_what_running_requests_hold():
    rules = policy({"batch_size_min": 4, "batch_size_max": 600, "memory_rule": "released"})
    state = rules.limit_state(1)[0]
    first_limit(rules, state)
    assert state[limit.B_MEM] == 600
    found = []
    for (running, waiting), memory, _ in RELEASED:
        next_limit(rules, state, quick(running, waiting), memory)
        found.append(state[limit.B_MEM])
    assert found == [expected for *_, expected in RELEASED]


def test_the_released_rule_needs_requests_that_run():
    with pytest.raises(UserError, match=r"scheduler\.memory_rule=released: .*; use execution=continuous, or corrected"):
        build_policy(SchedulerConfig(memory_rule="released"), SlaConfig(), 62_000)
    assert build_policy(SchedulerConfig(memory_rule="released", batch_size="fixed"), SlaConfig(), 62_000).is_fixed


def test_controller_settles_where_p2_says():
    # tau = .22 b + 30 ms, D = 50 ms: 90.9 requests.
    scheduler = {"batch_size_max": 200, "controller": ControllerConfig(tolerance_ms=2.0, window_batches=1)}
    rules = policy(scheduler)
    state = rules.limit_state(1)[0]
    most = first_limit(rules, state)
    seen = []
    for _ in range(200):
        gap_s = (0.22 * most + 30) / 1000
        most = next_limit(rules, state, quick(most, 5, gap_s=gap_s))  # everyone runs who may
        seen.append(most)
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


def test_a_rule_of_another_slot_is_refused():
    with pytest.raises(UserError, match=r"policy\.fill\.full \(.*fill\.py line \d+, full\): a rule for another"):
        policy({"batch_size": "mbexp.policy.fill.full"})
    with pytest.raises(UserError, match=r"execution.assignment=mbexp.policy.selection.oldest_head"):
        policy({}, assignment="mbexp.policy.selection.oldest_head")


def test_rules_of_mbexp_can_be_named_by_their_path():
    rules = policy({"batch_size": "mbexp.policy.limit.fixed"}, assignment="mbexp.policy.assignment.join_shortest")
    assert rules.limit.function is limit.fixed
    assert rules.assignment.function is assignment.join_shortest
    assert not rules.needs_draws
    assert policy({}, assignment="power_of_two").needs_draws
    assert policy({}).assignment is None
