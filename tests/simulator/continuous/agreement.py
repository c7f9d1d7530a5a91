"""Runs the closed-form loop and the step-by-step simulator on one case and says where they first differ."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np

from mbexp.config.keys import SlaConfig
from mbexp.config.scheduler_keys import ControllerConfig, SchedulerConfig
from mbexp.hardware.iteration import ClosedForm
from mbexp.hardware.iteration_table import IterationTable
from mbexp.hardware.law import UNBOUNDED, LatencyLaw, Price
from mbexp.policy.build import build_policy
from mbexp.simulator.continuous import ordered_loop  # noqa: F401 -- compiled now, not while Hypothesis traces lines
from mbexp.simulator.continuous.outcome import ContinuousOutcome
from mbexp.simulator.continuous.serve import ContinuousRules, continuous
from mbexp.simulator.order import Claims
from mbexp.workload.closed import ClosedLoop
from mbexp.workload.prefixes import Prefixes
from mbexp.workload.turns import Turns
from tests.simulator.continuous.reference import Cap, Dynamic, Req, Setup, Simulation
from tests.simulator.continuous.reference_cache import CacheSetup
from tests.simulator.orders import CHANGING, claim_of, drawn_claims, key_of

RELATIVE = 1e-9


@dataclass(frozen=True)
class OwnPrice:
    """A price that is neither the closed form nor a table, and the same written out for the reference."""

    compiled: Price
    plain: Callable[[int, int, int, float, int], float]

    def price(self) -> Price:
        return self.compiled


AnyPrice = ClosedForm | IterationTable | OwnPrice


def priced(
    price: AnyPrice,
    sizes: tuple[int, int] = UNBOUNDED,
    contexts: tuple[int, int] = UNBOUNDED,
    request_overhead_s: float = 0.0,
) -> LatencyLaw:
    """A law that has only a price by iteration."""
    return LatencyLaw("test", None, price.price(), "made up", sizes, contexts, request_overhead_s=request_overhead_s)


def plain_price(price: AnyPrice) -> Callable[..., float]:
    """The price of an iteration as the page writes it."""

    def formula(b: int, context: int, tokens: int, squares: float, ended: int) -> float:
        seconds = price.fixed_s
        if b:
            seconds += price.sequence_s * b + price.saturating_s * (b - 1) / b
        work = price.compute_s * b + price.prefill_token_s * tokens + price.prefill_sequence_s * ended
        seconds += max(price.floor_s, work) + price.context_s * context + price.prefill_square_s * squares
        if tokens:
            seconds += price.prefill_extra_s + price.mixed_context_s * context + (price.mixed_extra_s if b else 0.0)
        return seconds + price.experts_s * (1 - price.experts_idle ** (b + tokens))

    def line(x: float, points: np.ndarray, values: np.ndarray) -> float:
        x = max(x, points[0])
        i = min(max(int(np.searchsorted(points, x, side="right")) - 1, 0), len(points) - 2)
        return float(values[i] + (values[i + 1] - values[i]) * (x - points[i]) / (points[i + 1] - points[i]))

    def surface(row: float, column: float, rows: np.ndarray, columns: np.ndarray, table: np.ndarray) -> float:
        return line(row, rows, np.array([line(column, columns, values) for values in table]))

    def table(b: int, context: int, tokens: int, squares: float, ended: int) -> float:
        def prefill(sequences: float, length: float) -> float:
            return surface(sequences, length, price.prefill_sequences, price.prefill_tokens, price.prefill_table_s)

        seconds = surface(b, context / b, price.batch_sizes, price.contexts_tokens, price.step_table_s) if b else 0.0
        if not tokens:
            return seconds
        many = tokens**2 / squares
        if many >= 1:
            return seconds + prefill(many, squares / tokens) - (prefill(many, 0) if b else 0.0)
        before = (squares / tokens - tokens) / 2
        return seconds + prefill(1, before + tokens) - prefill(1, before) + (0.0 if b else prefill(1, 0))

    if isinstance(price, OwnPrice):
        return price.plain
    return formula if isinstance(price, ClosedForm) else table


@dataclass
class Case:
    """One small simulation; `requests` are (gap since the one before, prompt, output, prediction, bin)."""

    requests: list[tuple[float, int, int, int, int]]
    price: AnyPrice
    bins: int = 1
    gpus: int = 1
    memory: int = 10_000
    scheduler: dict[str, Any] = field(default_factory=lambda: {"batch_size": "fixed", "fixed_batch_size": 4})
    controller: dict[str, Any] = field(default_factory=dict)
    rules: dict[str, Any] = field(default_factory=dict)
    assignment: str = "central"
    interval_steps: int = 4
    token_ms: float = 10.0
    seed: int = 0
    sizes: tuple[int, int] = UNBOUNDED  # requests and mean context that the law is supported in
    contexts: tuple[int, int] = UNBOUNDED
    users: int | None = None
    think: list[float] = field(default_factory=list)
    overhead: float = 0.0  # of a request, before it joins a queue
    parents: list[int] | None = None  # of turns of conversations; `think` is then the time before each

    prefixes: Prefixes | None = None
    homes: list[float] = field(default_factory=list)

    @property
    def closed(self) -> ClosedLoop | Turns | None:
        think = np.array(self.think, np.float64)
        if self.parents is not None:
            return Turns(np.array(self.parents, np.int32), think, np.array(self.arrivals, np.float64))
        return ClosedLoop(self.users, think) if self.users else None

    @property
    def arrivals(self) -> list[float]:
        return np.cumsum([row[0] for row in self.requests]).tolist() if self.requests else []

    @property
    def claims(self) -> Claims:
        return drawn_claims(len(self.requests), self.seed)

    @property
    def draws(self) -> np.ndarray:
        return np.random.default_rng(self.seed).random((len(self.requests), 2))


def run_reference(case: Case) -> tuple[Simulation, dict[str, list[int]]]:
    rules = ContinuousRules(**case.rules)
    config = SchedulerConfig(**case.scheduler, controller=ControllerConfig(**case.controller))
    controller = config.controller

    def limit() -> Any:
        if config.batch_size == "fixed":
            return Cap(config.fixed_batch_size)
        return Dynamic(
            b_min=config.batch_size_min,
            b_max=config.batch_size_max,
            eta=case.memory,
            theta=NormalDist().inv_cdf(1 - config.memory_overflow_probability),
            rule=config.memory_rule,
            target=case.token_ms / 1000,
            tolerance=controller.tolerance_ms / 1000,
            alpha=controller.alpha_requests,
            delta=controller.delta_requests,
            window=controller.window_batches,
            every=controller.interval_batches,
        )

    turned_away: list[Req] = []
    setup = Setup(
        memory=case.memory,
        gpus=case.gpus,
        bins=case.bins,
        price=plain_price(case.price),
        limit=limit,
        kv=rules.kv,
        block=rules.block_tokens,
        prefill=rules.prefill,
        budget=rules.token_budget,
        prefill_max=rules.prefill_max_tokens,
        admission=rules.admission,
        prefill_memory=rules.prefill_memory,
        hold_last=rules.hold_last_token,
        output_reserve=rules.output_reserve,
        conservativeness=rules.conservativeness,
        overhead=case.overhead,
        reserved_blocks=rules.reserved_blocks,
        watermark_pct=rules.watermark_pct,
        swap=rules.preemption == "swap",
        swap_token=rules.swap_token_s,
        future_estimate=rules.future_estimate,
        future_history=rules.future_history,
        estimate_seed=rules.estimate_seed,
        least_gives_way=rules.gives_way == "least_predicted",
        restart=rules.preemption == "restart",
        underprediction=rules.underprediction,
        assignment=case.assignment,
        serves=rules.gpu_serves,
        turn=rules.turn_requests,
        interval=case.interval_steps if config.batch_size == "dynamic" else 10**9,
        selection=config.selection,
        token_sla=case.token_ms / 1000,
        draws=case.draws.tolist(),
        sizes=case.sizes,
        contexts=case.contexts,
        users=case.users,
        think=case.think,
        parents=case.parents,
        rejected=turned_away,
        cache=cache_of(case),
        router=rules.router,
        homes=case.homes,
        order=key_of(config.order, config.order_by, dict(config.parameters)),
        order_changes=config.order in CHANGING,
        preempt=config.preempt,
        wait=config.wait,
        preempt_share=config.preempt_share,
        preempt_margin=config.preempt_margin,
    )
    rejected: dict[str, list[int]] = {}
    requests = []
    for place, (arrival, (_, prompt, output, predicted, queue)) in enumerate(
        zip(case.arrivals, case.requests, strict=True)
    ):
        reason = None
        if rules.max_model_len_tokens is not None and prompt + output > rules.max_model_len_tokens:
            reason = "exceeds_max_model_len"
        elif rules.kv == "paged":
            blocks = math.ceil((prompt + output - (not rules.hold_last_token)) / rules.block_tokens)
            promised = math.ceil((prompt + predicted - (not rules.hold_last_token)) / rules.block_tokens)
            capacity = case.memory // rules.block_tokens - rules.reserved_blocks
            if rules.output_reserve == "full" and promised > capacity:
                reason = "predicted_need_exceeds_memory"
            elif blocks > capacity:
                reason = "true_need_exceeds_memory"
        elif prompt + predicted > case.memory:
            reason = "predicted_need_exceeds_memory"
        elif prompt + output > case.memory:
            reason = "true_need_exceeds_memory"
        if reason:
            rejected.setdefault(reason, []).append(place)
            turned_away.append(Req(place, arrival, prompt, output, predicted, queue))
        else:
            claim = claim_of(case.claims, place)
            requests.append(Req(place, arrival, prompt, output, predicted, queue, claim=claim))
    simulation = Simulation(setup, requests)
    simulation.run()
    return simulation, rejected


def cache_of(case: Case) -> CacheSetup | None:
    """The paths of a case, block by block."""
    tree = case.prefixes
    if tree is None:
        return None
    ends = np.cumsum(tree.blocks, dtype=np.int64)
    spans = [
        (number, list(range(end - count, end)))
        for number, (end, count) in enumerate(zip(ends, tree.blocks, strict=True))
    ]
    rules = ContinuousRules(**case.rules)

    paths = [[[spans[span] for span in tree.path(end)] for end in ends_of] for ends_of in
             (tree.prompt_span, tree.context_span)]  # fmt: skip
    return CacheSetup(
        rules.prefix_cache, tree.block_tokens, *paths, rules.prefix_cache_blocks, rules.prefix_cache_of == "all",
        tree.answers_known,
    )  # fmt: skip


def run_closed_form(case: Case) -> ContinuousOutcome:
    config = SchedulerConfig(**case.scheduler, controller=ControllerConfig(**case.controller))
    policy = build_policy(
        config, SlaConfig(token_ms=case.token_ms), case.memory, in_batches=False, assignment=case.assignment
    )
    columns = list(zip(*[row[1:] for row in case.requests], strict=True)) or [(), (), (), ()]
    prompt, output, predicted = (np.array(column, np.int32) for column in columns[:3])
    return continuous(
        np.array(case.arrivals, np.float64),
        prompt,
        output,
        predicted,
        np.array(columns[3], np.uint16),
        case.bins,
        case.gpus,
        case.memory,
        priced(case.price, case.sizes, case.contexts, case.overhead),
        policy,
        ContinuousRules(**{"oversized_prompt": "reject", "interval_steps": case.interval_steps, **case.rules}),
        case.token_ms / 1000,
        case.draws,
        log_segments=100_000,
        closed=case.closed,
        prefixes=case.prefixes,
        homes=np.array(case.homes) if case.homes else None,
        claims=case.claims,
    )


def iterations_of(records: ContinuousOutcome) -> list[tuple[float, int, int, int, int]]:
    """Every iteration: (start, GPU, decoding, context, prompt tokens)."""
    rows = []
    for segment in records.segments:
        for k in range(int(segment["iterations"])):
            elapsed = k * segment["first_s"] + segment["growth_s"] * (k * (k - 1) // 2)
            decoding = int(segment["decoding"])
            pause = 0.0
            if k:  # the pause lies before the first iteration ends
                pause = segment["finish_s"] - segment["start_s"]
                whole = int(segment["iterations"])
                pause -= whole * segment["first_s"] + segment["growth_s"] * (whole * (whole - 1) // 2)
            rows.append(
                (
                    float(segment["start_s"] + pause + elapsed),
                    int(segment["gpu"]),
                    decoding,
                    int(segment["context_tokens"]) + k * decoding,
                    int(segment["prompt_tokens"]),
                )
            )
    return rows


def near(one: float, other: float, scale: float = 0.0) -> bool:
    return abs(one - other) <= RELATIVE * max(abs(one), abs(other), scale)


def difference(case: Case) -> str | None:
    """Return None where both simulators agree, else a few lines on the first thing that differs."""
    simulation, rejected = run_reference(case)
    records = run_closed_form(case)
    found = {reason: places.tolist() for reason, places in records.rejected.items()}
    if rejected != found:
        return f"rejected: reference {rejected}, loop {found}"
    if records.num_segments > len(records.segments):
        return "the log of segments is too short for this test"
    expected = [
        (iteration.start, iteration.gpu, iteration.decoding, iteration.context, iteration.prompt_tokens)
        for iteration in simulation.iterations
    ]
    # In order of GPU, then time: the order between GPUs is that of the instants, which are compared.
    expected.sort(key=lambda row: row[1])
    loop = sorted(iterations_of(records), key=lambda row: row[1])
    for number, (one, other) in enumerate(zip(expected, loop, strict=False)):
        if one[1:] != other[1:] or not near(one[0], other[0]):
            before = expected[max(0, number - 2) : number]
            return (
                f"iteration {number} (start, GPU, decoding, context, prompt tokens): reference {one}, loop {other}\n"
                f"  before it {before}"
            )
    if len(expected) != len(loop):
        return f"reference made {len(expected)} iterations, loop {len(loop)}"
    for place, request in enumerate(simulation.requests):
        pairs = {
            "arrival": (request.arrival, records.arrival_s[place]),
            "start": (request.start, records.start_s[place]),
            "first token": (request.first, records.first_token_s[place]),
            "finish": (request.finish, records.finish_s[place]),
        }
        for name, (one, other) in pairs.items():
            if not near(float(one), float(other)):
                return f"request {request.place}: {name}: reference {one!r}, loop {other!r}"
        exact = (request.gpu, request.preemptions), (int(records.gpu[place]), int(records.preemptions[place]))
        if exact[0] != exact[1]:
            return f"request {request.place}: (GPU, preemptions): reference {exact[0]}, loop {exact[1]}"
    return _difference_of_totals(case, simulation, records)


def _difference_of_totals(case: Case, simulation: Simulation, records: ContinuousOutcome) -> str | None:
    gaps = np.sort(simulation.gaps)
    sla = case.token_ms / 1000
    if np.any(np.abs(gaps - sla) <= RELATIVE * sla) and not np.any(gaps == sla):
        above = records.gaps.above  # too near to call
    else:
        above = int(np.count_nonzero(gaps > sla * (1 + RELATIVE)))
    gpus = records.gpus
    totals = {
        "gaps": (len(gaps), records.gaps.count),
        "gaps above the SLA": (above, records.gaps.above),
        "computed tokens": (simulation.prefilled, int(gpus["prefill_tokens"].sum())),
        "copied tokens": (simulation.copied, int(gpus["copied_tokens"].sum())),
        "most held": (simulation.held_max, int(gpus["held_max"].max())),
        "decode steps": (
            sum(iteration.decoding > 0 for iteration in simulation.iterations),
            int(gpus["step"].sum()),
        ),
        "gaps in the histogram": (len(gaps), int(records.gaps.counts.sum())),
    }
    if records.prefix:
        hits = records.prefix
        totals |= {
            "blocks looked for": (simulation.looked, hits.looked_blocks),
            "blocks found": (simulation.hits, hits.found_blocks),
            "requests with any": (simulation.hit_requests, hits.found_requests),
            "skipped tokens": (simulation.skipped, hits.skipped_tokens),
            "evicted blocks": (sum(cache.evicted for cache in simulation.caches), hits.evicted_blocks),
        }
    for name, (one, other) in totals.items():
        if one != other:
            return f"{name}: reference {one}, loop {other}"
    sums = {
        "sum of gaps": (float(gaps.sum()), records.gaps.sum_s),
        "longest gap": (float(gaps[-1]) if len(gaps) else 0.0, records.gaps.max_s),
        "busy": (simulation.busy, float(gpus["busy_s"].sum())),
        "KV use": (simulation.kv_time, float(gpus["kv_token_s"].sum())),
    }
    end = max([float(request.finish) for request in simulation.requests], default=0.0)
    for name, (one, other) in sums.items():
        if not near(one, other, end):
            return f"{name}: reference {one!r}, loop {other!r}"
    for share in (0.5, 0.9, 0.99):
        if len(gaps):
            one = float(gaps[max(math.ceil(share * len(gaps)) - 1, 0)])
            other = records.gaps.quantile_s(share)
            if 1e-5 < one < 1e5 and abs(one - other) > 1.001e-3 * one:
                return f"quantile {share} of gaps: reference {one!r}, loop {other!r}"
    return None


def with_rules(case: Case, **rules: Any) -> Case:
    return dataclasses.replace(case, rules={**case.rules, **rules})
