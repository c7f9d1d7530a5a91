"""Iterations that wait for newcomers of their types: WAIT (docs/semantics/wait.md)."""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mbexp.compiled.decorators import called
from mbexp.config.scheduler_keys import WAITS
from mbexp.simulator.continuous.events import stand
from mbexp.simulator.continuous.layout import (
    EMPTY,
    HEAD,
    NOBODY,
    NOT_READY,
    WAITING,
    age_group_at,
    gpu_at,
    queue_at,
    request_at,
)
from mbexp.simulator.continuous.plan import close_row

NO_WAIT, ANY_TYPE, EVERY_TYPE, STRICT = (WAITS.index(name) for name in ("none", "any_type", "every_type", "strict"))

# Rows of `types`: newcomers that an iteration takes of each type, and the most of it on a GPU; both 0 for a type that
# nobody belongs to. Then, of the GPU that starts: how many of the type run, and how many it may still take.
NEWCOMERS, MOST, RUNNING, OPEN = range(4)
# Rows of `pauses`, one number a GPU: since when it pauses, infinity where it does not; requests times seconds so far.
SINCE, REQUEST_S = range(2)


def types_of(
    limit: int, queue_of: npt.NDArray[np.uint16], predicted_tokens: npt.NDArray[np.int32], num_queues: int
) -> npt.NDArray[np.int64]:
    """Return how the limit on the requests of a GPU is shared out among the types, shape (4, queues).

    A type has the same share of the limit as of all predicted output tokens, which are the iterations that its requests
    take. In each iteration it has as many newcomers as keep that much under way.
    """
    types = np.zeros((4, num_queues), np.int64)
    count, tokens = np.bincount(queue_of, minlength=num_queues), np.zeros(num_queues, np.int64)
    np.add.at(tokens, queue_of, predicted_tokens)
    total = max(int(tokens.sum()), 1)
    used = count > 0
    types[NEWCOMERS, used] = np.maximum(limit * count[used] // total, 1)
    types[MOST, used] = np.maximum(limit * tokens[used] // total, 1)
    return types


def no_pauses(num_gpus: int) -> npt.NDArray[np.float64]:
    """Return the pauses of GPUs before the run."""
    pauses = np.zeros((2, num_gpus))
    pauses[SINCE] = np.inf
    return pauses


@called
def is_filled(run, order, gpu, queue_set):
    """Return whether the next iteration of a GPU may begin, and note how many newcomers of each type it may take."""
    types = order.types
    for queue in range(run.num_bins):
        types[RUNNING, queue] = 0
    request = gpu.youngest
    while request != NOBODY:
        item = request_at(run, request)
        types[RUNNING, np.int64(item.bin)] += 1
        request = np.int64(item.previous)
    some, every = False, True
    for queue in range(run.num_bins):
        due = types[NEWCOMERS, queue]
        if due == 0:
            continue
        if order.wait != STRICT:
            due = min(due, types[MOST, queue] - types[RUNNING, queue])
        types[OPEN, queue] = due
        ready = queue_at(run, queue_set, WAITING, queue).value >= due
        some, every = some or ready, every and ready
    enough = some if order.wait == ANY_TYPE else every
    return enough or gpu.running >= gpu.limit or run.joined == run.num_requests


@called
def next_type(run, order, queue_set):
    """Return the type whose head came first, of those with a head that may still be taken; NOBODY where none has."""
    found, first = NOBODY, np.int64(run.num_requests)
    for queue in range(run.num_bins):
        head = queue_at(run, queue_set, HEAD, queue).value
        if order.types[OPEN, queue] > 0 and head != NOBODY and head < first:
            found, first = queue, head
    return found


@called
def pause(run, order, gpu, now_s):
    """Let a GPU at a boundary hold its next iteration back; one without requests is empty."""
    close_row(run, gpu, now_s)
    gpu.kind = EMPTY
    if gpu.running == 0:
        gpu.copy_tokens = 0
        gpu.changed = False
        return
    gpu.changed = True  # a segment begins when it goes on
    order.pauses[SINCE, gpu.index] = min(order.pauses[SINCE, gpu.index], now_s)


@called
def go_on(run, order, gpu, now_s):
    """Count a pause that ends: those who decode are older by it, and all held their memory."""
    since_s = order.pauses[SINCE, gpu.index]
    if since_s == np.inf:
        return
    order.pauses[SINCE, gpu.index] = np.inf
    seconds = now_s - since_s
    for age_group in range(gpu.age_groups):
        age_group_at(run, gpu.index, age_group).age_s += seconds
    gpu.kv_token_s += (gpu.context + gpu.computed) * seconds
    order.pauses[REQUEST_S, gpu.index] += gpu.running * seconds


@called
def let_all_go_on(run):
    """Let every GPU without an iteration under way make a start: nothing more will come."""
    for gpu_index in range(run.num_gpus):
        gpu = gpu_at(run, gpu_index)
        if gpu.kind == EMPTY and not gpu.at_boundary:
            stand(run, gpu, NOT_READY)
