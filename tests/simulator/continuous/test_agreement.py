"""The closed-form loop against the step-by-step simulator: same decisions in the same order, times within 1e-9."""

from __future__ import annotations

import dataclasses
import itertools
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mbexp.config.execution_keys import (
    ADMISSIONS,
    GPU_SERVES,
    KV_RULES,
    PREFILL_MEMORIES,
    PREFILLS,
    RULES_OF_ASSIGNMENT,
    UNDERPREDICTIONS,
)
from mbexp.config.gpu_keys import GpuConfig, LawConfig
from mbexp.config.scheduler_keys import MEMORY_RULES, SELECTIONS
from mbexp.hardware import build_law
from mbexp.hardware.iteration import ClosedForm
from mbexp.simulator.continuous import layout
from tests.hardware.test_iteration import TABLE
from tests.simulator.continuous.agreement import Case, OwnPrice, difference, run_closed_form
from tests.simulator.continuous.corner_cases import CORNERS

EXAMPLES = int(os.environ.get("MBEXP_REFERENCE_CASES", "200"))


def some_fast(*seeds: int) -> pytest.MarkDecorator:
    """Return ranges of seeds between these ends: the first of every run of the tests, the others slow."""
    ranges = [range(first, stop) for first, stop in itertools.pairwise(seeds)]
    return pytest.mark.parametrize(
        "seeds", [ranges[0], *(pytest.param(each, marks=pytest.mark.slow) for each in ranges[1:])], ids=str
    )


# Multiples of a power of two add up exactly, so that ends, arrivals and turns of GPUs coincide to the last bit.
TICK_S = 2.0**-8
TICKS = st.integers(0, 8)
ROUND_PRICES = st.builds(
    lambda *ticks: ClosedForm(
        fixed_s=(1 + ticks[0]) * TICK_S,
        sequence_s=ticks[1] * TICK_S / 8,
        floor_s=ticks[2] * TICK_S,
        compute_s=ticks[3] * TICK_S / 4,
        context_s=ticks[4] * TICK_S / 64,
        prefill_token_s=ticks[5] * TICK_S / 8,
        prefill_sequence_s=ticks[6] * TICK_S / 8,
        prefill_square_s=ticks[7] * TICK_S / 512,
        prefill_extra_s=ticks[8] * TICK_S,
    ),
    *[TICKS] * 9,
)
KEEPS_TOKENS = ("recompute", "swap")
ROUND_GAPS_S = st.one_of(st.just(0.0), st.integers(0, 64).map(lambda ticks: ticks * TICK_S))
LENGTHS = st.one_of(st.integers(1, 6), st.integers(1, 30))


@st.composite
def cases(draw: st.DrawFn, price=ROUND_PRICES, gaps=ROUND_GAPS_S, **fixed) -> Case:
    """Small simulations of every mode; `fixed` pins rules."""
    bins = draw(st.integers(1, 3))
    cap = draw(st.integers(1, 6))
    request = st.tuples(gaps, LENGTHS, LENGTHS, LENGTHS, st.integers(0, bins - 1))
    requests = draw(st.lists(request, min_size=1, max_size=14))
    if draw(st.booleans()):  # an oracle's predictions
        requests = [(gap, prompt, output, output, queue) for gap, prompt, output, _, queue in requests]
    rules = {
        "prefill": draw(st.sampled_from(PREFILLS)),
        "token_budget": cap + draw(st.integers(0, 30)),
        "prefill_max_tokens": draw(st.one_of(st.none(), st.integers(1, 60))),
        "kv": draw(st.sampled_from(KV_RULES)),
        "block_tokens": draw(st.sampled_from([1, 2, 3, 4, 16])),
        "preemption": draw(st.sampled_from(KEEPS_TOKENS)),
        "swap_token_s": draw(st.integers(0, 2)) * TICK_S / 4,
        "underprediction": draw(st.sampled_from(UNDERPREDICTIONS)),
        "gpu_serves": draw(st.sampled_from(GPU_SERVES)),
        "turn_requests": draw(st.integers(1, 5)),
        "watermark_pct": draw(st.sampled_from([0.0, 0.0, 10.0, 30.0])),
        "max_model_len_tokens": draw(st.one_of(st.none(), st.integers(8, 60))),
        "admission": draw(st.sampled_from(ADMISSIONS)),
        **fixed,
    }
    if rules["admission"] == "whole":
        rules["token_budget"] = cap + 30
    if rules["kv"] == "paged":
        rules["hold_last_token"] = draw(st.booleans())
        rules["reserved_blocks"] = draw(st.integers(0, 1))
        rules["output_reserve"] = draw(st.sampled_from(["none", "none", "full"]))
        if rules["prefill"] != "first" and rules["admission"] != "any":
            rules["prefill_memory"] = draw(st.sampled_from(PREFILL_MEMORIES))
        if rules["prefill"] == "alone" and draw(st.booleans()):
            rules |= {"output_reserve": "ratio", "admission": "budget", "prefill_memory": "tested"}
            rules |= {"preemption": "recompute", "conservativeness": draw(st.sampled_from([0.0, 0.3, 1.0, 2.0]))}
    ratio = rules.get("output_reserve") == "ratio"  # each GPU admits from a queue of its own
    shares = rules["gpu_serves"].endswith("share")
    return Case(
        requests=requests,
        price=draw(price),
        bins=bins,
        gpus=draw(st.integers(bins if shares else 1, 4)),
        memory=draw(st.one_of(st.integers(32, 80), st.integers(32, 400))),
        scheduler={
            "batch_size": draw(st.sampled_from(["fixed", "dynamic"])),
            "fixed_batch_size": cap,
            "batch_size_max": cap,
            "selection": draw(st.sampled_from(SELECTIONS)),
            "memory_rule": draw(st.sampled_from(MEMORY_RULES)),
        },
        controller={
            "alpha_requests": draw(st.sampled_from([1.0, 2.0, 5.0])),
            "delta_requests": draw(st.sampled_from([0.0, 1.0, 2.0])),
            "tolerance_ms": draw(st.sampled_from([0.0, 1.0, 5.0])),
            "window_batches": draw(st.integers(1, 4)),
            "interval_batches": draw(st.integers(1, 2)),
        },
        rules=rules,
        assignment=draw(st.sampled_from([name for name in RULES_OF_ASSIGNMENT if name != "central" or not ratio])),
        interval_steps=draw(st.integers(1, 9)),
        token_ms=draw(st.sampled_from([7.3, 20.1, 61.7])),
        seed=draw(st.integers(0, 3)),
    )


def many(number: int):
    return settings(max_examples=number, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("name", CORNERS)
def test_corners_are_as_worked_out_by_hand(name):
    corner = CORNERS[name]
    records = run_closed_form(corner.case)
    columns = (records.start_s, records.first_token_s, records.finish_s, records.gpu, records.preemptions)
    accepted = list(range(len(records.gpu)) if records.accepted is None else records.accepted)
    rows = {place: accepted.index(place) for place in corner.served}
    found = {
        place: tuple(column[rows[place]] for column in columns[: len(row)]) for place, row in corner.served.items()
    }
    assert found == corner.served
    gaps = records.gaps
    totals = {
        "above": gaps.above,
        "held_max": records.gpus["held_max"].max(),
        "prefill_tokens": records.gpus["prefill_tokens"].sum(),
        "copied_tokens": records.gpus["copied_tokens"].sum(),
    }
    expected = {key: getattr(corner, key) for key in totals if getattr(corner, key) is not None}
    assert {key: totals[key] for key in expected} == expected
    if corner.gaps_s is not None:
        number = len(corner.gaps_s)
        assert (gaps.count, gaps.sum_s, gaps.max_s) == (number, sum(corner.gaps_s), max(corner.gaps_s))
        quantiles_s = [gaps.quantile_s((place + 0.5) / number) for place in range(number)]
        assert quantiles_s == pytest.approx(sorted(corner.gaps_s), rel=1e-3)
    assert difference(corner.case) is None


@many(EXAMPLES)
@given(cases())
def test_every_mode_to_the_last_bit_of_its_ties(case):
    assert difference(case) is None


@pytest.mark.slow
@many(5 * EXAMPLES)
@given(cases())
def test_many_more_of_every_mode(case):
    assert difference(case) is None


@pytest.mark.parametrize("prefill", PREFILLS)
@pytest.mark.parametrize("kv", KV_RULES)
@many(60)
@given(data=st.data())
def test_memory_that_fills_up(prefill, kv, data):
    case = data.draw(cases(prefill=prefill, kv=kv))
    longest = max(prompt + max(output, predicted) for _, prompt, output, predicted, _ in case.requests)
    assert difference(dataclasses.replace(case, memory=max(longest + 3, 32))) is None


@many(EXAMPLES // 3)
@given(data=st.data())
def test_users_of_a_closed_loop(data):
    case = data.draw(cases())
    think = data.draw(st.lists(ROUND_GAPS_S, min_size=len(case.requests), max_size=len(case.requests)))
    assert difference(dataclasses.replace(case, users=data.draw(st.integers(1, 8)), think=think)) is None


@many(EXAMPLES // 3)
@given(data=st.data())
def test_turns_of_conversations(data):
    case = data.draw(cases())
    count = len(case.requests)
    think = data.draw(st.lists(ROUND_GAPS_S, min_size=count, max_size=count))
    parents = [data.draw(st.integers(-1, place - 1)) for place in range(count)]
    assert difference(dataclasses.replace(case, parents=parents, think=think)) is None


def random_case(seed: int, many_gpus: bool = False) -> Case:
    """A larger case with prices and times that are round in no base."""
    rng = np.random.default_rng(seed)
    bins, cap = int(rng.integers(1, 4)), int(rng.integers(1, 4 if many_gpus else 12))
    longest = int(rng.choice([20, 80, 200]))
    requests = []
    for _ in range(int(rng.integers(40, 160) if many_gpus else rng.integers(5, 40))):
        output = int(rng.integers(1, longest))
        predicted = output if rng.random() < 0.5 else int(rng.integers(1, longest))
        gap = 0.0 if rng.random() < 0.2 else float(rng.exponential(rng.choice([0.01, 0.2, 1.0])))
        gap /= 10 if many_gpus else 1
        requests.append((gap, int(rng.integers(1, longest)), output, predicted, int(rng.integers(bins))))
    serves = str(rng.choice(GPU_SERVES))
    prices = rng.random(10) * [0.01, 0.001, 0.01, 0.002, 1e-5, 1e-3, 1e-3, 1e-6, 0.01, 0.02]
    prices[0] += 1e-3
    case = Case(
        requests=requests,
        price=TABLE if rng.random() < 0.25 else ClosedForm(*prices.tolist()),
        bins=bins,
        gpus=int(rng.integers(8, 30) if many_gpus else rng.integers(bins if serves.endswith("share") else 1, 5)),
        memory=int(rng.integers(2 * longest, 10 * longest)),
        scheduler={
            "batch_size": str(rng.choice(["fixed", "dynamic"])),
            "fixed_batch_size": cap,
            "batch_size_max": cap,
            "selection": str(rng.choice(SELECTIONS)),
        },
        controller={"alpha_requests": 2.0, "delta_requests": 1.0, "tolerance_ms": 1.0, "window_batches": 3},
        rules={
            "prefill": str(rng.choice(PREFILLS)),
            "token_budget": cap + int(rng.integers(0, 60)),
            "prefill_max_tokens": None if rng.random() < 0.5 else int(rng.integers(1, 3 * longest)),
            "kv": str(rng.choice(KV_RULES)),
            "preemption": str(rng.choice(KEEPS_TOKENS)),
            "swap_token_s": float(rng.random() * 1e-3),
            "underprediction": str(rng.choice(UNDERPREDICTIONS)),
            "gpu_serves": serves,
            "turn_requests": int(rng.integers(1, 9)),
        },
        assignment=str(rng.choice(RULES_OF_ASSIGNMENT)),
        interval_steps=int(rng.integers(1, 20)),
        token_ms=float(rng.uniform(2, 40)),
        seed=seed,
    )
    return dataclasses.replace(case, rules={**case.rules, **engine_rules(rng, case.rules)})


def engine_rules(rng: np.random.Generator, rules: dict) -> dict:
    """Rules of admission and of blocks as engines have them, in every second case."""
    if rng.random() < 0.5:
        return {}
    found = {"admission": str(rng.choice(ADMISSIONS)), "watermark_pct": float(rng.choice([0.0, 1.0, 20.0]))}
    if found["admission"] == "whole":
        found["token_budget"] = rules["token_budget"] + 200
    if rules["kv"] == "paged":
        found |= {"hold_last_token": bool(rng.integers(2)), "reserved_blocks": int(rng.integers(2))}
        found["output_reserve"] = str(rng.choice(["none", "full"]))
        if rules["prefill"] != "first" and found["admission"] != "any":
            found["prefill_memory"] = str(rng.choice(PREFILL_MEMORIES))
    return found


def by_ratio(case: Case, seed: int) -> Case:
    """The same case under a share of the outputs to come, in memory that is short every other time."""
    rng = np.random.default_rng(seed)
    rules = {
        "prefill": "alone",
        "kv": "paged",
        "admission": "budget",
        "prefill_memory": "tested",
        "preemption": "recompute",
        "output_reserve": "ratio",
        "conservativeness": float(rng.choice([0.0, 0.2, 1.0, 3.0])),
        "block_tokens": int(rng.choice([1, 1, 4])),
    }
    longest = max(prompt + output for _, prompt, output, *_ in case.requests)
    memory = case.memory if seed % 2 else int(longest * rng.uniform(1.2, 2.0)) + 8
    assignment = "join_shortest" if case.assignment == "central" else case.assignment
    return dataclasses.replace(case, memory=memory, assignment=assignment, rules={**case.rules, **rules})


def step_law_case(seed: int) -> Case:
    """A larger case priced by a step law with every term, a mixture of experts every other time."""
    rng = np.random.default_rng(seed + 10**6)
    case = random_case(seed)
    dense, most = seed % 2, case.scheduler["fixed_batch_size"]
    law = LawConfig(
        kind="step",
        fixed_ms=float(rng.uniform(1, 8)),
        floor_ms=float(rng.uniform(0, 12)),
        sequence_ms=float(rng.uniform(0, 0.1)),
        compute_ms=float(rng.uniform(0, 20 / most)),  # bends above and below the floor
        context_us=float(rng.uniform(0, 20)),
        prefill_token_ms=float(rng.uniform(0.01, 1)),
        prefill_square_ns=float(rng.uniform(0, 3000)),
        prefill_extra_ms=float(rng.uniform(0, 5)),
        mixed_extra_ms=float(rng.uniform(0, 5)),
        mixed_context_us=float(rng.uniform(0, 20)),
        experts_ms=0.0 if dense else float(rng.uniform(5, 20)),
        experts_active_share=0.0625,
        host_ms=float(rng.uniform(0, 2)),
        host_us_per_sequence=float(rng.uniform(0, 50)),
    )

    # Written from the formula of docs/semantics/laws.md, in the units of the keys.
    def plain(b: int, context: int, tokens: int, squares: float, ended: int) -> float:
        ms = law.fixed_ms + law.host_ms + max(law.floor_ms, law.compute_ms * b + law.prefill_token_ms * tokens)
        ms += (law.sequence_ms + law.host_us_per_sequence / 1e3) * b + law.context_us / 1e3 * context
        ms += law.prefill_square_ns / 1e6 * squares
        if tokens:
            ms += law.prefill_extra_ms + law.mixed_context_us / 1e3 * context + (law.mixed_extra_ms if b else 0.0)
        return (ms + law.experts_ms * (1 - (1 - law.experts_active_share) ** (b + tokens))) / 1e3

    price = build_law(GpuConfig(law=law)).require_iteration()
    return dataclasses.replace(case, price=OwnPrice(price, plain))


@pytest.mark.parametrize("prefill", PREFILLS)
@some_fast(0, 50, 120)
def test_larger_cases_with_a_step_law(prefill, seeds):
    for seed in seeds:
        case = step_law_case(seed)
        rules = {**case.rules, "prefill": prefill, "prefill_memory": "held"}
        found = difference(dataclasses.replace(case, rules=rules))
        assert found is None, f"seed {seed}: {found}"


def test_a_step_law_is_priced_in_as_few_segments_as_the_formula_without_its_terms():
    case = dataclasses.replace(step_law_case(4), requests=[(0.0, 30, 500, 500, 0)] * 3, bins=1, gpus=1, memory=10**5)
    scheduler, rules = {"batch_size": "fixed", "fixed_batch_size": 4}, {"prefill": "chunked", "token_budget": 50}
    records = run_closed_form(dataclasses.replace(case, scheduler=scheduler, rules=rules))
    assert records.gpus["step"].sum() >= 499
    assert records.num_segments < 9


@some_fast(0, 200, 400)
def test_larger_cases_with_any_prices(seeds):
    for seed in seeds:
        found = difference(random_case(seed))
        assert found is None, f"seed {seed}: {found}"


def many_gpus_case(seed: int) -> Case:
    """Return a case of 8 to 29 GPUs with central queues, every other one with ends and arrivals that coincide.

    Of so many the search for the GPU that admits first takes several at a time.
    """
    case = dataclasses.replace(random_case(seed, many_gpus=True), assignment="central")
    if seed % 2 or case.price is TABLE:
        return case
    rng = np.random.default_rng(seed)
    ticks = rng.integers(0, 9, 9)
    scales = (1, 1 / 8, 1, 1 / 4, 1 / 64, 1 / 8, 1 / 8, 1 / 512, 1)
    values = [float(tick * scale * TICK_S) for tick, scale in zip(ticks, scales, strict=True)]
    requests = [(int(rng.integers(0, 6)) * TICK_S, *rest) for _, *rest in case.requests]
    names = ("fixed_s", "sequence_s", "floor_s", "compute_s", "context_s", "prefill_token_s", "prefill_sequence_s",
             "prefill_square_s", "prefill_extra_s")  # fmt: skip
    price = ClosedForm(**dict(zip(names, [values[0] + TICK_S, *values[1:]], strict=True)))
    rules = {**case.rules, "swap_token_s": int(rng.integers(0, 3)) * TICK_S / 4}
    return dataclasses.replace(case, requests=requests, price=price, rules=rules)


@some_fast(0, 50, 120)
def test_a_share_of_the_outputs_to_come(seeds):
    retracted = 0
    for seed in seeds:
        case = by_ratio(many_gpus_case(seed) if seed % 5 == 0 else random_case(seed), seed)
        found = difference(case)
        assert found is None, f"seed {seed}: {found}"
        retracted += int(run_closed_form(case).preemptions.sum())
    assert retracted > len(seeds) / 10


def released(case: Case, seed: int, **scheduler) -> Case:
    """The same case under the released memory rule, where memory binds and the token SLA does not."""
    rng = np.random.default_rng(seed)
    longest = max(prompt + max(output, predicted) for _, prompt, output, predicted, _ in case.requests)
    rules = {
        "kv": str(rng.choice(["paged", "reserve", "future"])),
        "token_budget": 90,
        "admission": "any",
        "prefill_memory": "held",
        "hold_last_token": True,
        "reserved_blocks": 0,
        "output_reserve": "none",
    }
    return dataclasses.replace(
        case,
        memory=int(longest * rng.uniform(1.5, 4.0)) + 40,
        token_ms=1e6,
        interval_steps=2,
        scheduler={"batch_size": "dynamic", "batch_size_max": 40, "memory_rule": "released", **scheduler},
        controller={"alpha_requests": 2.0, "delta_requests": 40.0, "window_batches": 1},
        rules={**case.rules, **rules},
    )


@some_fast(0, 50, 120)
def test_the_released_memory_rule(seeds):
    differs = 0
    for seed in seeds:
        case = released(many_gpus_case(seed) if seed % 5 == 0 else random_case(seed), seed)
        found = difference(case)
        assert found is None, f"seed {seed}: {found}"
        finish_s = [run_closed_form(each).finish_s for each in (case, released(case, seed, memory_rule="corrected"))]
        differs += not np.array_equal(*finish_s)
    assert differs > len(seeds) / 4


def test_a_request_reaches_its_queue_later_than_it_arrives():
    for seed in range(40):
        case = dataclasses.replace(random_case(seed), overhead=0.375)
        if seed % 2:
            think = np.random.default_rng(seed).exponential(0.3, len(case.requests)).tolist()
            case = dataclasses.replace(case, users=seed, think=think)
        found = difference(case)
        assert found is None, f"seed {seed}: {found}"
        arrived = run_closed_form(case)
        assert np.all(arrived.start_s - arrived.arrival_s >= 0.375 - 1e-9)


@some_fast(0, 24, 60)
def test_many_gpus_with_central_queues(seeds):
    for seed in seeds:
        found = difference(many_gpus_case(seed))
        assert found is None, f"seed {seed}: {found}"


def test_many_gpus_in_a_calendar(monkeypatch):
    monkeypatch.setattr(layout, "CALENDAR_GPUS", 1)
    for seed in range(100, 130):
        case = many_gpus_case(seed)
        found = difference(dataclasses.replace(case, rules={**case.rules, "gpu_serves": "any_bin"}))
        assert found is None, f"seed {seed}: {found}"


@some_fast(0, 24, 60)
def test_larger_closed_loops(seeds):
    for seed in seeds:
        case = random_case(seed) if seed % 2 else many_gpus_case(seed)
        rng = np.random.default_rng(seed)
        think = (rng.exponential(0.3, len(case.requests)) * rng.integers(0, 2, len(case.requests))).tolist()
        found = difference(dataclasses.replace(case, users=int(rng.integers(1, 30)), think=think))
        assert found is None, f"seed {seed}: {found}"


@some_fast(0, 24, 60)
def test_larger_conversations(seeds):
    for seed in seeds:
        case = random_case(seed) if seed % 2 else many_gpus_case(seed)
        rng = np.random.default_rng(seed)
        count = len(case.requests)
        parents = [int(rng.integers(max(-1, place - 20), place)) for place in range(count)]
        think = rng.exponential(0.3, count).tolist()
        found = difference(dataclasses.replace(case, parents=parents, think=think))
        assert found is None, f"seed {seed}: {found}"


@pytest.mark.slow
def test_many_more_larger_cases():
    for seed in range(1000, 20_000):
        found = difference(random_case(seed)) or difference(many_gpus_case(seed))
        assert found is None, f"seed {seed}: {found}"


def test_the_comparison_would_notice():
    case = random_case(3)
    requests = [(gap, prompt, output + 1, predicted, queue) for gap, prompt, output, predicted, queue in case.requests]
    reference_sees = dataclasses.replace(case, requests=requests)
    from tests.simulator.continuous import agreement

    run_reference = agreement.run_reference
    try:
        agreement.run_reference = lambda _: run_reference(reference_sees)
        assert difference(case) is not None
    finally:
        agreement.run_reference = run_reference
