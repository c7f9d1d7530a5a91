"""Queues with an order of their own, against the step-by-step simulator."""

from __future__ import annotations

import dataclasses
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbexp.config.scheduler_keys import ORDER_BY, ORDERS
from tests.simulator.continuous.agreement import Case, difference
from tests.simulator.continuous.test_agreement import cases, many, many_gpus_case, random_case, step_law_case
from tests.simulator.continuous.test_prefixes import prefix_case

EXAMPLES = int(os.environ.get("MBEXP_REFERENCE_CASES", "100"))


def in_order(case: Case, order: str, by: str) -> Case:
    by_budget = case.rules["prefill"] != "first" and case.rules.get("admission") != "any"
    if by_budget and case.assignment == "central":  # refused for orders that change
        case = dataclasses.replace(case, assignment="join_shortest")
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
