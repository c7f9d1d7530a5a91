"""Iterations that wait for newcomers: against the step-by-step simulator, by hand, and how types share the limit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mbexp
from mbexp.config.execution_keys import RULES_OF_ASSIGNMENT
from mbexp.config.scheduler_keys import ORDERS, WAITS
from mbexp.errors import UserError
from mbexp.hardware.iteration import ClosedForm
from mbexp.results.terminal import report
from mbexp.simulator.continuous.wait import MOST, NEWCOMERS, types_of
from tests.simulator.continuous.agreement import Case, difference, run_closed_form
from tests.simulator.continuous.test_agreement import (
    cases,
    many,
    many_gpus_case,
    random_case,
    some_fast,
    step_law_case,
)

WAIT = WAITS[1:]
# Every iteration takes a quarter of a second, and computes all prompts beside decoding.
ROUND = ClosedForm(0.25, *[0.0] * 7)
RULES = {"prefill": "chunked", "token_budget": 10**6, "admission": "any"}


def waiting(case: Case, wait: str, order: str = "fifo", limit: int | None = None) -> Case:
    """The same case with a queue at each GPU for each type, whose iterations wait for newcomers."""
    rules = {**case.rules, "gpu_serves": "any_bin"}
    if rules.get("output_reserve") == "ratio":
        rules["output_reserve"] = "none"
    return dataclasses.replace(
        case,
        assignment="join_shortest" if case.assignment == "central" else case.assignment,
        rules=rules,
        scheduler={
            **case.scheduler,
            "batch_size": "fixed",
            "fixed_batch_size": limit or case.scheduler["fixed_batch_size"],
            "order": order,
            "wait": wait,
        },
    )


def drawn(seed: int) -> Case:
    rng = np.random.default_rng(np.random.SeedSequence([seed, 31]))
    case = (random_case, random_case, many_gpus_case, step_law_case)[seed % 4](seed)
    if case.gpus > 6:
        case = dataclasses.replace(case, gpus=3)
    case = dataclasses.replace(case, assignment=str(rng.choice(RULES_OF_ASSIGNMENT)))
    case.rules["token_budget"] += 40
    return waiting(
        case,
        str(rng.choice(WAIT)),
        str(rng.choice(ORDERS)) if rng.random() < 0.5 else "fifo",
        int(rng.choice([3, 8, 20, 40])),
    )


@many(100)
@given(cases(), st.sampled_from(WAIT), st.sampled_from(["fifo", "fifo", *ORDERS]))
def test_every_mode(case, wait, order):
    assert difference(waiting(case, wait, order)) is None


@some_fast(0, 60, 800)
def test_larger_cases(seeds):
    paused = 0
    for seed in seeds:
        case = drawn(seed)
        found = difference(case)
        assert found is None, f"seed {seed}: {found}"
        paused += run_closed_form(case).paused_request_s > 0
    assert paused > len(seeds) / 2


def test_the_limit_is_shared_out_by_rates_and_lengths() -> None:
    """Types of 10, 20 and 30 decodes at 3, 2 and 1 a second: 33 + 42 + 31 under way where 3, 2 and 1 come at once."""
    queue_of = np.repeat([0, 1, 2], [30, 20, 10]).astype(np.uint16)
    tokens = np.repeat([11, 21, 31], [30, 20, 10]).astype(np.int32)  # the first token is that of the prefill
    for limit, newcomers, most in (
        (106, [3, 2, 1], [33, 42, 31]),
        (107, [3, 2, 1], [33, 42, 31]),
        (211, [5, 3, 1], [65, 83, 61]),
        (212, [6, 4, 2], [66, 84, 62]),
        (3, [1, 1, 1], [1, 1, 1]),
    ):
        types = types_of(limit, queue_of, tokens, 4)
        assert types[NEWCOMERS].tolist() == [*newcomers, 0]  # nobody belongs to the last type
        assert types[MOST].tolist() == [*most, 0]


def case_of(rows: list[tuple[float, int, int]], limit: int, wait: str = "any_type", bins: int = 1, **more) -> Case:
    """Requests of one prompt token, given as arrival, output and type, on one GPU."""
    gaps = np.diff([0.0, *(row[0] for row in rows)]).tolist()
    requests = [(gap, 1, output, output, queue) for gap, (_, output, queue) in zip(gaps, rows, strict=True)]
    scheduler = {"batch_size": "fixed", "fixed_batch_size": limit, "wait": wait}
    return Case(requests, ROUND, bins=bins, scheduler=scheduler, rules=RULES, assignment="join_shortest", **more)


def test_by_hand() -> None:
    """Outputs of two and a limit of four: two newcomers an iteration. One comes each second."""
    case = case_of([(float(t), 2, 0) for t in range(6)], limit=4)
    outcome = run_closed_form(case)
    # Iterations begin at 1, at 3, at 5 with the last arrival, and, since nobody is waited for any more, at 5.25.
    assert outcome.start_s.tolist() == [1, 1, 3, 3, 5, 5]
    assert outcome.first_token_s.tolist() == [1.25, 1.25, 3.25, 3.25, 5.25, 5.25]
    assert outcome.finish_s.tolist() == [3.25, 3.25, 5.25, 5.25, 5.5, 5.5]
    assert outcome.gpus["busy_s"][0] == 1.0
    assert outcome.paused_request_s == 2 * (3 - 1.25) + 2 * (5 - 3.25)
    assert (outcome.gaps.max_s, outcome.gaps.sum_s) == (2.0, 4 * 2.0 + 2 * 0.25)
    assert difference(case) is None


def test_a_full_type_lets_all_go_on() -> None:
    """One of four tokens fills its type. One comes beside it, is let in below its own threshold, and all go on."""
    rows = [(0.0, 4, 0), (0.3, 1, 1), (9.0, 1, 1), (9.0, 1, 1), (9.0, 1, 1), (9.0, 1, 1)]
    case = case_of(rows, limit=4, bins=2)
    # Nine tokens: the first type has a newcomer and a place (4 / 9 and 16 / 9), the other two and two (20 / 9 both).
    outcome = run_closed_form(case)
    assert outcome.start_s.tolist() == [0.0, 0.5, 9.0, 9.0, 9.25, 9.25]
    assert outcome.finish_s.tolist() == [1.0, 0.75, 9.25, 9.25, 9.5, 9.5]
    # Where every type must be ready, the first waits for the second, and the two for nobody once the first is full.
    every = run_closed_form(dataclasses.replace(case, scheduler={**case.scheduler, "wait": "every_type"}))
    assert every.start_s.tolist() == [9.0, 9.0, 9.0, 9.25, 9.25, 9.5]
    for wait in WAIT:
        assert difference(dataclasses.replace(case, scheduler={**case.scheduler, "wait": wait})) is None


def test_pauses_end_with_the_last_arrival() -> None:
    """Outputs of four, a limit of five: one newcomer an iteration, and one comes for each of eight iterations."""
    rows = [(t / 4, 4, 0) for t in range(8)] + [(20.0, 4, 0)]
    for wait in WAIT:
        outcome = run_closed_form(case_of(rows, 5, wait))
        assert outcome.start_s.tolist() == [*(t / 4 for t in range(8)), 20.0]
        # Three are left on the GPU at 2.0, and nobody comes until 20.0.
        assert outcome.finish_s[4:].tolist() == [2.0, 20.25, 20.5, 20.75, 21.0]
        assert outcome.paused_request_s == 3 * 18


def test_what_the_three_rules_wait_for() -> None:
    """One of four tokens fills its type; of the other two are due. Four come in pairs, and the last much later."""
    rows = [(0.0, 4, 0), (0.0, 1, 1), (0.0, 1, 1), (0.5, 1, 1), (0.5, 1, 1), (9.0, 1, 1)]
    finish = {
        "any_type": [1.0, 0.25, 0.25, 0.75, 0.75, 9.25],  # the full type waits for nobody
        "every_type": [9.5, 0.25, 0.25, 0.75, 0.75, 9.25],  # from 0.25 to 0.5, and from 0.75 on, for two of the other
        "strict": [9.75, 0.25, 0.25, 9.25, 9.25, 9.5],  # for one more of the first, too, of which none comes
    }
    for wait, expected in finish.items():
        case = case_of(rows, 4, wait, bins=2)
        assert run_closed_form(case).finish_s.tolist() == expected
        assert difference(case) is None


@pytest.mark.parametrize(
    ("scheduler", "change", "says"),
    [
        (
            {"batch_size": "dynamic"},
            {},
            r"wait=any_type: shares out a limit that stays; use scheduler\.batch_size=fixed",
        ),
        ({}, {"assignment": "central"}, r"use execution\.assignment=join_shortest, not central"),
        ({"preempt": True, "order": "sjf"}, {}, r"does not go with scheduler\.preempt=true"),
        ({}, {"users": 2, "think": [0.0]}, "here these wait for answers"),
        ({}, {"rules": {"gpu_serves": "one_bin"}}, r"use execution\.gpu_serves=any_bin, not one_bin"),
    ],
)
def test_what_cannot_wait_is_refused(scheduler, change, says) -> None:
    case = case_of([(0.0, 2, 0)], limit=4)
    with pytest.raises(UserError, match=says):
        run_closed_form(dataclasses.replace(case, scheduler={**case.scheduler, **scheduler}, **change))


def test_classes_have_queues_of_their_own_and_are_types() -> None:
    """Two classes of one length, one to three, have a queue each in either mode, and share the limit one to three."""
    keys = {
        "num_requests": 400,
        "num_gpus": 1,
        "workload": "synthetic",
        "workload.output": {"kind": "constant", "value_tokens": 4},
        "workload.classes": {"few": {"share_pct": 25, "ttft_s": 1}, "many": {"share_pct": 75, "ttft_s": 1}},
        "scheduler": "wait",
        "scheduler.queue": "per_class",
        "scheduler.fixed_batch_size": 16,
    }
    whole = mbexp.simulate(**keys, **{"scheduler.wait": "none"})
    waits = mbexp.simulate(**keys, execution="continuous", **{"execution.prefill": "chunked"})
    assert whole.summary["bins"] == waits.summary["bins"] == 2
    assert np.array_equal(whole.outcome.queue_of, waits.outcome.queue_of)
    share = float(np.mean(waits.outcome.queue_of))
    assert 0.7 < share < 0.8
    types = types_of(16, waits.outcome.queue_of, waits.outcome.predicted_tokens, 2)
    assert types[NEWCOMERS].tolist() == [1, int(16 * share / 4)]
    assert types[MOST].tolist() == [int(16 * (1 - share)), int(16 * share)]
    starts, counts = np.unique(waits.outcome.start_s[waits.outcome.queue_of == 1], return_counts=True)
    assert len(starts) > 100
    assert counts.max() == types[NEWCOMERS, 1]
    assert waits.outcome.paused_request_s > 0
    assert "2 classes" in report(waits)[0]


def test_types_in_balance_fill_the_limit() -> None:
    """Of 10, 20 and 30 decodes, 3, 2 and 1 come each second: in balance 33 + 42 + 31 are under way, a stage apart."""
    rows = [
        (float(t), tokens, kind)
        for t in range(80)
        for kind, (tokens, many) in enumerate(((11, 3), (21, 2), (31, 1)))
        for _ in range(many)
    ]
    case = case_of(rows, limit=106, bins=3)
    outcome = run_closed_form(case)
    assert outcome.start_s.tolist() == [row[0] for row in rows]
    due_s = np.array([row[0] + row[1] - 1 + 0.25 for row in rows])
    early = due_s < 79  # until the last arrivals let all go on
    assert early.sum() > 300
    assert outcome.finish_s[early].tolist() == due_s[early].tolist()
    assert outcome.gpus["running_max"][0] == 106
    assert not np.any(outcome.finish_s[~early] > due_s[~early])
