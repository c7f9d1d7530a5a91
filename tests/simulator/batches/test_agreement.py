"""The compiled loop equals the textbook simulator, batch for batch and bit for bit."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mbexp.config.gpu_keys import GpuConfig, LawConfig
from mbexp.config.scheduler_keys import BATCH_SIZES, FILLS, ORDER_BY, SELECTIONS
from mbexp.config.scheduler_keys import ORDERS as ALL_ORDERS
from mbexp.errors import UserError
from mbexp.hardware import build_law
from tests.simulator.batches import agreement
from tests.simulator.batches.agreement import Case, difference, rows_of_compiled, run_compiled, run_reference
from tests.simulator.batches.case_strategy import GAPS_S, cases
from tests.simulator.batches.corner_cases import CORNERS

# As many as reach every corner (the last test but one), others with -m slow; MBEXP_REFERENCE_CASES=100000 for a night.
EXAMPLES = int(os.environ.get("MBEXP_REFERENCE_CASES", "400"))
ORDERS = [order for order in ALL_ORDERS if order != "vtc"]  # which counts tokens of continuous batching
POINTS = list(itertools.product(BATCH_SIZES, SELECTIONS, FILLS))


def agree(case: Case) -> None:
    found = difference(case)
    assert found is None, f"{case}\n{found}"


@pytest.mark.parametrize("name", CORNERS)
def test_corners_are_as_worked_out_by_hand(name):
    case, expected = CORNERS[name]
    agree(case)
    rows = rows_of_compiled(run_compiled(case))
    found = {
        number: {key: len(rows[number]["members"]) if key == "size" else rows[number][key] for key in columns}
        for number, columns in expected.items()
    }
    assert found == expected
    if all("members" in columns for columns in expected.values()):
        assert len(rows) == len(expected)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_small_cases_agree(case):
    agree(case)


@pytest.mark.slow
@settings(max_examples=5 * EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_many_more_small_cases_agree(case):
    agree(case)


@settings(max_examples=EXAMPLES // 4, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.sampled_from(ORDERS), st.sampled_from(ORDER_BY), st.data())
def test_orders_agree(case, order, by, data):
    """Whoever the order puts first goes first, in every fill and selection, with and without users."""
    ordered = dataclasses.replace(case, scheduler={**case.scheduler, "order": order, "order_by": by})
    agree(ordered)
    if data.draw(st.booleans()):
        think = data.draw(st.lists(GAPS_S, min_size=len(case.requests), max_size=len(case.requests)))
        agree(closed(ordered, data.draw(st.integers(1, 9)), think))


@pytest.mark.parametrize("order", ORDERS)
def test_long_runs_in_an_order_agree(order):
    for seed in range(3):
        batch_size, selection, fill = POINTS[(7 * seed + ORDERS.index(order)) % len(POINTS)]
        case = long_case(seed, batch_size, selection, fill, count=250)
        case.scheduler |= {"order": order, "order_by": ORDER_BY[seed]}
        agree(case)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_orders_of_turns_of_conversations_agree(order):
    for seed in range(8):
        batch_size, selection, fill = POINTS[(7 * seed + ORDERS.index(order)) % len(POINTS)]
        case = long_case(seed, batch_size, selection, fill, count=200)
        case.scheduler |= {"order": order, "order_by": ORDER_BY[seed % 4]}
        random = np.random.default_rng(seed)
        parents = [int(random.integers(max(-1, place - 40), place)) for place in range(200)]
        agree(turned(case, parents, (random.integers(0, 64, 200) / 64).tolist()))


def closed(case: Case, users: int, think: list[float]) -> Case:
    """The requests of a case, sent by users; a batch that they could not fill leaves by timeout."""
    fill = "timeout" if case.config.fill == "full" else case.config.fill
    return dataclasses.replace(case, users=users, think=think, scheduler={**case.scheduler, "fill": fill})


@settings(max_examples=EXAMPLES // 3, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.data())
def test_users_of_a_closed_loop_agree(case, data):
    count = len(case.requests)
    think = data.draw(st.lists(GAPS_S, min_size=count, max_size=count))
    agree(closed(case, data.draw(st.integers(1, 9)), think))


def turned(case: Case, parents: list[int], think: list[float]) -> Case:
    """The requests of a case as turns of conversations, each caused by an earlier one or by none."""
    fill = "timeout" if case.config.fill == "full" else case.config.fill
    return dataclasses.replace(case, parents=parents, think=think, scheduler={**case.scheduler, "fill": fill})


@settings(max_examples=EXAMPLES // 3, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.data())
def test_turns_of_conversations_agree(case, data):
    count = len(case.requests)
    parents = [data.draw(st.integers(-1, place - 1)) for place in range(count)]
    think = data.draw(st.lists(st.integers(0, 16).map(lambda ticks: ticks / 4), min_size=count, max_size=count))
    agree(turned(case, parents, think))


def long_case(seed: int, batch_size: str, selection: str, fill: str, count: int = 400) -> Case:
    """A run long enough for windows to wrap and statistics to settle, drawn from one seed."""
    random = np.random.default_rng(np.random.SeedSequence([seed, 77]))
    queues = int(random.integers(1, 6))
    gpus = int(random.integers(1, 9))
    gaps = random.exponential(float(random.choice([0.002, 0.01, 0.1])), count)
    gaps[random.random(count) < random.choice([0.0, 0.3])] = 0.0
    if random.random() < 0.3:
        gaps = np.round(gaps * 4) / 4
    prompt, output, predicted = random.integers(1, 60, (3, count))
    if random.random() < 0.5:
        predicted = output
    bins = random.integers(0, queues, count) if random.random() < 0.5 else (output - 1) * queues // 60
    columns = (gaps, prompt, output, predicted, bins)
    return Case(
        requests=list(zip(*(column.tolist() for column in columns), strict=True)),
        queues=queues,
        gpus=gpus,
        memory=int(random.choice([130, 1000, 4000, 100_000])),
        scheduler={
            "batch_size": batch_size,
            "selection": selection,
            "fill": fill,
            "fixed_batch_size": int(random.integers(1, 20)),
            "timeout_s": float(random.choice([0.1, 1.0, 5.0])),
            "batch_size_min": int(random.integers(1, 4)),
            "batch_size_max": int(random.integers(12, 64)),
            "memory_rule": str(random.choice(["corrected", "original"])),
        },
        controller={
            "alpha_requests": float(random.choice([2.0, 5.0, 16.0])),
            "delta_requests": float(random.choice([1.0, 4.0])),
            "tolerance_ms": float(random.choice([0.4, 5.0])),
            "window_batches": int(random.choice([1, 3, 16])),
            "interval_batches": int(random.choice([1, 1, 4])),
        },
        token_ms=float(random.choice([19.0, 22.0, 27.0])),
        law=[0.06, *(0.0,) * 3, 0.005 * random.random(), 0.0, 0.0001, 0.06, 0.0, 0.0, 0.015, 0.001, 0.00002, 0.0],
        noise=random.lognormal(0, 0.05, count).tolist() if random.random() < 0.5 else [],
    )


@pytest.mark.parametrize(("batch_size", "selection", "fill"), POINTS)
def test_long_runs_agree(batch_size, selection, fill):
    for seed in range(4):
        case = long_case(seed, batch_size, selection, fill)
        agree(case)
        random = np.random.default_rng(seed)
        agree(closed(case, int(random.integers(1, 60)), random.exponential(0.1, len(case.requests)).tolist()))
        count = len(case.requests)
        parents = [int(random.integers(max(-1, place - 40), place)) for place in range(count)]
        agree(turned(case, parents, (random.integers(0, 64, count) / 64).tolist()))


def in_quarters(case: Case, overhead: float) -> Case:
    """The case with times that are exact in binary, so that sums in any order are equal, and time before the queue."""
    rows = [(round(4 * gap) / 4, *others) for gap, *others in case.requests]
    law = [round(4 * weight) / 4 for weight in case.law]
    return dataclasses.replace(case, requests=rows, law=law, noise=[], overhead=overhead)


@settings(max_examples=EXAMPLES // 12, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.sampled_from([0.25, 0.75, 3.0]), st.data())
def test_requests_that_spend_time_before_the_queue_agree(case, overhead, data):
    """docs/semantics/laws.md: a request joins r after it was sent, and its times count from then."""
    case = in_quarters(case, overhead)
    agree(case)
    count = len(case.requests)
    think = data.draw(st.lists(st.integers(0, 16).map(lambda ticks: ticks / 4), min_size=count, max_size=count))
    agree(closed(case, data.draw(st.integers(1, 9)), think))
    agree(turned(case, [data.draw(st.integers(-1, place - 1)) for place in range(count)], think))


def test_the_time_before_the_queue_is_worked_out_by_hand():
    """Service 1 s on one GPU, one at a time, r = 0.5 s; two users without think time send three requests."""
    law, rows = (1.0, *[0.0] * 13), [(0.0, 1, 1, 1, 0)] * 3
    alone = {"scheduler": {"batch_size": "fixed", "fixed_batch_size": 1, "fill": "greedy"}, "law": law, "overhead": 0.5}
    users = Case(rows, users=2, think=[0.0] * 3, **alone)
    agree(users)
    found = run_compiled(users)
    assert found.batches["start_s"].tolist() == [0.5, 1.5, 2.5]
    assert found.arrival_s.tolist() == [0.0, 0.0, 1.5]  # the third is sent when the first is answered
    # Sent at 0, 0.25 and 5: joined half a second later; the GPU serves them from 0.5, 1.5 and 5.5.
    given_times = Case([(0.0, 1, 1, 1, 0), (0.25, 1, 1, 1, 0), (4.75, 1, 1, 1, 0)], **alone)
    agree(given_times)
    found = run_compiled(given_times)
    assert found.batches["start_s"].tolist() == [0.5, 1.5, 5.5]
    assert found.arrival_s.tolist() == [0.0, 0.25, 5.0]


REAL_LAWS = {
    "affine": LawConfig(),
    "affine_output": LawConfig(length="output"),
    "linear": LawConfig(kind="linear"),
    "roofline": LawConfig(kind="roofline", bandwidth_gb_per_s=3350, dense_tflops=989.4),
    "step": LawConfig(kind="step", length="prompt_plus_output", fixed_ms=4, sequence_ms=0.2, context_us=2,
                      prefill_token_ms=0.1, request_overhead_ms=125),
}  # fmt: skip


@pytest.mark.parametrize("name", REAL_LAWS)
def test_runs_with_the_laws_of_mbexp_agree(name):
    law = build_law(GpuConfig(law=REAL_LAWS[name]))
    for seed in range(3):
        case = long_case(seed, "dynamic", SELECTIONS[seed], "greedy")
        case.law, case.token_ms, case.overhead = law, 7.0, law.request_overhead_s
        agree(case)


def test_the_drawn_cases_reach_every_corner():
    """What the agreement is worth: the cases overflow, reject, flush, tie and move the controllers."""
    reached: Counter[str] = Counter()

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(cases())
    def look(case):
        outcome = run_reference(case)
        batches, rules = outcome.batches, case.config
        reached["rejected"] += bool(outcome.rejected)
        reached["overflow"] += any(batch.overflow for batch in batches)
        reached["memory_cut"] += any(
            len(batch.members) < batch.limit
            and sum(request.predicted_need for request in batch.members) > 0.7 * case.memory
            for batch in batches
        )
        reached["tie"] += bool({batch.finish for batch in batches} & set(case.arrivals[1:]))
        reached["zero_service"] += any(batch.start == batch.finish for batch in batches)
        reached["second_round"] += len({(batch.start, batch.gpu) for batch in batches}) < len(batches)
        reached["flush"] += rules.fill == "full" and any(len(batch.members) < batch.limit for batch in batches)
        reached["noise"] += len({1.0, *case.noise}) > 1
        if rules.batch_size == "dynamic":
            target, band = case.token_ms, rules.controller.tolerance_ms
            last = {batch.queue: batch for batch in batches}
            learnt = [batch for batch in batches if last[batch.queue] is not batch]
            reached["above_sla"] += any(batch.step * 1000 > target + band for batch in learnt)
            reached["below_sla"] += any(batch.step * 1000 < target - band for batch in learnt)
            reached["in_band"] += any(abs(batch.step * 1000 - target) < band for batch in learnt)
            reached["b_mem"] += any(batch.b_mem < min(batch.b_sla, rules.batch_size_max) for batch in batches)

    look()
    assert min(reached.values()) >= 3, reached


def test_a_difference_is_reported(monkeypatch):
    """The comparison itself can fail: one changed service time is seen, in words."""
    case = Case([(0.0, 1, 1, 1, 0), (1.0, 2, 3, 3, 0)])
    slower = Case(case.requests, law=(1.5, *[0.0] * 13))
    assert difference(case) is None
    monkeypatch.setattr(agreement, "run_compiled", lambda _: run_compiled(slower))
    found = difference(case)
    assert found is not None
    assert "finish_s: reference 1.0, loop 1.5" in found


@pytest.mark.parametrize("weight", [0, 7, 10], ids=["service", "first token", "step"])
@pytest.mark.parametrize("time_s", [-1.0, np.inf, np.nan])
def test_a_law_that_gives_no_time_is_refused(weight, time_s):
    law = [0.0] * 14
    law[weight] = time_s
    with pytest.raises(UserError, match="the law gave a negative or infinite time"):
        run_compiled(Case([(0.0, 1, 1, 1, 0)], law=law))
