"""Orders that stop who runs: against the step-by-step simulator, by hand, and against exact means of one server."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbexp.config.execution_keys import RULES_OF_ASSIGNMENT
from mbexp.config.scheduler_keys import ORDER_BY
from mbexp.errors import UserError
from mbexp.hardware.iteration import ClosedForm
from mbexp.theory import orders
from tests.simulator.continuous.agreement import Case, difference, run_closed_form
from tests.simulator.continuous.test_agreement import (
    cases,
    many,
    many_gpus_case,
    random_case,
    some_fast,
    step_law_case,
)

ATTAINED = "least_attained_service.attained"  # a rule of the user
STATIC = ("sjf", "srpt", "lcfs", "priority", "edf", "sjf_ageing")  # orders that may displace
SHARES, MARGINS = (None, None, 0.0, 0.5, 0.8, 1.2), (0.0, 0.0, 1.0, 5.0)
# Every iteration takes a second, and computes all prompts beside decoding; what is stopped keeps its work.
ROUND = ClosedForm(1.0, *[0.0] * 7)
FREE = {"preemption": "swap", "swap_token_s": 0.0}


def displacing(case: Case, order: str, by: str, share: float | None, margin: float) -> Case:
    """The same case with one queue at each GPU, whose head displaces who runs."""
    rules = {**case.rules, "output_reserve": "full" if case.rules.get("output_reserve") == "full" else "none"}
    if rules["kv"] != "paged":
        del rules["output_reserve"]
    return dataclasses.replace(
        case,
        bins=1,
        requests=[(*row[:4], 0) for row in case.requests],
        assignment="join_shortest" if case.assignment == "central" else case.assignment,
        rules=rules,
        scheduler={
            **case.scheduler,
            "order": order,
            "order_by": by,
            "preempt": True,
            "preempt_share": share,
            "preempt_margin": margin,
        },
    )


def drawn(seed: int) -> Case:
    rng = np.random.default_rng(np.random.SeedSequence([seed, 28]))
    case = (random_case, random_case, many_gpus_case, step_law_case)[seed % 4](seed)
    if case.gpus > 6:
        case = dataclasses.replace(case, gpus=3, rules={**case.rules, "gpu_serves": "any_bin"})
    return displacing(
        dataclasses.replace(case, assignment=str(rng.choice(RULES_OF_ASSIGNMENT))),
        str(rng.choice(STATIC)),
        str(rng.choice(ORDER_BY)),
        SHARES[rng.integers(len(SHARES))],
        float(rng.choice(MARGINS)),
    )


@many(60)
@given(cases(), st.sampled_from(STATIC), st.sampled_from(ORDER_BY), st.sampled_from(SHARES), st.sampled_from(MARGINS))
def test_every_mode(case, order, by, share, margin):
    assert difference(displacing(case, order, by, share, margin)) is None


@some_fast(0, 30, 800)
def test_larger_cases(seeds):
    more = 0
    for seed in seeds:
        case = drawn(seed)
        found = difference(case)
        assert found is None, f"seed {seed}: {found}"
        never = dataclasses.replace(case, scheduler={**case.scheduler, "preempt": False})
        more += int(run_closed_form(case).preemptions.sum()) - int(run_closed_form(never).preemptions.sum())
    assert more > 50


@pytest.mark.parametrize("seed", [1026, 1342, 1486])
def test_many_displaced_between_two_decode_steps(seed):
    assert difference(drawn(seed)) is None


def alone_on_a_gpu(rows: list[tuple[float, int, int, int, int]], size: int = 1, **keys: object) -> Case:
    scheduler = {"batch_size": "fixed", "fixed_batch_size": size, "preempt": True, "order_by": "output", **keys}
    rules = {"prefill": "chunked", "token_budget": 100, "kv": "reserve", **FREE}
    return Case(rows, ROUND, memory=10**6, scheduler=scheduler, rules=rules, assignment="join_shortest")


def test_by_hand() -> None:
    """A of ten tokens at 0, B of five at 3, C of three at 6."""
    rows = [(0.0, 1, 10, 10, 0), (3.0, 1, 5, 5, 0), (3.0, 1, 3, 3, 0)]
    # B takes A's place. By whole size C takes B's; B has but two left, and goes on by that.
    assert run_closed_form(alone_on_a_gpu(rows, order="sjf")).finish_s.tolist() == [18, 11, 9]
    assert run_closed_form(alone_on_a_gpu(rows, order="srpt")).finish_s.tolist() == [18, 8, 11]
    # Where two run, C takes the place of A, which has four left, until B ends.
    two = run_closed_form(alone_on_a_gpu(rows, size=2, order="srpt"))
    assert two.finish_s.tolist() == [12, 8, 9]
    assert two.preemptions.tolist() == [1, 0, 0]
    # A has emitted 3 of 10 when B comes, above a quarter: it is left alone. Then C is before B.
    kept = run_closed_form(alone_on_a_gpu(rows, order="srpt", preempt_share=0.25))
    assert kept.finish_s.tolist() == [10, 18, 13]
    assert not kept.preemptions.any()
    # A has seven left, and B five: no more than a margin of two.
    assert not run_closed_form(alone_on_a_gpu(rows[:2], order="srpt", preempt_margin=2.0)).preemptions.any()
    assert run_closed_form(alone_on_a_gpu(rows[:2], order="srpt", preempt_margin=1.0)).preemptions.sum() == 1


def test_memory_keeps_a_head_out_as_the_limit_does() -> None:
    """Room for one of the long ones: the short one takes its place, and its cache is computed anew."""
    rows = [(0.0, 10, 20, 20, 0), (5.0, 10, 2, 2, 0)]
    case = dataclasses.replace(alone_on_a_gpu(rows, size=8, order="srpt"), memory=40)
    case = dataclasses.replace(case, rules={**case.rules, "preemption": "recompute"})
    outcome = run_closed_form(case)
    assert outcome.finish_s.tolist() == [22, 7]
    assert outcome.preemptions.tolist() == [1, 0]
    assert outcome.gpus["prefill_tokens"].sum() == 10 + 10 + 15


@pytest.mark.parametrize(
    ("keys", "rules", "assignment", "bins", "says"),
    [
        ({"order": "fifo"}, {}, "join_shortest", 1, "displaces nobody"),
        ({"order": "hrrn"}, {}, "join_shortest", 1, "keys of scheduler.order=hrrn change"),
        ({"order": ATTAINED}, {"preemption": "restart"}, "join_shortest", 1, "stop each other for ever"),
        ({"order": "sjf"}, {}, "central", 1, "use execution.assignment=join_shortest"),
        ({"order": "sjf"}, {}, "join_shortest", 2, "use scheduler.queue=fifo"),
    ],
)
def test_what_cannot_displace_is_refused(keys, rules, assignment, bins, says) -> None:
    case = alone_on_a_gpu([(0.0, 1, 2, 2, 0)], **keys)
    with pytest.raises(UserError, match=says):
        run_closed_form(dataclasses.replace(case, assignment=assignment, bins=bins, rules={**case.rules, **rules}))


@pytest.fixture(scope="module", autouse=True)
def module_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Least attained service, a rule of a user's file: the key grows as a request is served."""
    folder = tmp_path_factory.mktemp("rules")
    (folder / "least_attained_service.py").write_text(
        "from mbexp.rules import queue_order\n\n\n@queue_order\ndef attained(now_s, request, parameters):\n"
        "    return float(request.emitted_tokens)\n"
    )
    sys.path.append(str(folder))
    yield
    sys.path.remove(str(folder))


def test_keys_that_grow_are_looked_at_at_every_boundary() -> None:
    """A and B of four tokens, one at a time, stopped for more than half a token of difference.

    B comes at 1 and takes the place of A, which has one token. At 2 B has one too, at 3 two: A comes back, and at 5 has
    three to B's two. B comes back and ends at 7, and A a round later. What is stopped keeps its work.
    """
    rows = [(0.0, 1, 4, 4, 0), (1.0, 1, 4, 4, 0)]
    outcome = run_closed_form(alone_on_a_gpu(rows, order=ATTAINED, preempt_margin=0.5))
    assert outcome.finish_s.tolist() == [8, 7]
    assert outcome.preemptions.tolist() == [2, 1]
    assert run_closed_form(alone_on_a_gpu(rows, order=ATTAINED, preempt_margin=9.0)).finish_s.tolist() == [4, 8]


@many(40)
@given(cases(), st.sampled_from(SHARES), st.sampled_from(MARGINS))
def test_keys_that_grow_in_every_mode(case, share, margin):
    assert difference(displacing(case, ATTAINED, "output", share, margin)) is None


@some_fast(0, 12, 300)
def test_keys_that_grow_in_larger_cases(seeds):
    stopped = 0
    for seed in seeds:
        case = drawn(seed)
        case = dataclasses.replace(case, scheduler={**case.scheduler, "order": ATTAINED})
        found = difference(case)
        assert found is None, f"seed {seed}: {found}"
        stopped += int(run_closed_form(case).preemptions.sum())
    assert stopped > 50


TOKENS = 10_000  # of a size of 1
RUNS, T_QUANTILE = 12, 2.228  # Student's with two degrees of freedom less than runs, 95 %


def times_in_system(load: float, order: str, exact: bool, seed: int, count: int = 400_000) -> tuple[float, float]:
    """Serve exponential sizes with mean 1 on one server that may stop at every token; the mean, and that of FIFO."""
    random = np.random.default_rng(np.random.SeedSequence([seed, 29]))
    size = random.exponential(1.0, count)
    guess = size if exact else random.exponential(size)
    gap = random.exponential(1 / load, count)
    tokens, predicted = (np.maximum(np.rint(TOKENS * x), 1).astype(np.int64).tolist() for x in (size, guess))
    rows = [(one, 1, out, seen, 0) for one, out, seen in zip(gap.tolist(), tokens, predicted, strict=True)]
    scheduler = {"batch_size": "fixed", "fixed_batch_size": 1, "order": order, "order_by": "output", "preempt": True}
    rules = {"kv": "reserve", "prefill": "first", **FREE}
    price = ClosedForm(1 / TOKENS, *[0.0] * 7)
    outcome = run_closed_form(
        Case(rows, price, memory=10**9, scheduler=scheduler, rules=rules, assignment="join_shortest")
    )
    assert outcome.preemptions.sum() > count / 100
    walk = np.cumsum(np.concatenate(([0.0], size[:-1] - gap[1:])))
    first_come = walk - np.minimum.accumulate(walk) + size  # Lindley
    counted = slice(count // 20, None)
    return float((outcome.finish_s - outcome.arrival_s)[counted].mean()), float(first_come[counted].mean())


@pytest.mark.slow
@pytest.mark.parametrize("load", [0.5, 0.8])
@pytest.mark.parametrize(
    ("name", "order", "exact"),
    [("PSJF", "sjf", True), ("PSPJF", "sjf", False), ("SRPT", "srpt", True), ("SPRPT", "srpt", False)],
)
def test_mitzenmachers_preemptive_columns(load: float, name: str, order: str, exact: bool) -> None:
    """The exact mean lies within 1 %, and so does the 95 % interval, with FIFO of the same draws as control variate."""
    found, control = np.array([times_in_system(load, order, exact, seed) for seed in range(RUNS)]).T
    slope, _ = np.polyfit(control, found, 1)
    above = control.mean() - 1 / (1 - load)
    rest = found - slope * control
    spread = np.sqrt((rest - rest.mean()) @ (rest - rest.mean()) / (RUNS - 2))
    half = (
        T_QUANTILE * spread * np.sqrt(1 / RUNS + above**2 / ((control - control.mean()) @ (control - control.mean())))
    )
    mean, due = float(found.mean() - slope * above), orders.exponential_sizes(load)[name]
    print(f"{name} at {load}: {mean:.4f}, half width {half:.4f}, exact {due:.4f}")
    assert half < 0.01 * due
    assert abs(mean - due) < 0.01 * due
