"""Orders that stop who runs: a head takes the place of the last (docs/semantics/order.md#displacing-who-runs)."""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called
from mbexp.simulator.continuous.layout import (
    DECODING,
    HEAD,
    NOBODY,
    queue_at,
    request_at,
)
from mbexp.simulator.continuous.memory import fill_chunks, growth, prompt_budget
from mbexp.simulator.continuous.order import key_with
from mbexp.simulator.continuous.requests import preempt_any


@called
def _last_to_go(run, gpu, order, key, now_s):
    """Return the request with the largest key above a key, of those that can be displaced; NOBODY without one."""
    last, largest = NOBODY, key
    request = gpu.youngest
    while request != NOBODY:
        item = request_at(run, request)
        emitted = np.int64(item.emitted)
        if item.stage == DECODING:
            emitted += gpu.step - item.joined_step
        if emitted <= order.share * item.predicted:
            its = key_with(run, order, request, emitted, now_s)
            if its > largest or (its == largest and last != NOBODY and request > last):
                last, largest = request, its
        request = np.int64(item.previous)
    return last


@called
def displaced(run, gpu, queue_set, order, now_s):
    """Let the head of the only queue take the place of the last request of a GPU, if it may.

    Returns
    -------
    bool
        Whether there was one; it waits again then.
    """
    head = queue_at(run, queue_set, HEAD, 0).value
    if not order.preempts or head == NOBODY:
        return False
    last = _last_to_go(run, gpu, order, order.items[head]["key"] + order.margin, now_s)
    if last == NOBODY:
        return False
    preempt_any(run, gpu, queue_set, last, order, now_s)
    gpu.changed = True
    return True


@called
def left_by_others(run, gpu):
    """Return the tokens of the iteration that nobody takes, and what those who run hold more with their next."""
    left = 1
    if run.by_budget:
        left, gpu.chunks_more = fill_chunks(run, gpu, prompt_budget(run, gpu))
    return left, growth(run, gpu, 1) + gpu.chunks_more
