"""What a continuous run is made of before it begins: its rules, what is refused, shares of GPUs, and its state."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt

from mbexp.compiled.index_set import empty_set
from mbexp.compiled.least_tree import leaves_of
from mbexp.config.scheduler_keys import WAITS
from mbexp.errors import UserError
from mbexp.hardware.law import LatencyLaw
from mbexp.policy.assignment import join_shortest, least_kv
from mbexp.policy.build import Policy
from mbexp.simulator.continuous import layout
from mbexp.simulator.continuous.cache_setup import ROUTERS, cache_sizes, fill_cache, refuse_cache
from mbexp.simulator.continuous.estimate_setup import begin_histories, estimate_sizes, refuse_estimates
from mbexp.simulator.continuous.extended import EXTENDED
from mbexp.simulator.continuous.layout import (
    ANY_BIN,
    EXTEND,
    FIRST_CHUNK,
    FULL_OUTPUT,
    GIVEN_KV,
    GIVEN_REQUESTS,
    HELD,
    LAYOUT,
    NO_OUTPUT,
    NOBODY,
    ONE_BIN,
    OUTPUT_RATIO,
    PREEMPT,
    REQUEUE,
    SHARE,
    TESTED,
    new_state,
)
from mbexp.simulator.continuous.output_ratio import RATIO_FIRST
from mbexp.workload.closed import ClosedLoop
from mbexp.workload.prefixes import Prefixes
from mbexp.workload.turns import Turns

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]

SERVES = {"any_bin": ANY_BIN, "one_bin": ONE_BIN, "equal_share": SHARE, "load_share": SHARE}
UNDERPREDICTION = {"extend": EXTEND, "preempt": PREEMPT, "requeue": REQUEUE}
PREFILL_MEMORY = {"held": HELD, "tested": TESTED, "first_chunk": FIRST_CHUNK}
OUTPUT_RESERVE = {"none": NO_OUTPUT, "full": FULL_OUTPUT, "ratio": OUTPUT_RATIO}
STATE_BYTES_MAX = 8e9  # of what GPUs may run at once


@dataclass(frozen=True)
class ContinuousRules:
    """How GPUs execute; names and defaults are those of `mbexp.config.execution_keys.ExecutionConfig`.

    Attributes
    ----------
    swap_token_s : float
        Time to copy the KV cache of one token between GPU and host.
    estimate_seed : int
        Of the lengths that `future_estimate=history` draws: 32 bits.
    """

    prefill: str = "first"
    token_budget: int = 512
    prefill_max_tokens: int | None = None
    kv: str = "reserve"
    block_tokens: int = 16
    preemption: str = "recompute"
    swap_token_s: float = 0.0
    underprediction: str = "extend"
    gpu_serves: str = "any_bin"
    turn_requests: int = 128
    oversized_prompt: str = "refuse"
    interval_steps: int = 32
    admission: str = "budget"
    prefill_memory: str = "held"
    hold_last_token: bool = True
    reserved_blocks: int = 0
    watermark_pct: float = 0.0
    max_model_len_tokens: int | None = None
    prefix_cache: str = "none"
    prefix_cache_blocks: int | None = None
    prefix_cache_of: str = "gpu"
    router: str = "none"
    output_reserve: str = "none"
    conservativeness: float = 1.0
    future_estimate: str = "predicted"
    future_history: int = 200
    estimate_seed: int = 0
    gives_way: str = "admitted_last"

    @property
    def in_pieces(self) -> bool:
        """Whether prompts are computed in pieces, within a budget of tokens."""
        return self.prefill != "first"

    @property
    def grows(self) -> bool:
        """Whether memory is held as it is needed, and not reserved."""
        return self.kv != "reserve"

    @property
    def unit_tokens(self) -> int:
        """Tokens in a unit of what is held: those of a block where memory is paged."""
        return self.block_tokens if self.kv == "paged" else 1

    def units(self, capacity_tokens: int) -> int:
        """Return what a GPU can hold: blocks where memory is paged, else tokens."""
        if self.kv != "paged":
            return capacity_tokens
        return capacity_tokens // self.block_tokens - self.reserved_blocks


def gpu_shares(
    serves: str,
    num_gpus: int,
    num_bins: int,
    queue_of: npt.NDArray[np.uint16],
    predicted_tokens: IntArray,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the first GPU and the number of GPUs of each share: one share a bin, or one of all GPUs."""
    if SERVES[serves] != SHARE:
        return np.zeros(1, np.int64), np.full(1, num_gpus, np.int64)
    if serves == "equal_share":
        count = np.full(num_bins, num_gpus // num_bins, np.int64)
        count[: num_gpus % num_bins] += 1
    else:
        load = np.bincount(queue_of, weights=predicted_tokens, minlength=num_bins).astype(np.float64)
        if not load.any():
            load = np.ones(num_bins)
        exact = (num_gpus - num_bins) * load / float(load.sum())
        count = np.floor(exact).astype(np.int64)
        rest = num_gpus - num_bins - int(count.sum())
        count[np.argsort(count - exact, kind="stable")[:rest]] += 1
        count += 1
    return np.concatenate(([0], np.cumsum(count)[:-1])), count


def refused_requests(
    prompt: IntArray, output: IntArray, predicted: IntArray, capacity: int, rules: ContinuousRules
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which requests are rejected, by reason in the order of `REJECTIONS`: each for the first that holds."""
    true_need = prompt.astype(np.int64) + output
    if rules.kv == "paged":
        ahead = int(not rules.hold_last_token)
        by_prediction = np.zeros(len(prompt), np.bool_)
        if rules.output_reserve == "full":
            by_prediction = -(-(prompt.astype(np.int64) + predicted - ahead) // rules.block_tokens) > rules.units(
                capacity
            )
        by_truth = (-(-(true_need - ahead) // rules.block_tokens) > rules.units(capacity)) & ~by_prediction
    else:
        by_prediction = prompt.astype(np.int64) + predicted > capacity
        by_truth = (true_need > capacity) & ~by_prediction
    longest = rules.max_model_len_tokens
    too_long = np.zeros(len(prompt), np.bool_) if longest is None else true_need > longest
    return by_prediction & ~too_long, by_truth & ~too_long, too_long


def refuse_mistakes(
    prompt: IntArray, num_bins: int, num_gpus: int, capacity: int, policy: Policy, rules: ContinuousRules
) -> None:
    """Refuse what cannot work before the run."""
    longest = rules.max_model_len_tokens
    too_long = np.flatnonzero((prompt > capacity) & (longest is None or prompt <= longest))
    if len(too_long) and rules.oversized_prompt == "refuse":
        raise UserError(
            f"execution=continuous: {len(too_long)} of {len(prompt)} prompts, the longest of {prompt.max()} tokens, "
            f"exceed the KV memory of {capacity} tokens; give gpu.memory_gb more, or leave them out with "
            "execution.oversized_prompt=reject"
        )
    if rules.prefill == "chunked" and rules.token_budget < policy.limit_max:
        raise UserError(
            f"execution.token_budget={rules.token_budget}: must be at least the {policy.limit_max} requests that may "
            "run at once (scheduler.batch_size_max or fixed_batch_size), for each decodes a token in every iteration"
        )
    if rules.in_pieces and rules.admission == "whole":
        largest = int(prompt.max(initial=0))
        if largest > rules.token_budget:
            raise UserError(
                f"execution.token_budget={rules.token_budget}: the longest prompt of {largest} tokens can never be "
                "admitted whole; give it more, or use execution.admission=budget, which computes prompts in pieces"
            )
    if SERVES[rules.gpu_serves] == SHARE and num_gpus < num_bins:
        raise UserError(
            f"execution.gpu_serves={rules.gpu_serves}: {num_bins} bins cannot share {num_gpus} GPUs; "
            "give num_gpus more, or use one_bin"
        )
    refuse_cache(rules)
    if policy.order is not None and policy.order.preempts:
        refuse_to_displace(num_bins, policy, rules)
    refuse_estimates(policy, num_gpus, rules)
    in_blocks = rules.kv == "paged"
    if not in_blocks and (rules.reserved_blocks or not rules.hold_last_token):
        name = "reserved_blocks" if rules.reserved_blocks else "hold_last_token"
        raise UserError(f"execution.{name}={getattr(rules, name)}: is a rule of blocks; use execution.kv=paged")
    by_budget = rules.in_pieces and rules.admission != "any"
    if rules.output_reserve != "none" and not in_blocks:
        raise UserError(f"execution.output_reserve={rules.output_reserve}: is a rule of blocks; use execution.kv=paged")
    if rules.output_reserve == "ratio" and not (
        rules.prefill == "alone"
        and rules.admission == "budget"
        and rules.prefill_memory == "tested"
        and rules.preemption == "recompute"
    ):
        raise UserError(
            "execution.output_reserve=ratio: needs execution.prefill=alone, execution.admission=budget, "
            "execution.prefill_memory=tested and execution.preemption=recompute, as execution=sglang has them"
        )
    if rules.output_reserve == "ratio" and policy.assignment is None:
        raise UserError(
            "execution.output_reserve=ratio: each GPU admits from a queue of its own; "
            "use execution.assignment=join_shortest in place of central"
        )
    if rules.prefill_memory != "held" and not (in_blocks and by_budget):
        raise UserError(
            f"execution.prefill_memory={rules.prefill_memory}: needs execution.kv=paged, execution.prefill=chunked or "
            "alone, and execution.admission=budget or whole; or use execution.prefill_memory=held"
        )
    if in_blocks and capacity >= rules.block_tokens and rules.units(capacity) < 1:
        raise UserError(
            f"execution.reserved_blocks={rules.reserved_blocks}: leaves nothing of the KV memory of {capacity} tokens, "
            f"{capacity // rules.block_tokens} blocks"
        )
    if rules.kv == "paged" and capacity < rules.block_tokens:
        raise UserError(
            f"execution.block_tokens={rules.block_tokens}: a block is larger than the KV memory of {capacity} tokens"
        )


def refuse_to_displace(num_bins: int, policy: Policy, rules: ContinuousRules) -> None:
    """Refuse what orders that stop who runs do not go with."""
    mistake = None
    if policy.assignment is None:
        mistake = "each GPU displaces for a queue of its own; use execution.assignment=join_shortest, not central"
    elif num_bins > 1:
        mistake = f"who is last is known of one queue, and there are {num_bins}; use scheduler.queue=fifo"
    elif rules.output_reserve == "ratio":
        mistake = "does not go with execution.output_reserve=ratio, which has a rule of its own; use none or full"
    elif rules.prefix_cache != "none":
        mistake = "does not go with a prefix cache; use execution.prefix_cache=none"
    elif rules.preemption == "restart" and policy.order is not None and policy.order.grows:
        mistake = (
            "two requests whose keys grow could stop each other for ever where they lose their tokens; use "
            "execution.preemption=recompute or swap"
        )
    if mistake:
        raise UserError(f"scheduler.preempt=true: {mistake}")


def refuse_to_wait(policy: Policy, rules: ContinuousRules, closed: bool) -> None:
    """Refuse what iterations that wait for newcomers do not go with."""
    mistake = None
    if closed:
        mistake = "waits for requests to come, and here these wait for answers; use arrivals that do not"
    elif rules.gpu_serves != "any_bin":
        mistake = f"a GPU takes from the queues of all types; use execution.gpu_serves=any_bin, not {rules.gpu_serves}"
    elif rules.output_reserve == "ratio":
        mistake = "does not go with execution.output_reserve=ratio, which has a rule of its own; use none or full"
    elif rules.prefix_cache != "none":
        mistake = "does not go with a prefix cache; use execution.prefix_cache=none"
    if mistake:
        raise UserError(f"scheduler.wait={WAITS[policy.wait]}: {mistake}")


def least_of(policy: Policy) -> int:
    """Return which load of GPUs the assignment rule looks for the least of, NOBODY for rules that do not."""
    rules = {join_shortest: GIVEN_REQUESTS, least_kv: GIVEN_KV}
    return NOBODY if policy.assignment is None else rules.get(policy.assignment.function, NOBODY)


def state_of(
    arrival_s: FloatArray,
    prompt: IntArray,
    output: IntArray,
    predicted: IntArray,
    queue_of: npt.NDArray[np.uint16],
    num_bins: int,
    num_gpus: int,
    capacity: int,
    policy: Policy,
    rules: ContinuousRules,
    token_sla_s: float,
    log_segments: int,
    count_from: int,
    law: LatencyLaw,
    closed: ClosedLoop | Turns | None = None,
    prefixes: Prefixes | None = None,
    homes: FloatArray | None = None,
) -> SimpleNamespace:
    """Return the arrays of the run, with the requests and the settings filled in."""
    n = len(arrival_s)
    grows, block_tokens = rules.grows, rules.unit_tokens
    units = rules.units(capacity)
    # No more can run at once than the smallest requests that fit.
    least = 1 if grows or not n else int((prompt + np.minimum(predicted, 1)).min())
    width = max(1, min(policy.limit_max, n, units // least))
    if num_gpus * (width + 2) * 32 > STATE_BYTES_MAX:
        raise UserError(
            f"execution=continuous: {num_gpus} GPUs with up to {width} running requests each need too much memory; "
            "lower scheduler.batch_size_max"
        )
    central = policy.assignment is None
    in_calendar = (
        central and prefixes is None and SERVES[rules.gpu_serves] == ANY_BIN and num_gpus >= layout.CALENDAR_GPUS
    )
    sets = 1 if central else num_gpus
    users = closed if isinstance(closed, ClosedLoop) else None
    causes = closed.causes() if isinstance(closed, Turns) else None
    table, more = (EXTENDED, {"num_turns": n, "num_roots": len(causes.roots)}) if causes else (LAYOUT, {})
    if prefixes:
        table, more = EXTENDED, more | cache_sizes(prefixes, rules, num_gpus, units)
    if ROUTERS[rules.router]:
        table, more = EXTENDED, more | {"router": ROUTERS[rules.router], "num_homes": 0 if homes is None else n}
    if estimates := estimate_sizes(rules, num_gpus):
        table, more = EXTENDED, more | estimates
    state = new_state(
        table.head(
            **more,
            num_requests=n,
            num_thinks=n if users else 0,
            closed=closed is not None,
            known=min(users.users, n) if users else n,
            num_gpus=num_gpus,
            num_bins=num_bins,
            num_sets=sets,
            num_slots=max(width + 2, block_tokens),
            num_phases=block_tokens,
            idle_words=len(empty_set(num_gpus)),
            calendar_size=leaves_of(num_gpus) if in_calendar else 0,
            num_nodes=2 * leaves_of(num_gpus),
            num_leaves=leaves_of(num_gpus),
            least_of=least_of(policy),
            memory_rows=sets + 1,
            memory_numbers=policy.selection.memory + num_bins,
            log_rows=log_segments,
            swap_token_s=rules.swap_token_s,
            token_sla_s=token_sla_s,
            capacity=units,
            memory_tokens=capacity,
            block_tokens=block_tokens,
            ahead_tokens=int(rules.hold_last_token),
            output_reserve=OUTPUT_RESERVE[rules.output_reserve],
            ratio_first=min(1.0, RATIO_FIRST * rules.conservativeness),
            watermark=int(rules.watermark_pct / 100 * (capacity // block_tokens)),
            token_budget=rules.token_budget,
            prefill_max_tokens=(rules.prefill == "first" and rules.prefill_max_tokens) or 0,
            turn_requests=rules.turn_requests,
            interval_steps=0 if policy.is_fixed else rules.interval_steps,
            limit_max=policy.limit_max,
            underprediction=UNDERPREDICTION[rules.underprediction],
            prefill_memory=PREFILL_MEMORY[rules.prefill_memory],
            serves=SERVES[rules.gpu_serves],
            central=central,
            chunked=rules.in_pieces,
            alone=rules.prefill == "alone",
            by_budget=rules.in_pieces and rules.admission != "any",
            whole=rules.in_pieces and rules.admission == "whole",
            paged=grows,
            swap=rules.preemption == "swap",
            count_from=count_from if count_from > 0 else -1,
            size_low=law.batch_size_range[0],
            size_high=law.batch_size_range[1],
            length_low=law.length_range_tokens[0] if law.length == "prompt_plus_output" else 0,
            length_high=law.length_range_tokens[1] if law.length == "prompt_plus_output" else 2**31,
        ),
        table,
    )
    if users:
        state.think_s[:] = users.think_s
    if causes:
        state.roots[:], state.root_s[:] = causes.roots, causes.root_s
        state.children[:], state.siblings[:] = causes.child, causes.sibling
        columns = {"prompt": prompt, "output": output, "predicted": predicted, "bin": queue_of}
        for name, column in {"think_s": causes.think_s, **columns}.items():
            state.turns[name] = column
    if prefixes:
        fill_cache(state, prefixes, rules)
    if estimates.get("num_histories"):
        begin_histories(state, int(predicted.max(initial=1)))
    if homes is not None:
        state.homes[:] = homes
    return state
