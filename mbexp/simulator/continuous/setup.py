"""What a continuous run is made of before it begins: its rules, what is refused, shares of GPUs, and its state."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError
from mbexp.hardware.law import LatencyLaw
from mbexp.policy.build import Policy
from mbexp.simulator.continuous.layout import (
    ANY_BIN,
    EXTEND,
    FIRST_CHUNK,
    FRONT_LANES,
    HELD,
    LAYOUT,
    ONE_BIN,
    PREEMPT,
    REQUEUE,
    SHARE,
    TESTED,
    new_state,
)
from mbexp.workload.closed import ClosedLoop

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]

SERVES = {"any_bin": ANY_BIN, "one_bin": ONE_BIN, "equal_share": SHARE, "load_share": SHARE}
UNDERPREDICTION = {"extend": EXTEND, "preempt": PREEMPT, "requeue": REQUEUE}
PREFILL_MEMORY = {"held": HELD, "tested": TESTED, "first_chunk": FIRST_CHUNK}
STATE_BYTES_MAX = 8e9  # of what GPUs may run at once


@dataclass(frozen=True)
class ContinuousRules:
    """How GPUs execute; names and defaults are those of `mbexp.config.execution_keys.ExecutionConfig`.

    Attributes
    ----------
    swap_token_s : float
        Time to copy the KV cache of one token between GPU and host.
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
        held = true_need if rules.hold_last_token else true_need - 1
        by_prediction = np.zeros(len(prompt), np.bool_)
        by_truth = -(-held // rules.block_tokens) > rules.units(capacity)
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
    if SERVES[rules.gpu_serves] == SHARE and num_gpus < num_bins:
        raise UserError(
            f"execution.gpu_serves={rules.gpu_serves}: {num_bins} bins cannot share {num_gpus} GPUs; "
            "give num_gpus more, or use one_bin"
        )
    in_blocks = rules.kv == "paged"
    if not in_blocks and (rules.reserved_blocks or not rules.hold_last_token):
        name = "reserved_blocks" if rules.reserved_blocks else "hold_last_token"
        raise UserError(f"execution.{name}={getattr(rules, name)}: is a rule of blocks; use execution.kv=paged")
    by_budget = rules.prefill == "chunked" and rules.admission == "budget"
    if rules.prefill_memory != "held" and not (in_blocks and by_budget):
        raise UserError(
            f"execution.prefill_memory={rules.prefill_memory}: needs execution.kv=paged, execution.prefill=chunked and "
            "execution.admission=budget; or use execution.prefill_memory=held"
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
    closed: ClosedLoop | None = None,
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
    sets = 1 if central else num_gpus
    state = new_state(
        LAYOUT.head(
            num_requests=n,
            num_thinks=n if closed else 0,
            closed=closed is not None,
            known=min(closed.users, n) if closed else n,
            num_gpus=num_gpus,
            num_bins=num_bins,
            num_sets=sets,
            num_slots=max(width + 2, block_tokens),
            num_phases=block_tokens,
            num_fronts=-(-num_gpus // FRONT_LANES) * FRONT_LANES,
            memory_rows=sets + 1,
            memory_numbers=policy.selection.memory + num_bins,
            log_rows=log_segments,
            swap_token_s=rules.swap_token_s,
            token_sla_s=token_sla_s,
            capacity=units,
            memory_tokens=capacity,
            block_tokens=block_tokens,
            ahead_tokens=int(rules.hold_last_token),
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
            many_gpus=central and num_gpus >= FRONT_LANES,
            chunked=rules.prefill == "chunked",
            by_budget=rules.prefill == "chunked" and rules.admission == "budget",
            paged=grows,
            swap=rules.preemption == "swap",
            count_from=count_from if count_from > 0 else -1,
            size_low=law.batch_size_range[0],
            size_high=law.batch_size_range[1],
            length_low=law.length_range_tokens[0] if law.length == "prompt_plus_output" else 0,
            length_high=law.length_range_tokens[1] if law.length == "prompt_plus_output" else 2**31,
        )
    )
    if closed:
        state.think_s[:] = closed.think_s
    return state
