"""Orders that stop who runs: a head takes the place of the last (docs/semantics/order.md#displacing-who-runs)."""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called
from mbexp.simulator.continuous.layout import (
    DECODING,
    HEAD,
    IN_PREFILL,
    NOBODY,
    age_group_at,
    queue_at,
    request_at,
)
from mbexp.simulator.continuous.memory import fill_chunks, growth, prompt_budget
from mbexp.simulator.continuous.order import key_with
from mbexp.simulator.continuous.requests import preempt


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
def _close_age_group(run, gpu, empty):
    """Let the last group of equal ages stand in the place of an empty one, so that there are never more than requests.

    Between two decode steps any number of requests may be displaced.
    """
    last = gpu.age_groups - 1
    gpu.age_groups = last
    if empty == last:
        return
    moved, place = age_group_at(run, gpu.index, last), age_group_at(run, gpu.index, empty)
    place.age_s, place.members = moved.age_s, moved.members
    request = gpu.youngest
    while request != NOBODY:
        item = request_at(run, request)
        if item.stage == DECODING and item.joined_step == gpu.step and item.age_group == last:
            item.age_group = empty
        request = np.int64(item.previous)


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
    first_prefill = np.int64(gpu.first_prefill)
    if first_prefill == last:
        first_prefill = np.int64(request_at(run, last).next)
        while first_prefill != NOBODY and request_at(run, first_prefill).stage != IN_PREFILL:
            first_prefill = np.int64(request_at(run, first_prefill).next)
    item = request_at(run, last)
    age_group = np.int64(NOBODY)
    if item.stage == DECODING:
        age_group = np.int64(0) if item.joined_step < gpu.step else np.int64(item.age_group)
    preempt(run, gpu, queue_set, last, True, order, now_s)
    if age_group != NOBODY and age_group_at(run, gpu.index, age_group).members == 0:
        _close_age_group(run, gpu, age_group)
    gpu.first_prefill = first_prefill
    gpu.changed = True
    return True


@called
def left_by_others(run, gpu):
    """Return the tokens of the iteration that nobody takes, and what those who run hold more with their next."""
    left = 1
    if run.by_budget:
        left, gpu.chunks_more = fill_chunks(run, gpu, prompt_budget(run, gpu))
    return left, growth(run, gpu, 1) + gpu.chunks_more
