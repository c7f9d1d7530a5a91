"""The continuous event loop in closed form, beside the same simulation with an event for every iteration."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.report import Table, grid
from mbexp import configure, load_trace
from mbexp.config.keys import Config
from mbexp.hardware import build_law, kv_capacity_tokens
from mbexp.hardware.closed_form import closed_form
from mbexp.hardware.iteration import ClosedForm
from mbexp.hardware.law import LatencyLaw, Price, iteration_price
from mbexp.modes.continuous import execution_rules
from mbexp.policy.build import build_policy
from mbexp.simulator.continuous.outcome import ContinuousOutcome
from mbexp.simulator.continuous.serve import continuous
from mbexp.workload.trace import Trace

H100 = {"gpu": "roofline_h100", "execution": "continuous", "scheduler": "static_fifo"}
CAP = {"scheduler.fixed_batch_size": 128}
CASES: Sequence[tuple[str, int, float, dict[str, Any]]] = (
    # name, GPUs, requests/s of each, keys
    ("1 GPU, light", 1, 5, CAP),
    ("1 GPU", 1, 25, CAP),
    ("4 GPUs", 4, 25, CAP),
    ("16 GPUs", 16, 25, CAP),
    ("16 GPUs, heavy", 16, 40, CAP),
    ("100 GPUs", 100, 25, CAP),
    ("16 GPUs, 8 bins", 16, 25, {**CAP, "scheduler": "multi_bin_static", "k_bins": 8}),
    ("16 GPUs, Algorithms 1 and 2", 16, 25, {"scheduler": "dynamic_no_bins", "sla": "p2_50ms"}),
    ("16 GPUs, join the shortest", 16, 25, {**CAP, "execution.assignment": "join_shortest"}),
    ("16 GPUs, chunked prefill", 16, 25, {**CAP, "execution.prefill": "chunked"}),
    ("16 GPUs, paged", 16, 25, {**CAP, "execution.kv": "paged"}),
)
GROWTH = (1, 4, 16, 64)  # times as long outputs
REFERENCE_REQUESTS = 1500

Run = Callable[[], ContinuousOutcome]


@iteration_price
def one_step(parameters, decodes, context_tokens, prompt_tokens, prompt_squares, square_growth, prompts_ended):  # type: ignore[no-untyped-def]
    """The closed form's price, said to hold for one iteration only, so that each becomes an event."""
    seconds, _, _ = closed_form(
        parameters, decodes, context_tokens, prompt_tokens, prompt_squares, square_growth, prompts_ended
    )
    return seconds, 0.0, 1.0


def table(requests: int, rounds: int) -> Table:
    """Return requests per second of every case, and how the two forms grow with the length of outputs."""
    found = Table(
        "Continuous batching: closed form beside an event for every iteration",
        [
            "case",
            "closed form, M requests/s",
            "instants a request",
            "iterations a request",
            "every iteration, M requests/s",
            "ratio",
        ],
    )
    for name, gpus, rate, keys in CASES:
        run, stepwise = forms(requests, gpus, rate, keys), forms(requests // 10, gpus, rate, keys, every_step=True)
        seconds, records = best_of(run, rounds)
        step_seconds, _ = best_of(stepwise, max(rounds // 3, 1))
        speed, step_speed = requests / seconds / 1e6, requests // 10 / step_seconds / 1e6
        iterations = int(records.gpus["step"].sum() + records.gpus["prefills"].sum()) / requests
        instants = records.instants / requests
        row = (f"{speed:.2f}", f"{instants:.1f}", f"{iterations:.0f}", f"{step_speed:.3f}", f"{speed / step_speed:.1f}")
        found.rows.append((name, *row))
        found.numbers[name] = {"closed_form": speed, "every_iteration": step_speed}
        check_equal(forms(2000, gpus, rate, keys)(), forms(2000, gpus, rate, keys, every_step=True)())
    _growth(found, requests // 10, rounds)
    _plain_python(found)
    found.remarks.append(
        f"The runs have {requests:,} requests with BurstGPT-like lengths and Poisson arrivals, on an H100 by the "
        f"roofline. Times are the best of {rounds} rounds of the event loop and its set-up, without reading, metrics "
        "and files. Both forms give the same times within 1e-9, checked on each case."
    )
    return found


def _growth(found: Table, requests: int, rounds: int) -> None:
    rows = []
    for factor in GROWTH:
        keys = dict(CAP)
        run = forms(requests, 4, 25 / factor, keys, longer=factor)
        stepwise = forms(max(requests // (10 * factor), 500), 4, 25 / factor, keys, every_step=True, longer=factor)
        seconds, _ = best_of(run, rounds)
        step_seconds, records = best_of(stepwise, 1)
        each, step_each = seconds / requests, step_seconds / len(records.arrival_s)
        found.numbers[f"outputs x {factor}"] = {"closed_form_us": each * 1e6, "every_iteration_us": step_each * 1e6}
        rows.append((f"x {factor}", f"{each * 1e6:.2f}", f"{step_each * 1e6:.1f}"))
    found.remarks.append(
        "Growth with the length of outputs (4 GPUs, the same load in tokens), in microseconds a request:"
    )
    found.remarks.append(grid(("outputs", "closed form", "every iteration"), rows))


def _plain_python(found: Table) -> None:
    """Time the step-by-step simulator of the tests, plain Python, on the second case."""
    from tests.simulator.continuous.reference import Cap, Req, Setup, Simulation

    config, trace, law = case(REFERENCE_REQUESTS, 1, 25, CAP, 1)
    from tests.simulator.continuous.agreement import plain_price

    setup = Setup(
        memory=kv_capacity_tokens(config.gpu),
        gpus=1,
        bins=1,
        price=plain_price(ClosedForm(*law.require_iteration().parameters.tolist())),
        limit=lambda: Cap(128),
        interval=10**9,
    )
    columns = zip(trace.arrival_s.tolist(), trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True)
    requests = [Req(place, at, prompt, output, output, 0) for place, (at, prompt, output) in enumerate(columns)]
    began = time.process_time()
    Simulation(setup, requests).run()
    speed = len(trace) / (time.process_time() - began)
    closed = found.numbers["1 GPU"]["closed_form"] * 1e6
    found.numbers["plain Python"] = speed
    found.remarks.append(
        f"The step-by-step simulator of the tests, in plain Python, serves {speed:,.0f} requests/s on one GPU. The "
        f"closed form is {closed / speed:,.0f} times as fast."
    )


def forms(
    requests: int, gpus: int, rate: float, keys: dict[str, Any], every_step: bool = False, longer: int = 1
) -> Run:
    """Return a function that simulates a case once."""
    config, trace, law = case(requests, gpus, rate, keys, longer)
    if every_step:
        law = dataclasses.replace(law, iteration=Price(one_step, law.require_iteration().parameters))
    capacity = kv_capacity_tokens(config.gpu)
    policy = build_policy(
        config.scheduler, config.sla, capacity, in_batches=False, assignment=config.execution.assignment
    )
    from mbexp.prediction import predict

    prediction = predict(config.predictor, config.bins, trace.prompt_tokens, trace.output_tokens, config.seed)
    one_queue = config.scheduler.queue == "fifo"
    queue = np.zeros(len(trace), np.uint16) if one_queue else prediction.bin_of
    arguments = (
        trace.arrival_s, trace.prompt_tokens, trace.output_tokens, prediction.tokens, queue,
        1 if one_queue else prediction.bins.k, gpus, capacity, law, policy,
        execution_rules(config.execution, config.gpu), config.sla.token_ms / 1000,
        np.random.default_rng(0).random((len(trace), 2)) if policy.needs_draws else None,
    )  # fmt: skip
    return functools.partial(continuous, *arguments)


@functools.lru_cache(maxsize=8)
def _lengths(requests: int) -> Trace:
    return load_trace("burstgpt_like", num_requests=requests)


def case(requests: int, gpus: int, rate: float, keys: dict[str, Any], longer: int) -> tuple[Config, Trace, LatencyLaw]:
    """Return the configuration, the trace and the law of a case, its outputs `longer` times as long."""
    config = configure(**{**H100, **keys, "num_gpus": gpus, "gpu.kv_capacity_tokens": 589_066 * longer})
    lengths = _lengths(requests)
    gaps = np.random.default_rng(1).exponential(1 / (rate * gpus), requests)
    trace = dataclasses.replace(
        lengths, arrival_s=np.cumsum(gaps) - gaps[0], output_tokens=(lengths.output_tokens * longer).astype(np.int32)
    )
    law = build_law(config.gpu)
    assert law.require_iteration().function is closed_form
    return config, trace, law


def best_of(run: Run, rounds: int) -> tuple[float, ContinuousOutcome]:
    """Return the shortest processor time of several rounds, and what the last one left."""
    seconds = []
    for _ in range(max(rounds, 1)):
        began = time.process_time()
        records = run()
        seconds.append(time.process_time() - began)
    return min(seconds), records


def check_equal(one: ContinuousOutcome, other: ContinuousOutcome) -> None:
    """Stop if two forms of one case differ by more than rounding."""
    assert np.array_equal(one.gpu, other.gpu)
    for name in ("start_s", "first_token_s", "finish_s"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-9)
