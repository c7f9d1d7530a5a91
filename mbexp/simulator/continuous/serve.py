"""Continuous batching, exact to the iteration: the event loop and what it leaves, from arrays to arrays."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError
from mbexp.hardware.closed_form import closed_form
from mbexp.hardware.law import LatencyLaw
from mbexp.policy.assignment import round_robin
from mbexp.policy.build import Policy, first_come
from mbexp.policy.slots import Rule, value_of
from mbexp.simulator.continuous.extended import PART
from mbexp.simulator.continuous.layout import (
    BAD_ASSIGNMENT,
    BAD_LIMIT,
    BAD_SELECTION,
    BAD_TIME,
    FINISHED,
    NOBODY,
    SHARE,
)
from mbexp.simulator.continuous.outcome import ContinuousOutcome, PrefixHits, TokenGaps
from mbexp.simulator.continuous.setup import (
    SERVES,
    ContinuousRules,
    gpu_shares,
    refuse_mistakes,
    refuse_to_wait,
    refused_requests,
    state_of,
)
from mbexp.simulator.order import Claims, no_claims, refuse_no_key
from mbexp.simulator.outcome import REJECTIONS
from mbexp.workload.closed import ClosedLoop
from mbexp.workload.prefixes import Prefixes
from mbexp.workload.turns import Turns

__all__ = ["ContinuousRules", "continuous"]

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]


def continuous(
    arrival_s: FloatArray,
    prompt_tokens: IntArray,
    output_tokens: IntArray,
    predicted_tokens: IntArray,
    queue_of: npt.NDArray[np.uint16],
    num_queues: int,
    num_gpus: int,
    kv_capacity_tokens: int,
    law: LatencyLaw,
    policy: Policy,
    rules: ContinuousRules,
    token_sla_s: float = np.inf,
    draws: FloatArray | None = None,
    log_segments: int = 0,
    count_from: int = 0,
    closed: ClosedLoop | Turns | None = None,
    prefixes: Prefixes | None = None,
    homes: FloatArray | None = None,
    claims: Claims | None = None,
) -> ContinuousOutcome:
    """Serve every request that fits, iteration by iteration; the rules are those of docs/semantics.

    Parameters
    ----------
    arrival_s : float64 array, shape (n,), non-decreasing
    prompt_tokens, output_tokens, predicted_tokens : int32 arrays, shape (n,)
        Each at least 1.
    queue_of : uint16 array, shape (n,)
        Bin of each request, below `num_queues`.
    law : LatencyLaw
        With a price by iteration.
    token_sla_s : float
        Gaps between tokens above it are counted.
    prefixes : Prefixes, optional
        What prompts share, where prefixes are cached.
    homes : float64 array, shape (n,), optional
        Of the conversation of each request, the part of the GPUs that its GPU lies at: in [0, 1).
    draws : float64 array, shape (n, 2), optional
        Uniform numbers in [0, 1), for an assignment rule that draws.
    log_segments : int
        How many segments to keep, for a timeline.
    count_from : int
        Place in the trace: gaps are counted from its arrival on; what is then under way counts from its last event.
    claims : Claims, optional
        What the requests bring into an order; nothing where not given.

    Raises
    ------
    UserError
        Before the run, if the law has no price of iterations or a decode step takes no time. If a prompt alone exceeds
        the memory, a token budget is below what may run, or there are fewer GPUs than bins to share them. During the
        run, if a rule or the law returns what it may not.
    """
    price = law.require_iteration()
    claims = claims or no_claims(len(arrival_s))
    if not law.decode_step_s(1, 1) > 0:
        raise UserError(f"execution=continuous: under the latency law {law.name} a decode step takes no time")
    refuse_mistakes(prompt_tokens, num_queues, num_gpus, kv_capacity_tokens, policy, rules)
    if policy.wait:
        refuse_to_wait(policy, rules, closed is not None)
    refused = refused_requests(prompt_tokens, output_tokens, predicted_tokens, kv_capacity_tokens, rules)
    accepted = None
    keep = ~np.logical_or.reduce(refused)
    if not keep.all():
        accepted = np.flatnonzero(keep).astype(np.int32)
        arrival_s, queue_of = arrival_s[accepted], queue_of[accepted]
        prompt_tokens, output_tokens = prompt_tokens[accepted], output_tokens[accepted]
        predicted_tokens = predicted_tokens[accepted]
        draws = None if draws is None else draws[accepted]
        closed = closed and closed.of(accepted)
        prefixes = prefixes and prefixes.of(accepted)
        homes = None if homes is None else homes[accepted]
        claims = claims.of(accepted)
        count_from = int(np.searchsorted(accepted, count_from))
    sent_s, overhead_s = arrival_s, law.request_overhead_s
    if overhead_s:
        arrival_s, closed = arrival_s + overhead_s, closed and closed.later(overhead_s)
    if closed:
        sent_s = arrival_s = closed.arrivals_before_the_run()
    state = state_of(
        arrival_s, prompt_tokens, output_tokens, predicted_tokens, queue_of, num_queues, num_gpus,
        kv_capacity_tokens, policy, rules, token_sla_s, log_segments, count_from, law, closed, prefixes, homes,
    )  # fmt: skip
    first, count = gpu_shares(rules.gpu_serves, num_gpus, num_queues, queue_of, predicted_tokens)
    if SERVES[rules.gpu_serves] == SHARE:
        bins = np.repeat(np.arange(num_queues), count)
        state.gpus["bin"] = bins
        state.gpus["taken_bin"] = bins
    columns = (
        arrival_s.astype(np.float64, copy=False),
        *(column.astype(np.int32, copy=False) for column in (prompt_tokens, output_tokens, predicted_tokens)),
        queue_of.astype(np.uint16, copy=False),
    )
    assign = policy.assignment
    if assign is None or state.run["least_of"][0] != NOBODY:
        assign = Rule(round_robin, np.zeros(0), 0)  # it is not called: queues are central, or the loop knows the rule
    state.run["closed_form"] = price.function is closed_form
    ranking = _ranking(policy, rules, claims, state, queue_of, predicted_tokens)
    run_until_served = _loop_of(state, len(ranking) > 1)
    status = run_until_served(
        state.run, *(np.ascontiguousarray(column) for column in columns),
        state.queues, state.heads_s, state.memory, value_of(policy.selection.function), policy.selection.parameters,
        price.function, price.parameters, value_of(policy.limit.function), policy.limit.parameters, policy.bounds,
        policy.limit_state(num_gpus),
        state.given, value_of(assign.function), assign.parameters, np.zeros(assign.memory + len(first)),
        np.empty((0, 2)) if draws is None else draws, first, count, *ranking,
    )  # fmt: skip
    _raise_if_bad(status)
    if len(ranking) > 1:
        refuse_no_key(ranking.failed)
    totals = state.run[0]
    by_arrival = isinstance(closed, Turns)
    if by_arrival:
        who = state.who
        accepted = who if accepted is None else accepted[who]
        prompt_tokens, output_tokens, predicted_tokens, queue_of = (
            column[who] for column in (prompt_tokens, output_tokens, predicted_tokens, queue_of)
        )
    return ContinuousOutcome(
        arrival_s=arrival_s - overhead_s if closed else sent_s,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        predicted_tokens=predicted_tokens,
        accepted=accepted,
        queue_of=queue_of,
        start_s=state.start_s,
        first_token_s=state.first_token_s,
        finish_s=state.finish_s,
        gpu=state.gpu_of,
        preemptions=state.preemptions_of,
        gaps=TokenGaps(
            count=int(totals["gaps"]),
            above=int(totals["gaps_above"]),
            sum_s=float(totals["gap_sum_s"]),
            max_s=float(totals["gap_max_s"]),
            counts=state.gap_counts,
        ),
        gpus=np.asarray(state.gpus),
        samples=np.asarray(state.samples[: int(totals["samples_kept"])]),
        segments=np.asarray(state.segments[: int(totals["num_segments"])]),
        num_segments=int(totals["num_segments"]),
        num_gpus=num_gpus,
        kv_capacity_tokens=kv_capacity_tokens,
        block_tokens=rules.unit_tokens,
        waiting_max=int(totals["waiting_max"]),
        outgrown=int(totals["outgrown"]),
        instants=int(totals["instants"]),
        rejected={
            reason: np.flatnonzero(mask).astype(np.int32)
            for reason, mask in zip(REJECTIONS, refused, strict=True)
            if mask.any()
        },
        users=closed.users if closed else None,
        by_arrival=by_arrival,
        prefix=_prefix_hits(state, prefixes) if prefixes else None,
        is_fifo=policy.order is None,
        paused_request_s=float(ranking.pauses[1].sum()) if policy.wait else 0.0,
        lost_gaps=int(totals["lost_gaps"]) if rules.preemption == "restart" else 0,
    )


def _prefix_hits(state: SimpleNamespace, prefixes: Prefixes) -> PrefixHits:
    """Return what a prefix cache found."""
    totals = state.run[0]
    return PrefixHits(
        skipped_at_first=np.maximum(state.cached["skipped"], 0),
        looked_blocks=int(totals["looked_blocks"]),
        found_blocks=int(totals["found_blocks"]),
        found_requests=int(totals["found_requests"]),
        skipped_tokens=int(totals["skipped_tokens"]),
        evicted_blocks=int(totals["evicted_blocks"]),
        block_tokens=prefixes.block_tokens,
    )


def _ranking(
    policy: Policy,
    rules: ContinuousRules,
    claims: Claims,
    state: SimpleNamespace,
    queue_of: npt.NDArray[np.uint16],
    predicted_tokens: IntArray,
) -> Any:
    """Return the order as a loop takes it: one without parts where queues are first in, first out."""
    future = rules.kv == "future"
    if policy.order is None and not future and not policy.wait:
        return (None,)
    from mbexp.simulator.continuous.order import order_of
    from mbexp.simulator.continuous.wait import types_of

    num_queues = state.queues.shape[2]
    types = types_of(policy.limit_max, queue_of, predicted_tokens, num_queues)
    return order_of(policy.order or first_come(), claims, state, future, policy.wait, types)


def _loop_of(state: SimpleNamespace, ordered: bool) -> Callable[..., int]:
    """Return the loop that is compiled for the table and the queues of a run; its import compiles it."""
    if PART in (state.run.dtype.names or ()):
        if ordered:
            from mbexp.simulator.continuous import ordered_extended_loop

            return ordered_extended_loop.run_until_served
        from mbexp.simulator.continuous import extended_loop

        return extended_loop.run_until_served
    if ordered:
        from mbexp.simulator.continuous import ordered_loop

        return ordered_loop.run_until_served
    from mbexp.simulator.continuous import plain_loop

    return plain_loop.run_until_served


def _raise_if_bad(status: int) -> None:
    messages = {
        BAD_SELECTION: "scheduler.selection: the rule named a queue in which no request waits",
        BAD_LIMIT: "scheduler.batch_size: the rule returned a limit below 1",
        BAD_TIME: "gpu.law: the price of an iteration is negative or infinite",
        BAD_ASSIGNMENT: "execution.assignment: the rule named a GPU that does not serve the request's bin",
    }
    if status != FINISHED:
        raise UserError(messages[status])
