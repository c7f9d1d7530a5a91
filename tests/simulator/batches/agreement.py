"""Runs the compiled loop and the textbook simulator on one case and says where they first differ."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mbexp.config.keys import SlaConfig
from mbexp.config.scheduler_keys import ControllerConfig, SchedulerConfig
from mbexp.hardware.law import LatencyLaw, Price, batch_price
from mbexp.policy.build import build_policy
from mbexp.simulator.batches import ordered_loop  # noqa: F401 -- compiled now, not while Hypothesis traces lines
from mbexp.simulator.batches.outcome import BatchesOutcome
from mbexp.simulator.batches.serve import run_to_completion
from mbexp.simulator.order import Claims
from mbexp.workload.closed import ClosedLoop
from mbexp.workload.turns import Turns
from tests.simulator.batches.reference import Outcome, Request, Rules, simulate
from tests.simulator.orders import CHANGING, claim_of, drawn_claims, key_of


def weighted(parameters, batch_size, longest_prompt, longest_output, longest_total, sum_prompt, sum_output):
    """A law to which every one of its arguments matters; three rows of seven weights."""
    service_s = parameters[0] + parameters[1] * batch_size + parameters[2] * longest_prompt
    service_s += parameters[3] * longest_output + parameters[4] * longest_total
    service_s += parameters[5] * sum_prompt + parameters[6] * sum_output
    first_s = parameters[7] + parameters[8] * longest_prompt + parameters[9] * sum_prompt
    step_s = parameters[10] + parameters[11] * batch_size + parameters[12] * longest_total + parameters[13] * sum_output
    return service_s, first_s, step_s


compiled_weighted = batch_price(weighted)


@dataclass
class Case:
    """One small simulation; `requests` are (gap since the one before, prompt, output, prediction, bin)."""

    requests: list[tuple[float, int, int, int, int]]
    queues: int = 1
    gpus: int = 1
    memory: int = 1000
    scheduler: dict[str, Any] = field(default_factory=dict)
    controller: dict[str, Any] = field(default_factory=dict)
    token_ms: float = 10.0
    law: Sequence[float] | LatencyLaw = (1.0, *[0.0] * 13)
    noise: list[float] = field(default_factory=list)
    users: int | None = None
    think: list[float] = field(default_factory=list)
    parents: list[int] | None = None  # of turns of conversations; `think` is then the time before each
    overhead: float = 0.0  # of a request, before it joins a queue

    @property
    def closed(self) -> ClosedLoop | Turns | None:
        think = np.array(self.think, np.float64)
        if self.parents is not None:
            return Turns(np.array(self.parents, np.int32), think, np.array(self.arrivals, np.float64))
        return ClosedLoop(self.users, think) if self.users else None

    @property
    def claims(self) -> Claims:
        return drawn_claims(len(self.requests), len(self.requests))

    @property
    def config(self) -> SchedulerConfig:
        return SchedulerConfig(**self.scheduler, controller=ControllerConfig(**self.controller))

    @functools.cached_property
    def arrivals(self) -> list[float]:
        return list(np.cumsum([row[0] for row in self.requests])) if self.requests else []


def run_reference(case: Case) -> Outcome:
    config = case.config
    rules = Rules(
        batch_size=config.batch_size,
        selection=config.selection,
        fill=config.fill,
        fixed_batch_size=config.fixed_batch_size,
        timeout=config.timeout_s,
        b_min=config.batch_size_min,
        b_max=config.batch_size_max,
        memory_rule=config.memory_rule,
        overflow_probability=config.memory_overflow_probability,
        token_sla=case.token_ms / 1000,
        tolerance=config.controller.tolerance_ms / 1000,
        alpha=config.controller.alpha_requests,
        delta=config.controller.delta_requests,
        window=config.controller.window_batches,
        interval=config.controller.interval_batches,
        memory=case.memory,
        order=key_of(config.order, config.order_by, dict(config.parameters)),
        order_changes=config.order in CHANGING,
    )
    law: Callable[..., tuple[float, float, float]] = (
        case.law.service if isinstance(case.law, LatencyLaw) else functools.partial(weighted, list(case.law))
    )
    requests = [
        Request(place, float(arrival), prompt, output, predicted, queue, claim_of(case.claims, place))
        for place, (arrival, (_, prompt, output, predicted, queue)) in enumerate(
            zip(case.arrivals, case.requests, strict=True)
        )
    ]
    return simulate(
        requests, case.queues, case.gpus, law, rules, case.noise, case.users, case.think, case.parents, case.overhead
    )


def run_compiled(case: Case) -> BatchesOutcome:
    law = case.law
    if not isinstance(law, LatencyLaw):
        batch = Price(compiled_weighted, np.array(law, np.float64))
        law = LatencyLaw("weighted", batch, None, "made up", length="output", request_overhead_s=case.overhead)
    columns = list(zip(*[row[1:] for row in case.requests], strict=True)) or [(), (), (), ()]
    prompt, output, predicted = (np.array(column, np.int32) for column in columns[:3])
    return run_to_completion(
        np.array(case.arrivals, np.float64),
        prompt,
        output,
        predicted,
        np.array(columns[3], np.uint16),
        case.queues,
        case.gpus,
        case.memory,
        law,
        build_policy(case.config, SlaConfig(token_ms=case.token_ms), case.memory),
        np.array(case.noise, np.float64) if case.noise else None,
        case.closed,
        case.claims,
    )


def rows_of_reference(outcome: Outcome) -> list[dict[str, Any]]:
    return [
        {
            "start_s": batch.start,
            "finish_s": batch.finish,
            "first_token_s": batch.first_token,
            "step_s": batch.step,
            "members": [request.place for request in batch.members],
            "gpu": batch.gpu,
            "queue": batch.queue,
            "limit": batch.limit,
            "b_mem": batch.b_mem,
            "b_sla": batch.b_sla,
            "controller_low": float(np.float32(batch.low)),
            "controller_high": float(np.float32(batch.high)),
        }
        for batch in outcome.batches
    ]


def rows_of_compiled(records: BatchesOutcome) -> list[dict[str, Any]]:
    places = np.arange(len(records.arrival_s)) if records.accepted is None else records.accepted
    rows = []
    for batch in records.batches:
        window = records.index[batch["first"] : batch["first"] + batch["size"]]
        row = {"members": places[window].tolist()}
        row.update({name: batch[name].item() for name in batch.dtype.names if name not in ("first", "size")})
        rows.append(row)
    return rows


def difference(case: Case) -> str | None:
    """Return None where both simulators agree bit for bit, else a few lines on the first batch that differs."""
    outcome, records = run_reference(case), run_compiled(case)
    rejected = {reason: places.tolist() for reason, places in records.rejected.items()}
    if rejected != outcome.rejected:
        return f"rejected: reference {outcome.rejected}, loop {rejected}"
    expected, found = rows_of_reference(outcome), rows_of_compiled(records)
    for number, (one, other) in enumerate(zip(expected, found, strict=False)):
        assert one.keys() == other.keys()
        unequal = [key for key in one if one[key] != other[key]]
        if unequal:
            parts = [f"{key}: reference {one[key]!r}, loop {other[key]!r}" for key in unequal]
            return f"batch {number} (reference: {one}):\n  " + "\n  ".join(parts)
    if len(expected) != len(found):
        return f"reference formed {len(expected)} batches, loop {len(found)}"
    places = np.arange(len(records.arrival_s)) if records.accepted is None else records.accepted
    sent = dict(zip(places.tolist(), records.arrival_s.tolist(), strict=True))
    if sent != outcome.sent:
        return f"sent: reference {outcome.sent}, loop {sent}"
    return None
