"""What a rule sees: named views of the state of the event loop, the same in every mode of execution."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class Queues(NamedTuple):
    """The queues, for a bin-selection rule.

    Attributes
    ----------
    ready : int64 array
        ``ready[:ready_count]`` are the queues that may be served now, ascending.
    ready_count : int
        At least 1.
    waiting, limit : int64 arrays, shape (queues,)
        Requests that wait, and the most that the next batch may hold.
    head_arrival_s : float64 array, shape (queues,)
        Arrival of the head.
    head_index : int64 array, shape (queues,)
        Place of the head among the accepted requests of the trace.
    formed_s : float64 array, shape (queues,)
        Instant at which the next batch was formed; under continuous batching the arrival of the head.
    """

    ready: IntArray
    ready_count: int
    waiting: IntArray
    limit: IntArray
    head_arrival_s: FloatArray
    head_index: IntArray
    formed_s: FloatArray


class Queue(NamedTuple):
    """One queue in which somebody waits, for a fill rule.

    Attributes
    ----------
    waiting, limit : int
        Requests that wait, and the most that the next batch may hold.
    head_arrival_s : float
        Arrival of the head.
    filling_arrival_s : float
        Arrival of the request that makes the batch full; infinity while it is not.
    """

    waiting: int
    limit: int
    head_arrival_s: float
    filling_arrival_s: float


class Interval(NamedTuple):
    """What happened since the limit was last worked out, for a batch-limit rule.

    Where batches run to completion, the owner of the limit is a queue and an interval is one completed batch of it.
    Under continuous batching, the owner is a GPU and an interval is ``execution.interval_steps`` of its decode steps.

    Attributes
    ----------
    is_first : bool
        The call before the run: nothing was observed, and all else is 0.
    running : int
        Requests that the owner runs now, which a limit cannot take back; 0 where batches run to completion.
    waiting : int
        Requests that wait for the owner, and those in prefill on it.
    finished : int
        Requests that finished.
    sum_tokens, sum_tokens_squared : float
        Sum of their prompt + output tokens, and of its square.
    gap_mean_s : float
        Mean time between tokens.
    decoding_mean : float
        Mean number of requests that decoded together.
    in_prefill : int
        Of those `waiting`, the requests in prefill; 0 where batches run to completion.
    kv_held, kv_capacity : float
        KV memory that the requests of the owner hold now, and all that it has: in blocks where memory is paged, else in
        tokens; 0 where batches run to completion.
    """

    is_first: bool
    running: int
    waiting: int
    finished: int
    sum_tokens: float
    sum_tokens_squared: float
    gap_mean_s: float
    decoding_mean: float
    in_prefill: int
    kv_held: float
    kv_capacity: float


class Bounds(NamedTuple):
    """What a batch-limit rule must keep to; the same at every call.

    Attributes
    ----------
    size_min, size_max : float
        ``scheduler.batch_size_min`` and ``scheduler.batch_size_max``, whole.
    kv_capacity_tokens : float
        KV memory of a GPU, whole.
    token_sla_s : float
        Longest time between tokens.
    """

    size_min: float
    size_max: float
    kv_capacity_tokens: float
    token_sla_s: float


class Gpus(NamedTuple):
    """The GPUs that an arrival may be given to, for an assignment rule.

    Attributes
    ----------
    first, end : int
        They are ``range(first, end)``.
    share : int
        Their number among the shares of GPUs; 0 where all GPUs serve all bins.
    requests : int64 array, one entry a GPU
        Requests that were given to it and have not finished.
    kv_tokens : int64 array, one entry a GPU
        Sum of the prompt + predicted output of these.
    """

    first: int
    end: int
    share: int
    requests: IntArray
    kv_tokens: IntArray


class Arrival(NamedTuple):
    """The request that arrives, for an assignment rule.

    Attributes
    ----------
    need_tokens : int
        Its prompt + predicted output.
    draw_1, draw_2 : float
        Uniform random numbers of its own in [0, 1).
    """

    need_tokens: int
    draw_1: float
    draw_2: float


class Waiting(NamedTuple):
    """A request that waits in a queue, for an order rule.

    Attributes
    ----------
    place : int
        Its place among the accepted requests of the trace.
    arrival_s : float
        Its arrival.
    prompt_tokens, predicted_tokens : int
        Its prompt, and its predicted output.
    emitted_tokens : int
        What it has emitted, before it lost its place; else 0.
    size : float
        What ``scheduler.order_by`` names: its prompt, predicted output, both in tokens, or its service in seconds.
    service_s : float
        Time that it would take alone on a GPU, as predicted.
    limit_s : float
        Longest time that it may take: to its first token where ``sla.ttft_s`` is set, else to its last.
    priority : float
        That of its class, 0 where there are no classes; lower goes first.
    of_class : int
        Its class, by place; 0 where there are no classes.
    class_service : float
        What its class was served so far, over the weight of the class, in tokens of prompt: an output token counts
        twice. Under continuous batching; else 0.
    """

    place: int
    arrival_s: float
    prompt_tokens: int
    predicted_tokens: int
    emitted_tokens: int
    size: float
    service_s: float
    limit_s: float
    priority: float
    of_class: int
    class_service: float


_float, _int = types.float64, types.int64
_floats, _ints = types.Array(_float, 1, "C"), types.Array(_int, 1, "C")

QUEUES_TYPE = types.NamedTuple((_ints, _int, _ints, _ints, _floats, _ints, _floats), Queues)
QUEUE_TYPE = types.NamedTuple((_int, _int, _float, _float), Queue)
INTERVAL_TYPE = types.NamedTuple((types.boolean, *[_int] * 3, *[_float] * 4, _int, _float, _float), Interval)
BOUNDS_TYPE = types.NamedUniTuple(_float, 4, Bounds)
GPUS_TYPE = types.NamedTuple((_int, _int, _int, _ints, _ints), Gpus)
ARRIVAL_TYPE = types.NamedTuple((_int, _float, _float), Arrival)
WAITING_TYPE = types.NamedTuple((_int, _float, _int, _int, _int, *[_float] * 4, _int, _float), Waiting)

BEFORE_THE_RUN = Interval(True, 0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0, 0.0, 0.0)
