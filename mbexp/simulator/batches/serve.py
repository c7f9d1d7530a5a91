"""The event loop and what it leaves behind; it knows arrays, a policy and a law, and nothing of files or configs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.compiled.switch import OTHER, number_of
from mbexp.errors import UserError
from mbexp.hardware.law import LatencyLaw
from mbexp.policy.build import Policy
from mbexp.policy.slots import Rule, RuleFunction, value_of
from mbexp.simulator.admission import all_but, own_copies, rejected_requests, sorted_by_queue
from mbexp.simulator.batches.outcome import BatchesOutcome
from mbexp.simulator.batches.state import BATCH_DTYPE, new_gpus, new_queues
from mbexp.simulator.order import Claims, no_claims, refuse_no_key
from mbexp.workload.closed import ClosedLoop
from mbexp.workload.turns import Turns

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]


def run_to_completion(
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
    noise: FloatArray | None = None,
    closed: ClosedLoop | Turns | None = None,
    claims: Claims | None = None,
) -> BatchesOutcome:
    """Serve every request that fits, batch by batch; the rules are those of docs/semantics.

    Parameters
    ----------
    arrival_s : float64 array, shape (n,), non-decreasing
    prompt_tokens, output_tokens, predicted_tokens : int32 arrays, shape (n,)
    queue_of : uint16 array, shape (n,)
        Queue of each request, below `num_queues`.
    noise : float64 array, shape (>= n,), optional
        Factor on the time of the j-th batch.
    claims : Claims, optional
        What the requests bring into an order; nothing where not given.

    Raises
    ------
    UserError
        If the law has no price for whole batches or returns a time that is not finite. If a policy returns a queue that
        is not ready, or a limit below 1.
    """
    price = law.require_batch()
    arrived = len(arrival_s)
    exact = predicted_tokens is output_tokens
    arrival_s, queue_of = _plain(arrival_s), _plain(queue_of)
    prompt_tokens, output_tokens = _plain(prompt_tokens), _plain(output_tokens)
    predicted_tokens = output_tokens if exact else _plain(predicted_tokens)
    rejected = rejected_requests(prompt_tokens, output_tokens, predicted_tokens, kv_capacity_tokens)
    accepted = None
    if rejected:
        accepted = all_but(rejected, len(arrival_s))
        arrival_s, queue_of = arrival_s[accepted], queue_of[accepted]
        prompt_tokens, output_tokens = prompt_tokens[accepted], output_tokens[accepted]
        predicted_tokens = output_tokens if exact else predicted_tokens[accepted]
        closed = closed and closed.of(accepted)
    sent_s, overhead_s = arrival_s, law.request_overhead_s
    if overhead_s:
        arrival_s, closed = arrival_s + overhead_s, closed and closed.later(overhead_s)
    if closed:
        sent_s = arrival_s = closed.arrivals_before_the_run()

    columns = arrival_s, queue_of, num_queues, prompt_tokens, output_tokens, predicted_tokens
    ranking: Any
    if policy.order is None:
        requests, ranking = sorted_by_queue(*columns), (None,)
    else:
        from mbexp.simulator.batches.order import in_order

        requests, ranking = in_order(policy.order, (claims or no_claims(arrived)).of(accepted), *columns)
    batches = np.empty(len(arrival_s), BATCH_DTYPE)
    turns, who = None, None
    if isinstance(closed, Turns):
        from mbexp.simulator.batches.turns import new_turns

        requests = own_copies(requests)
        turns = new_turns(closed.causes(), requests, (prompt_tokens, output_tokens, predicted_tokens))
        who = turns.who
    users = closed if isinstance(closed, ClosedLoop) else None
    run = _loop(policy, turns is not None)
    count, status = run(
        requests, new_queues(requests.queue_start, len(arrival_s)), new_gpus(num_gpus),
        kv_capacity_tokens, price.function, price.parameters, np.empty(0) if noise is None else noise,
        *loop_rules(policy, num_queues), batches,
        users.think_s if users else np.empty(0), users.users if users else 0, turns, *ranking,
    )  # fmt: skip
    _raise_if_bad(status, count)
    if policy.order is not None:
        refuse_no_key(ranking.failed)
    if who is not None:
        accepted = who if accepted is None else accepted[who]
        prompt_tokens, output_tokens, predicted_tokens = (
            column[who] for column in (prompt_tokens, output_tokens, predicted_tokens)
        )
        arrival_s, queue_of = requests.arrival_s, requests.queue_of
    return BatchesOutcome(
        arrival_s=arrival_s - overhead_s if closed else sent_s,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        predicted_tokens=predicted_tokens,
        accepted=accepted,
        queue_of=queue_of,
        index=requests.trace_index,
        batches=batches[:count],
        num_gpus=num_gpus,
        kv_capacity_tokens=kv_capacity_tokens,
        rejected=rejected,
        users=closed.users if closed else None,
        by_arrival=who is not None,
        is_fifo=policy.order is None,
    )


def loop_rules(policy: Policy, num_queues: int) -> tuple[Any, ...]:
    """Return the arguments of the loop that are a policy, with fresh memory."""
    from mbexp.simulator.batches import loop

    limit, selection, fill = policy.limit, policy.selection, policy.fill
    assert fill is not None
    limit_rule, limit_function = _by_number(limit, loop.LIMITS)
    select_rule, select = _by_number(selection, loop.SELECTIONS)
    fill_rule, fill_function = _by_number(fill, loop.FILLS)
    return (
        limit_rule, limit_function, limit.parameters, policy.bounds, policy.limit_state(num_queues),
        select_rule, select, np.zeros(selection.memory + num_queues), selection.parameters,
        fill_rule, fill_function, fill.parameters,
    )  # fmt: skip


def _by_number(rule: Rule, known: Sequence[RuleFunction]) -> tuple[int, RuleFunction]:
    """Return the number of a rule and a compiled function, which is not called where the loop knows the number."""
    number = number_of(rule.function, known)
    return number, value_of(rule.function if number == OTHER else known[0])


def _loop(policy: Policy, has_turns: bool) -> Callable[..., tuple[int, int]]:
    """Return the loop of a run; its import compiles it, which a run that does not use it need not wait for."""
    if policy.order is None:
        if has_turns:
            from mbexp.simulator.batches import turns_loop

            return turns_loop.run
        from mbexp.simulator.batches import loop

        return loop.run
    if has_turns:
        from mbexp.simulator.batches import ordered_turns_loop

        return ordered_turns_loop.run
    from mbexp.simulator.batches import ordered_loop

    return ordered_loop.run


def _plain(array: npt.NDArray[Any]) -> Any:
    """Return the array itself, or a copy where compiled code could not take it: views with gaps, read-only memory."""
    return np.require(array, requirements=["C", "W"])


def _raise_if_bad(status: int, count: int) -> None:
    from mbexp.simulator.batches import loop

    if status == loop.BAD_SELECTION:
        raise UserError(f"scheduler.selection: the rule named a queue that is not ready (batch {count})")
    if status == loop.BAD_LIMIT:
        raise UserError(f"scheduler.batch_size: the rule returned a limit below 1 (after batch {count})")
    if status == loop.STUCK:
        raise UserError(
            "scheduler.fill: every user of the closed loop waits for a batch that they alone cannot fill; use "
            "scheduler.fill=greedy or timeout, or workload.arrivals.users of the batch size or more"
        )
    if status == loop.BAD_TIME:
        raise UserError(f"gpu.law: the law gave a negative or infinite time (batch {count})")
