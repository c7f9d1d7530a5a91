"""What the event loop of run-to-completion batching works on: requests, queues, GPUs and one record a batch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import from_dtype, types

from mbexp.compiled.index_set import empty_set

# One record a batch: what happened and cannot be recomputed. Its members are the requests at places
# [first, first + size) of the requests sorted by queue.
BATCH_DTYPE = np.dtype(
    [
        ("start_s", np.float64),
        ("finish_s", np.float64),
        ("first_token_s", np.float64),
        ("step_s", np.float64),
        ("controller_low", np.float32),
        ("controller_high", np.float32),
        ("first", np.int32),
        ("size", np.int32),
        ("limit", np.int32),
        ("gpu", np.int32),
        ("b_mem", np.int32),
        ("b_sla", np.int32),
        ("queue", np.int32),
    ],
    align=True,
)


class Requests(NamedTuple):
    """The accepted requests.

    `arrival_s` and `queue_of` are in trace order. The others are sorted by queue, then by trace order; queue q has the
    places from `queue_start[q]` to `queue_start[q + 1]`, and `trace_index` is a request's place in the trace order.
    """

    arrival_s: npt.NDArray[np.float64]
    queue_of: npt.NDArray[np.uint16]
    queue_start: npt.NDArray[np.int64]
    trace_index: npt.NDArray[np.int32]
    prompt_tokens: npt.NDArray[np.int32]
    output_tokens: npt.NDArray[np.int32]
    predicted_tokens: npt.NDArray[np.int32]  # may be the very array of the outputs


class QueueState(NamedTuple):
    """One entry a queue; the first six are what selection rules see (`mbexp.policy.views.Queues`)."""

    ready: npt.NDArray[np.int64]
    waiting: npt.NDArray[np.int64]
    limit: npt.NDArray[np.int64]
    head_arrival_s: npt.NDArray[np.float64]
    head_index: npt.NDArray[np.int64]
    formed_s: npt.NDArray[np.float64]
    head: npt.NDArray[np.uint32]
    is_ready: npt.NDArray[np.bool_]


class Gpus(NamedTuple):
    """Busy GPUs are a heap, idle ones a set; the rest has one entry a GPU, on the batch that it runs."""

    busy_until_s: npt.NDArray[np.float64]
    busy_gpu: npt.NDArray[np.uint32]
    idle: npt.NDArray[np.int64]
    batch: npt.NDArray[np.uint32]
    tokens: npt.NDArray[np.float64]
    tokens_squared: npt.NDArray[np.float64]


def new_queues(queue_start: npt.NDArray[np.int64], num_requests: int) -> QueueState:
    """Return queues before the first arrival."""
    count = len(queue_start) - 1
    return QueueState(
        ready=np.zeros(count, np.int64),
        waiting=np.zeros(count, np.int64),
        limit=np.zeros(count, np.int64),
        head_arrival_s=np.full(count, np.inf),
        head_index=np.full(count, num_requests),
        formed_s=np.full(count, np.inf),
        head=queue_start[:-1].astype(np.uint32),
        is_ready=np.zeros(count, np.bool_),
    )


def new_gpus(count: int) -> Gpus:
    """Return `count` GPUs, none in the set of the idle ones yet."""
    return Gpus(
        busy_until_s=np.full(count + 1, np.inf),
        busy_gpu=np.zeros(count + 1, np.uint32),
        idle=empty_set(count),
        batch=np.zeros(count, np.uint32),
        tokens=np.zeros(count),
        tokens_squared=np.zeros(count),
    )


def _array(dtype: types.Type) -> types.Array:
    return types.Array(dtype, 1, "C")


_f8, _i8, _i4, _u4 = (_array(dtype) for dtype in (types.float64, types.int64, types.int32, types.uint32))
BATCHES_TYPE = _array(from_dtype(BATCH_DTYPE))
REQUESTS_TYPE = types.NamedTuple((_f8, _array(types.uint16), _i8, _i4, _i4, _i4, _i4), Requests)
QUEUES_TYPE = types.NamedTuple((_i8, _i8, _i8, _f8, _i8, _f8, _u4, _array(types.boolean)), QueueState)
GPUS_TYPE = types.NamedTuple((_f8, _u4, _i8, _u4, _f8, _f8), Gpus)
