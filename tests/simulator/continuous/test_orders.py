"""Queues with an order of their own, against the step-by-step simulator."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbexp.config.scheduler_keys import ORDER_BY, ORDERS
from tests.simulator.continuous.agreement import Case, difference
from tests.simulator.continuous.test_agreement import (
    cases,
    many,
    many_gpus_case,
    random_case,
    some_fast,
    step_law_case,
)
from tests.simulator.continuous.test_prefixes import prefix_case

EXAMPLES = int(os.environ.get("MBEXP_REFERENCE_CASES", "100"))


def in_order(case: Case, order: str, by: str) -> Case:
    return dataclasses.replace(case, scheduler={**case.scheduler, "order": order, "order_by": by})


@many(EXAMPLES)
@given(cases(), st.sampled_from(ORDERS), st.sampled_from(ORDER_BY))
def test_every_mode_in_every_order(case, order, by):
    assert difference(in_order(case, order, by)) is None


@pytest.mark.parametrize("order", ORDERS)
def test_larger_cases(order):
    for seed in range(6):
        case = (random_case, many_gpus_case, step_law_case)[seed % 3](seed)
        found = difference(in_order(case, order, ORDER_BY[seed % 4]))
        assert found is None, f"seed {seed}: {found}"


def central_case(seed: int) -> Case:
    """A case of central queues with an order that changes, or admission by the future peak, and a budget of tokens."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 16]))
    case = (many_gpus_case, random_case, random_case)[seed % 3](seed)
    order, kv = (
        ("vtc", "paged"), ("hrrn", "reserve"), ("sjf_ageing_discount", "paged"),
        ("fifo", "future"), ("hrrn", "future"), ("sjf", "future"),
    )[seed // 3 % 6]  # fmt: skip
    admission = str(rng.choice(["budget", "budget", "whole", "any"]))
    rules = {
        **{name: case.rules[name] for name in ("token_budget", "preemption", "swap_token_s", "underprediction")},
        **{name: case.rules[name] for name in ("gpu_serves", "turn_requests")},
        "prefill": str(rng.choice(["chunked", "alone"])),
        "admission": admission,
        "kv": kv,
    }
    if admission == "whole":
        rules["token_budget"] += 200
    return in_order(dataclasses.replace(case, assignment="central", rules=rules), order, ORDER_BY[seed % 4])


@some_fast(0, 18, 600)
def test_central_queues_with_a_budget_of_tokens(seeds):
    for seed in seeds:
        case = central_case(seed)
        found = difference(case)
        assert found is None, f"seed {seed}: {found}"


@pytest.mark.slow
def test_many_more_larger_cases():
    for seed in range(1000, 6000):
        order, by = ORDERS[seed % len(ORDERS)], ORDER_BY[seed % 4]
        for case in (random_case(seed), many_gpus_case(seed), step_law_case(seed)):
            found = difference(in_order(case, order, by))
            assert found is None, f"seed {seed}: {found}"


@pytest.mark.slow
def test_orders_beside_conversations_and_prefix_caches():
    for seed in range(300):
        case = in_order(prefix_case(seed, bool(seed % 2)), ORDERS[seed % len(ORDERS)], ORDER_BY[seed // 2 % 4])
        found = difference(case)
        assert found is None, f"seed {seed}: {found}"
