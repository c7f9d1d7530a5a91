"""The event loop and what it leaves behind; it knows arrays, a policy and a law, and nothing of files or configs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError
from mbexp.hardware.law import LatencyLaw
from mbexp.policy import Policy
from mbexp.simulator import batch_loop as loop
from mbexp.simulator.records import REJECTIONS, Records

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
) -> Records:
    """Serve every request that fits, batch by batch; the rules are those of docs/semantics.md.

    Parameters
    ----------
    arrival_s : float64 array, shape (n,), non-decreasing
    prompt_tokens, output_tokens, predicted_tokens : int32 arrays, shape (n,)
    queue_of : uint16 array, shape (n,)
        Queue of each request, below `num_queues`.
    noise : float64 array, shape (>= n,), optional
        Factor on the time of the j-th batch.

    Raises
    ------
    UserError
        If a policy returns a queue that is not ready or a limit below 1, or a law a time that is not finite.
    """
    predicted_need = prompt_tokens.astype(np.int64) + predicted_tokens
    true_need = prompt_tokens.astype(np.int64) + output_tokens
    reasons = (predicted_need > kv_capacity_tokens, true_need > kv_capacity_tokens)
    rejected = {REJECTIONS[0]: reasons[0], REJECTIONS[1]: reasons[1] & ~reasons[0]}
    refused = reasons[0] | reasons[1]
    accepted = None
    if refused.any():
        accepted = np.flatnonzero(~refused).astype(np.int32)
        arrival_s, queue_of = arrival_s[accepted], queue_of[accepted]
        prompt_tokens, output_tokens = prompt_tokens[accepted], output_tokens[accepted]
        predicted_tokens, predicted_need = predicted_tokens[accepted], predicted_need[accepted]

    n = len(arrival_s)
    need = predicted_need.astype(np.int32)
    if num_queues == 1:
        index = np.arange(n, dtype=np.int32)
        columns = arrival_s, need, prompt_tokens, output_tokens
        starts = np.array([0, n])
    else:
        index = np.argsort(queue_of, kind="stable").astype(np.int32)
        columns = arrival_s[index], need[index], prompt_tokens[index], output_tokens[index]
        starts = np.concatenate(([0], np.cumsum(np.bincount(queue_of, minlength=num_queues))))

    batches = np.empty(n, loop.BATCH_DTYPE)
    count, status = loop.run(
        arrival_s, queue_of, starts, index, *columns,
        num_gpus, kv_capacity_tokens, law.function, law.parameters, np.empty(0) if noise is None else noise,
        policy.batch_size, policy.batch_size_parameters, policy.state(num_queues),
        policy.select, policy.memory(num_queues), policy.fill, policy.fill_parameters,
        batches,
    )  # fmt: skip
    _raise_if_bad(status, count)
    return Records(
        arrival_s=arrival_s,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        predicted_tokens=predicted_tokens,
        accepted=accepted,
        queue_of=queue_of,
        index=index,
        batches=batches[:count],
        num_gpus=num_gpus,
        kv_capacity_tokens=kv_capacity_tokens,
        rejected={reason: np.flatnonzero(mask).astype(np.int32) for reason, mask in rejected.items() if mask.any()},
    )


def _raise_if_bad(status: int, count: int) -> None:
    if status == loop.BAD_SELECTION:
        raise UserError(f"scheduler.selection: the rule named a queue that is not ready (batch {count})")
    if status == loop.BAD_LIMIT:
        raise UserError(f"scheduler.batch_size: the rule returned a limit below 1 (after batch {count})")
    if status == loop.BAD_TIME:
        raise UserError(f"gpu.law: the law gave a negative or infinite time (batch {count})")
