"""How requests join and leave a GPU in the continuous event loop.

The requests that run on a GPU form a list in order of admission (`next`, `previous`), so that the youngest is at hand
for preemption. While a request decodes, nothing in its record changes: what it has emitted follows from the decode
steps that its GPU made since it joined, and is written down when it leaves.
"""

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called, inlined
from mbexp.compiled.heap import heap
from mbexp.compiled.variants import variant
from mbexp.simulator.continuous.estimates import learn_length
from mbexp.simulator.continuous.extended import PART
from mbexp.simulator.continuous.fair import change_decoding
from mbexp.simulator.continuous.layout import (
    DECODING,
    EXTEND,
    FULL_OUTPUT,
    GIVEN_KV,
    GIVEN_REQUESTS,
    IN_PREFILL,
    NOBODY,
    PREEMPT,
    TO_COMPUTE,
    TO_COPY,
    age_group_at,
    finish_s,
    given_at,
    leave_at,
    note_load,
    phase_at,
    preemptions_of,
    request_at,
)
from mbexp.simulator.continuous.memory import held_by, outgrew, phase_of
from mbexp.simulator.continuous.prefix import free, free_prefill, keep_answer
from mbexp.simulator.continuous.queue import push
from mbexp.simulator.continuous.route_tree import note_route
from mbexp.simulator.continuous.users import answered

_leave_up, _leave_down = heap(leave_at, "step", "request")


@inlined
def link(run, gpu, request):
    """Add a request to those that run on a GPU, as the one admitted last."""
    item = request_at(run, request)
    item.next = NOBODY
    item.previous = gpu.youngest
    if gpu.youngest != NOBODY:
        request_at(run, gpu.youngest).next = request
    gpu.youngest = request
    if run.output_reserve == FULL_OUTPUT:
        gpu.promised += held_by(run, item, item.predicted)
    gpu.running += 1
    run.running += 1


@inlined
def unlink(run, gpu, request):
    """Take a request off those that run on a GPU."""
    item = request_at(run, request)
    if item.previous != NOBODY:
        request_at(run, item.previous).next = item.next
    if item.next == NOBODY:
        gpu.youngest = item.previous
    else:
        request_at(run, item.next).previous = item.previous
    if run.output_reserve == FULL_OUTPUT:
        gpu.promised -= held_by(run, item, item.predicted)
    gpu.running -= 1
    run.running -= 1


@inlined
def begin_prefill(gpu, item, request, skipped):
    """Put an admitted request into prefill: none of its context is computed yet, but what it skips."""
    item.stage = IN_PREFILL
    item.computed = skipped
    gpu.computed += skipped
    gpu.prefilling += 1
    if gpu.first_prefill == NOBODY:
        gpu.first_prefill = request


@inlined
def end_prefill(gpu, item):
    """Take a request out of prefill; it still runs and holds its memory."""
    gpu.prefilling -= 1
    gpu.computed -= item.computed
    item.stage = DECODING


@inlined
def begin_decoding(run, gpu, request, age_s, order):
    """Let a running request decode from the next iteration on; it emitted its last token `age_s` ago."""
    item = request_at(run, request)
    item.stage = DECODING
    item.joined_step = gpu.step
    if order is not None and order.fair:
        change_decoding(order, gpu, request, 1)
    gpu.decoding += 1
    gpu.context += item.prompt + item.emitted
    # It leaves with its last token, or comes up for a decision when it reaches its prediction.
    steps = item.output - item.emitted
    if run.paged:
        phase_at(run, gpu.index, phase_of(run, item)).value += 1
    elif outgrew(run, item, item.emitted):
        gpu.outgrown += 1
        run.outgrown += 1
    elif item.predicted < item.output:
        steps = item.predicted - item.emitted
    push_leave(run, gpu, gpu.step + steps, request)

    # Requests of equal age have equal gaps to their next token, which are counted together. Those who begin to decode
    # at one boundary most often have one age, so that only the group opened last is asked.
    last = gpu.age_groups - 1
    if last < 0 or age_group_at(run, gpu.index, last).age_s != age_s:
        last += 1
        gpu.age_groups = last + 1
        age_group_at(run, gpu.index, last).age_s = age_s
        age_group_at(run, gpu.index, last).members = 0
    age_group_at(run, gpu.index, last).members += 1
    item.age_group = last


@inlined
def end_decoding(run, gpu, request, order):
    """Take a decoding request off a GPU: its memory and its tokens, but not its entry among the leaves."""
    item = request_at(run, request)
    emitted = item.emitted + (gpu.step - item.joined_step)
    if order is not None and order.fair:
        change_decoding(order, gpu, request, -1)
    gpu.decoding -= 1
    gpu.context -= item.prompt + emitted
    free(run, gpu, request, item, emitted)
    if run.paged:
        phase_at(run, gpu.index, phase_of(run, item)).value -= 1
    elif run.underprediction == EXTEND and outgrew(run, item, emitted):
        gpu.outgrown -= 1
    age_group = np.int64(item.age_group)
    if item.joined_step < gpu.step:
        # All who made a decode step emitted their last token with it, and are the first group since.
        age_group = 0
        item.last_token_s = gpu.last_step_s
    age_group_at(run, gpu.index, age_group).members -= 1
    item.emitted = emitted
    unlink(run, gpu, request)


@inlined
def change_load(run, gpu_index, requests, kv_tokens):
    """Add to the requests that were given to a GPU and have not finished, and to their predicted KV need."""
    given_at(run, GIVEN_REQUESTS, gpu_index).value += requests
    given_at(run, GIVEN_KV, gpu_index).value += kv_tokens
    if run.least_of != NOBODY:
        note_load(run, gpu_index, given_at(run, run.least_of, gpu_index).value)
    note_route(run, gpu_index)


@inlined
def finish(run, gpu, request, now_s):
    """Note that a request, off its GPU already, emitted its last token: its completion, and what the limit learns."""
    item = request_at(run, request)
    finish_s(run, request).value = now_s
    keep_answer(run, gpu, request)
    learn_length(run, gpu, item)
    if run.closed:
        answered(run, request, now_s)
    if not run.central:
        change_load(run, gpu.index, -1, -np.int64(item.need_tokens))
    total = float(item.prompt) + item.output
    gpu.interval_finished += 1
    gpu.interval_sum_tokens += total
    gpu.interval_squares += total * total


@called
def put_back(run, gpu, queue_set, request, order, now_s):
    """Put a request, off its GPU already, whose output outgrew its prediction back into its queue.

    Its prediction doubles, so that it is longer than what has been emitted, and not longer than the memory allows.
    """
    item = request_at(run, request)
    item.predicted = max(min(2 * item.predicted, run.memory_tokens - item.prompt), item.emitted + 1)
    run.outgrown += 1
    run.put_back += 1
    _lose_cache(run, gpu, request, True)
    push(run, queue_set, request, run.underprediction == PREEMPT, order, now_s)


@called
def preempt(run, gpu, queue_set, request, in_front, order, now_s):
    """Put a request, the one admitted last or one that decodes, back at the head of its queue, or at its tail."""
    item = request_at(run, request)
    has_cache = item.stage != IN_PREFILL
    if has_cache:
        drop_leave(run, gpu, request)
        end_decoding(run, gpu, request, order)
    else:
        free_prefill(run, gpu, request, item)
        end_prefill(gpu, item)
        # The youngest is the first in prefill only where it is the only one.
        if gpu.first_prefill == request:
            gpu.first_prefill = NOBODY
        unlink(run, gpu, request)
    _lose_cache(run, gpu, request, has_cache)
    push(run, queue_set, request, in_front, order, now_s)


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
def preempt_any(run, gpu, queue_set, request, order, now_s):
    """Put any request of a GPU back at the head of its queue: it may be neither the youngest nor decode."""
    first_prefill = np.int64(gpu.first_prefill)
    if first_prefill == request:
        first_prefill = np.int64(request_at(run, request).next)
        while first_prefill != NOBODY and request_at(run, first_prefill).stage != IN_PREFILL:
            first_prefill = np.int64(request_at(run, first_prefill).next)
    item = request_at(run, request)
    age_group = np.int64(NOBODY)
    if item.stage == DECODING:
        age_group = np.int64(0) if item.joined_step < gpu.step else np.int64(item.age_group)
    preempt(run, gpu, queue_set, request, True, order, now_s)
    if age_group != NOBODY and age_group_at(run, gpu.index, age_group).members == 0:
        _close_age_group(run, gpu, age_group)
    gpu.first_prefill = first_prefill


@called
def _begin_anew(run, item):
    """Let a request that was stopped lose its tokens, where it does; it is known to be at least as long as they were.

    Returns
    -------
    bool
        Whether it does.
    """
    if not run.restarts:
        return False
    item.predicted = max(item.predicted, item.emitted)
    run.lost_gaps += max(np.int64(item.emitted) - 1, 0)
    item.emitted = 0
    return True


@inlined
def _keep_tokens(run, item):
    """Return that a request that was stopped keeps its tokens."""
    return False


_begins_anew = variant(PART, _begin_anew, _keep_tokens)


@called
def _lose_cache(run, gpu, request, has_cache):
    """Note that a request lost its KV cache, to be computed anew, or copied in again if it is copied out now."""
    item = request_at(run, request)
    preemptions_of(run, request).value += 1
    if not _begins_anew(run, item) and has_cache and run.swap:
        item.stage = TO_COPY
        gpu.copy_tokens += item.prompt + item.emitted
    else:
        item.stage = TO_COMPUTE


@inlined
def push_leave(run, gpu, step, request):
    """Note that a request leaves its GPU, or outgrows its prediction, at a decode step of the GPU."""
    _leave_up(run, gpu.index, gpu.leaving, step, request)
    gpu.leaving += 1


@called
def drop_leave(run, gpu, request):
    """Drop the entry of a request among the leaves of its GPU; most often it is the first."""
    place = 0
    while leave_at(run, gpu.index, place).request != request:
        place += 1
    gpu.leaving -= 1
    count = gpu.leaving
    if place == count:
        return
    # The last entry takes its place, and may belong above or below.
    last = leave_at(run, gpu.index, count)
    step, moved = last.step, last.request
    if place > 0:
        above = leave_at(run, gpu.index, (place - 1) >> 1)
        if step < above.step or (step == above.step and moved < above.request):
            _leave_up(run, gpu.index, place, step, moved)
            return
    _leave_down(run, gpu.index, place, count, step, moved)
