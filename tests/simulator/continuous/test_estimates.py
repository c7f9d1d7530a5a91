"""What requests are expected to add, and who gives way: against the step-by-step simulator, by hand, and in rounds."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mbexp
from mbexp.config.execution_keys import FUTURE_ESTIMATES, WHO_GIVES_WAY
from mbexp.errors import UserError
from mbexp.paths import config_dir
from mbexp.simulator.continuous.estimates import uniform
from tests.simulator.continuous.agreement import Case, difference, run_closed_form
from tests.simulator.continuous.test_agreement import cases, many, many_gpus_case, random_case, some_fast, step_law_case
from tests.simulator.continuous.test_future import ROUND, RULES, Rounds, best_total, case_of, drawn, fits

ORDERS = ("fifo", "sjf", "srpt", "hrrn", "priority")


def estimating(case: Case, estimate: str, size: int, gives_way: str, preemption: str, order: str) -> Case:
    """The same case with admission by the future peak, other estimates, and other rules on who gives way."""
    rules = {name: value for name, value in case.rules.items() if name in (
        "prefill", "token_budget", "prefill_max_tokens", "swap_token_s", "gpu_serves", "turn_requests", "watermark_pct",
        "max_model_len_tokens", "admission", "kv", "underprediction", "block_tokens",
    )}  # fmt: skip
    rules |= {"gives_way": gives_way, "preemption": preemption}
    if estimate:
        rules |= {"kv": "future", "future_estimate": estimate, "future_history": size, "estimate_seed": case.seed}
    return dataclasses.replace(case, rules=rules, scheduler={**case.scheduler, "order": order, "order_by": "output"})


KEEPS = st.sampled_from(["recompute", "swap", "restart"])


@many(80)
@given(cases(), st.sampled_from(["", *FUTURE_ESTIMATES]), st.integers(1, 6), st.sampled_from(WHO_GIVES_WAY), KEEPS,
       st.sampled_from(ORDERS))  # fmt: skip
def test_every_mode(case, estimate, size, gives_way, preemption, order):
    assert difference(estimating(case, estimate, size, gives_way, preemption, order)) is None


def drawn_case(seed: int) -> Case:
    rng = np.random.default_rng(np.random.SeedSequence([seed, 37]))
    case = (random_case, random_case, many_gpus_case, step_law_case)[seed % 4](seed)
    case = dataclasses.replace(case, memory=max(int(case.memory * rng.choice([0.3, 1.0])), 40))
    estimate = str(rng.choice(["history", "history", "lightllm", "low", ""]))
    if estimate in ("history", "lightllm"):  # predictions are the most that requests may emit
        case = dataclasses.replace(case, requests=[(*row[:3], row[2] + row[3], row[4]) for row in case.requests])
    return estimating(
        case, estimate, int(rng.integers(1, 30)), str(rng.choice(WHO_GIVES_WAY)),
        str(rng.choice(["recompute", "swap", "restart"])), str(rng.choice(ORDERS)),
    )  # fmt: skip


@some_fast(0, 40, 1500)
def test_larger_cases(seeds):
    preempted = 0
    for seed in seeds:
        case = drawn_case(seed)
        found = difference(case)
        assert found is None, f"seed {seed}: {found}"
        preempted += int(run_closed_form(case).preemptions.sum())
    assert preempted > 50


def test_who_gives_way_to_a_central_queue_is_offered_to_an_emptier_gpu_first() -> None:
    assert difference(drawn_case(922)) is None


def first_come(rows: list[tuple[float, int, int, int, int]], memory: int, **rules: object) -> Case:
    scheduler = {"batch_size": "fixed", "fixed_batch_size": 64}
    return Case(rows, ROUND, memory=memory, scheduler=scheduler, rules={**RULES, **rules})


def test_an_untouched_history_is_what_requests_may_emit() -> None:
    """Before anybody is answered, a newcomer is expected to emit all that it may: q, here 10."""
    rows = [(0.0, 5, 2, 10, 0)] * 4
    for estimate in ("predicted", "history"):
        outcome = run_closed_form(first_come(rows, 30, future_estimate=estimate, future_history=3))
        assert outcome.start_s.tolist()[:3] == [0, 0, 2]  # two peak at 30, three at 45


def test_a_history_of_short_outputs_lets_more_in() -> None:
    """After three answers of one token, a history of three knows of nothing else: each newcomer adds one token."""
    rows = [(0.0, 5, 1, 10, 0), (2.0, 5, 1, 10, 0), (2.0, 5, 1, 10, 0), (2.0, 5, 1, 10, 0), *[(0.0, 5, 1, 10, 0)] * 7]
    outcome = run_closed_form(first_come(rows, 30, future_estimate="history", future_history=3))
    # Five of prompts of 5 and a token each peak at 30.
    assert np.bincount(outcome.start_s.astype(int)).tolist() == [1, 0, 1, 0, 1, 0, 5, 3]
    assert not outcome.preemptions.any()


def test_lightllm_expects_1024_tokens_or_a_tenth_more_than_there_are() -> None:
    """Newcomers at 0 are expected to emit 1,024; one that has 3,000, a tenth more."""
    rows = [(0.0, 1, 5000, 5000, 0), (0.0, 1, 10, 5000, 0)]
    outcome = run_closed_form(first_come(rows, 6000, future_estimate="lightllm"))
    assert outcome.start_s.tolist() == [0, 0]  # 2 (1 + 1024) = 2050
    # By predictions the second comes in once 2 + t + 2 (5000 - t) fits.
    assert run_closed_form(first_come(rows, 5500, future_estimate="predicted")).start_s.tolist() == [0, 4502]
    # At 3,000 the first holds 3,001 and is expected to add 300, until when the second adds as many: 3,901 + 600. From
    # then on the first is expected to end ever later, up to its 4,000.
    for memory, start in ((4501, 3000), (4500, 4000)):
        rows = [(0.0, 1, 4000, 4000, 0), (3000.0, 900, 100, 3000, 0)]
        assert run_closed_form(first_come(rows, memory, future_estimate="lightllm")).start_s.tolist() == [0, start]


def test_drawn_numbers_are_uniform() -> None:
    import numba

    @numba.njit
    def draw(seed, count):
        numbers = np.empty((count, count))
        for iteration in range(count):
            for request in range(count):
                numbers[iteration, request] = uniform(seed, 0, iteration, request, 0)
        return numbers

    found = draw(7, 300)
    assert found.min() >= 0
    assert found.max() < 1
    for along in (found.ravel(), found.T.ravel()):
        counts = np.bincount((100 * along).astype(int), minlength=100)
        assert ((counts - 900) ** 2 / 900).sum() < 148  # chi-squared, 99 degrees of freedom: 0.1 %
        assert abs(np.corrcoef(along[:-1], along[1:])[0, 1]) < 0.011  # 3.3 standard deviations
    assert not np.array_equal(found, draw(8, 300))


def test_a_run_is_that_of_its_seed() -> None:
    random = np.random.default_rng(3)
    rows = [(1.0, 3, int(o), 60, 0) for o in random.geometric(0.1, 300)]
    runs = [
        run_closed_form(first_come(rows, 100, future_estimate="history", future_history=20, estimate_seed=seed))
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(runs[0].start_s, runs[1].start_s)
    assert not np.array_equal(runs[0].start_s, runs[2].start_s)


# A_max and A_min: outputs that are known to lie in [low, high], in unit rounds.
A_MIN = {"future_estimate": "low", "gives_way": "least_predicted", "preemption": "restart"}


def a_min(requests: Rounds, low: list[int], memory: int) -> tuple[list[int], int]:
    """The rule of arXiv 2508.14544 in unit rounds, from its description: ends, and how many were stopped."""
    estimate, start, end, order, stopped = list(low), {}, {}, [], 0
    now = 0
    while len(end) < len(requests):
        for i in [i for i in order if now - start[i] == requests[i][2]]:
            end[i] = now
            order.remove(i)
        made = {i: now - start[i] for i in order}
        while sum(requests[i][1] + made[i] + 1 for i in order) > memory:
            last = min(reversed(order), key=lambda i: max(estimate[i], made[i]))
            estimate[last] = max(estimate[last], made[last])
            order.remove(last)
            stopped += 1
        waiting = [i for i in range(len(requests)) if i not in order and i not in end and requests[i][0] <= now]
        for i in sorted(waiting, key=lambda i: (estimate[i], i)):
            made[i] = 0
            expected = [(now - made[j], requests[j][1], max(estimate[j], made[j])) for j in [*order, i]]
            next_round = sum(requests[j][1] + made[j] + 1 for j in [*order, i])
            if next_round > memory or not fits(expected, memory, now):
                break
            order.append(i)
            start[i] = now
        now += 1
    return [end[i] for i in range(len(requests))], stopped


def in_interval(requests: Rounds, predicted: list[int], memory: int, **rules: object) -> Case:
    case = case_of(requests, memory)
    rows = [(*row[:3], one, 0) for row, one in zip(case.requests, predicted, strict=True)]
    return dataclasses.replace(case, requests=rows, rules={**case.rules, **rules})


def test_a_min_in_unit_rounds() -> None:
    stopped = 0
    for seed in range(60):
        requests, memory = drawn(seed, 12, at_once=bool(seed % 2))
        low = np.random.default_rng(seed).integers(1, [output + 1 for _, _, output in requests]).tolist()
        case = in_interval(requests, low, memory, **A_MIN)
        ends, count = a_min(requests, low, memory)
        outcome = run_closed_form(case)
        assert outcome.finish_s.tolist() == ends
        assert outcome.preemptions.sum() == count
        assert outcome.gpus["held_max"].max() <= memory
        assert difference(case) is None
        stopped += count
    assert stopped > 50


def test_a_min_with_exact_lengths_is_mc_sf() -> None:
    for seed in range(20):
        requests, memory = drawn(seed, 12, at_once=bool(seed % 2))
        exact = [output for _, _, output in requests]
        outcome = run_closed_form(in_interval(requests, exact, memory, **A_MIN))
        assert outcome.finish_s.tolist() == run_closed_form(case_of(requests, memory)).finish_s.tolist()
        assert not outcome.preemptions.any()


def test_a_min_by_hand() -> None:
    """Two of prompt 1 share 8 tokens; both are thought to emit 2 or more, and emit 5 and 6.

    After three rounds they hold 8, and the next would take 10. Both estimates rose to 3: the second, admitted last,
    loses its three tokens, and begins again at once, for 5 + 2 fit. A round later 6 + 3 would not: it has 3 to the 4 of
    the first, loses a token, and begins a third time. The first ends at 5, the second six rounds after 4.
    """
    requests, low = [(0, 1, 5), (0, 1, 6)], [2, 2]
    outcome = run_closed_form(in_interval(requests, low, 8, **A_MIN))
    assert outcome.finish_s.tolist() == [5, 10] == a_min(requests, low, 8)[0]
    assert outcome.preemptions.tolist() == [0, 2]
    assert outcome.start_s.tolist() == [0, 0]
    assert outcome.first_token_s.tolist() == [1, 5]  # the first that stays
    assert outcome.lost_gaps == 2
    assert outcome.gaps.count == 4 + 5 + 2
    assert outcome.recomputed_tokens == 2  # its prompt, twice more


def test_a_max_keeps_its_ratio_to_the_best() -> None:
    """All at 0, one prompt, outputs in [low, high]: alpha = low / high, and at most (1 + 1 / alpha) / (2 alpha)."""
    worst = 0.0
    for seed in range(40):
        random = np.random.default_rng(np.random.SeedSequence([seed, 38]))
        low = int(random.integers(1, 3))
        high = int(random.integers(low, 3 * low + 1))
        prompt = int(random.integers(1, 3))
        requests = [(0, prompt, int(output)) for output in random.integers(low, high + 1, 5)]
        memory = int(random.integers(prompt + high, 3 * (prompt + high)))
        outcome = run_closed_form(in_interval(requests, [high] * 5, memory, future_estimate="high"))
        assert not outcome.preemptions.any()
        ratio = outcome.finish_s.sum() / best_total(requests, memory)
        alpha = low / high
        assert 1 <= ratio <= (1 + 1 / alpha) / (2 * alpha)
        worst = max(worst, ratio)
    assert worst > 1.2  # it pays for what it does not know


@pytest.mark.parametrize(
    ("rules", "keys", "says"),
    [
        ({"kv": "paged", "future_estimate": "history"}, {}, r"future_estimate=history: .*; use execution\.kv=future"),
        ({"gives_way": "least_predicted"}, {"order": "sjf", "preempt": True}, "gives_way=least_predicted: .*preempt"),
    ],
)
def test_what_does_not_go_together_is_refused(rules, keys, says) -> None:
    case = first_come([(0.0, 1, 2, 2, 0)], 30, **rules)
    case = dataclasses.replace(case, assignment="join_shortest", scheduler={**case.scheduler, **keys})
    with pytest.raises(UserError, match=says):
        run_closed_form(case)


MEMORY_LIMITS: dict[str, Any] = {
    "execution": "continuous", "execution.kv": "future", "workload": "synthetic", "num_gpus": 1, "num_requests": 1500,
    "gpu": "h100_llama31_8b", "gpu.kv_capacity_tokens": 6000, "workload.arrivals": {"rate_per_s": 40.0},
    "workload.prompt": {"kind": "lognormal", "mean_tokens": 200, "sigma": 1},
    "workload.output": {"kind": "lognormal", "mean_tokens": 120, "sigma": 1},
}  # fmt: skip


def command_of(name: str) -> dict[str, Any]:
    """The keys of the command that a scheduler's file opens with."""
    text = (config_dir() / "scheduler" / f"{name}.yaml").read_text()
    line = next(line for line in text.splitlines() if line.startswith("# python -m mbexp "))
    keys = (word.split("=") for word in line.split()[4:])
    return {key: float(value) if value[0].isdigit() else value for key, value in keys}


def test_the_commands_of_the_named_schedulers() -> None:
    found = {name: mbexp.simulate(**MEMORY_LIMITS | command_of(name)) for name in ("past_future", "a_max", "a_min")}
    assert all(result.summary["completed_requests"] == 1500 for result in found.values())
    assert found["a_max"].summary["preemptions"] == 0 < found["a_min"].summary["preemptions"]
    again = mbexp.simulate(**MEMORY_LIMITS | command_of("past_future"))
    assert np.array_equal(again.outcome.finish_s, found["past_future"].outcome.finish_s)


def test_one_interval_for_all() -> None:
    """A_max then takes them as they come; A_min learns who is longer, and takes an order that sorts by that."""
    one = {"predictor": "constant", "predictor.value_tokens": 1000, "predictor.low_factor": 0.001}
    by_order = mbexp.simulate(**MEMORY_LIMITS | command_of("a_min") | one)
    assert by_order.summary["preemptions"] > 0
    with pytest.raises(UserError, match=r"order=sjf: sorts by predicted outputs, and predictor=constant"):
        mbexp.simulate(**MEMORY_LIMITS | command_of("a_max") | one)
    as_given = {name: value for name, value in MEMORY_LIMITS.items() if name != "execution.kv"}
    with pytest.raises(UserError, match=r"execution\.future_estimate=high: .*use execution.kv=future"):
        mbexp.simulate(**as_given | {"execution.future_estimate": "high"})
    with pytest.raises(UserError, match=r"execution\.future_history=100000: "):
        mbexp.simulate(**MEMORY_LIMITS | {"execution.future_estimate": "history", "execution.future_history": 10**5,
                                          "num_gpus": 20_000, "scheduler.batch_size_max": 2})  # fmt: skip
