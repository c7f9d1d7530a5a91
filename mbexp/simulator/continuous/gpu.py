"""What a GPU does at the end of an iteration, and before the next one (docs/semantics/iterations.md)."""

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import inlined
from mbexp.policy.views import Interval
from mbexp.simulator.continuous.access import (
    called,
    first_token_time,
    gpu_at,
    gpu_of,
    leave_at,
    queue_cell,
    request_at,
    set_at,
    start_time,
)
from mbexp.simulator.continuous.fronts import set_front
from mbexp.simulator.continuous.layout import (
    BAD_LIMIT,
    BAD_SELECTION,
    COPY,
    DECODE,
    EMPTY,
    EXTEND,
    HEAD,
    LONG_PAST_S,
    NOBODY,
    ONE_BIN,
    PREEMPT,
    PREFILL,
    SHARE,
    WAITING,
)
from mbexp.simulator.continuous.memory import growth, held_by, outgrew
from mbexp.simulator.continuous.plan import close_row, plan
from mbexp.simulator.continuous.queue import named_queue, pop_head, push, restore_memory
from mbexp.simulator.continuous.requests import (
    begin_decoding,
    drop_leave,
    end_decoding,
    end_prefill,
    finish,
    link,
    lose_cache,
    outgrow,
    push_leave,
    take_off_youngest,
    unlink,
)
from mbexp.simulator.continuous.segment import account, boundary_s
from mbexp.simulator.continuous.tokens import add_gap


@called
def put_back(run, gpu, group, request):
    """Return a request, off its GPU already, whose output outgrew its prediction to its queue."""
    item = request_at(run, request)
    outgrow(run, item)
    run.put_back += 1
    lose_cache(run, gpu, request, True)
    push(run, group, request, run.underprediction == PREEMPT)


@inlined
def end(run, gpu_index, now_s):
    """Bring a GPU to its planned boundary: tokens are emitted, prefills end, requests leave.

    Returns
    -------
    bool
        Whether a request went back to a queue.
    """
    gpu = gpu_at(run, gpu_index)
    group = 0 if run.central else gpu_index
    held_before = gpu.held
    put_back_before = run.put_back
    number = gpu.planned - gpu.done
    if gpu.kind != PREFILL and gpu.decoding > 0:
        gpu.held += growth(run, gpu, number)
        gpu.held_max = max(gpu.held_max, gpu.held)
    account(run, gpu, now_s)

    # Prompts, in order of admission; those that end emit a token.
    if gpu.kind != DECODE:
        left = gpu.chunk_tokens * number
        gpu.prefill_tokens += left
        request = gpu.first_prefill
        while left > 0:
            item = request_at(run, request)
            follower = item.next
            if item.in_prefill:
                length = item.prompt + item.emitted
                tokens = min(left, length - item.progress)
                left -= tokens
                item.progress += tokens
                gpu.computed += tokens
                if item.progress < length:
                    break
                gpu.changed = True
                end_prefill(gpu, item)
                item.emitted += 1
                if item.emitted == 1:
                    first_token_time(run, request).value = now_s
                else:
                    add_gap(now_s - item.last_token_s, 1, run)
                item.last_token_s = now_s
                done = item.emitted == item.output
                if done or (outgrew(run, item, item.emitted) and run.underprediction != EXTEND):
                    gpu.held -= held_by(run, item, item.emitted)
                    unlink(run, gpu, request)
                    if done:
                        finish(run, gpu, request, gpu_index, now_s)
                    else:
                        put_back(run, gpu, group, request)
                else:
                    begin_decoding(run, gpu, request, 0.0)
            request = np.int64(follower)
        if gpu.prefilling == 0:
            request = NOBODY
        else:
            while not request_at(run, request).in_prefill:
                request = np.int64(request_at(run, request).next)
        gpu.first_prefill = request

    # Decoding requests, in trace order.
    while gpu.leaving > 0 and leave_at(run, gpu, 0).step == gpu.step:
        gpu.changed = True
        leaver = leave_at(run, gpu, 0).request
        item = request_at(run, leaver)
        drop_leave(run, gpu, leaver)
        emitted = item.emitted + (gpu.step - item.joined_step)
        if emitted < item.output and run.underprediction == EXTEND:
            gpu.outgrown += 1
            run.outgrown += 1
            push_leave(run, gpu, gpu.step + item.output - emitted, leaver)
        else:
            end_decoding(run, gpu, leaver)
            if emitted == item.output:
                finish(run, gpu, leaver, gpu_index, now_s)
            else:
                put_back(run, gpu, group, leaver)
    run.held += gpu.held - held_before
    # Until it starts again, it admits by itself.
    gpu.room = NOBODY
    return run.put_back > put_back_before


@inlined
def may_take_own(run, gpu, group):
    """Return whether a GPU that is bound to a bin may take from it: someone waits there, and its turn is not over."""
    waiting = queue_cell(run, group, WAITING, gpu.bin).value
    over = gpu.turn >= run.turn_requests and set_at(run, group).waiting > waiting
    return waiting > 0 and (run.serves == SHARE or not over)


@inlined
def start(
    run, gpu_index, now_s, queues, heads_s, memory, select, select_parameters, iteration, iteration_parameters,
    limit_rule, limit_parameters, bounds, limit_state,
):  # fmt: skip
    """Update the limit, make room, admit, and plan the next iterations.

    Returns
    -------
    bool
        Whether the queues or the chances of other GPUs changed.
    """
    gpu = gpu_at(run, gpu_index)
    group = 0 if run.central else gpu_index
    concerns_others = gpu.candidate
    gpu.candidate = False
    bound = run.serves == SHARE or (run.serves == ONE_BIN and gpu.running > 0)

    if run.interval_steps > 0 and gpu.step >= gpu.next_update:
        waiting = queue_cell(run, group, WAITING, gpu.bin).value if bound else set_at(run, group).waiting
        interval = Interval(
            False, gpu.running, waiting + gpu.prefilling, gpu.interval_finished, gpu.interval_sum_tokens,
            gpu.interval_squares, gpu.interval_gap_s / gpu.interval_tokens, gpu.interval_tokens / run.interval_steps,
        )  # fmt: skip
        gpu.limit = limit_rule(interval, bounds, limit_state[gpu_index], limit_parameters)
        if gpu.limit < 1:
            run.status = BAD_LIMIT
        gpu.next_update = gpu.step + run.interval_steps
        gpu.interval_finished = 0
        gpu.interval_sum_tokens = 0.0
        gpu.interval_squares = 0.0
        gpu.interval_tokens = 0
        gpu.interval_gap_s = 0.0

    held_before = gpu.held
    preempted = False
    more = growth(run, gpu, 1)
    while gpu.held + more > run.capacity:
        victim = take_off_youngest(run, gpu)
        push(run, group, victim, True)
        more = growth(run, gpu, 1)
        preempted = True

    # Requests admitted to a prefill: tokens, sum of squares, number.
    tokens, squares, prompts = 0, 0.0, 0
    admitted = False
    while not preempted and gpu.running < gpu.limit:
        bound = run.serves == SHARE or (run.serves == ONE_BIN and gpu.running > 0)
        if bound:
            if not may_take_own(run, gpu, group):
                break
            queue = gpu.bin
        else:
            if set_at(run, group).ready_count == 0:
                break
            queue = 0
            if run.num_bins > 1:
                queue = named_queue(run, queues, heads_s, memory, group, now_s, select, select_parameters, True)
                if queue == NOBODY:
                    run.status = BAD_SELECTION
                    break
        request = queue_cell(run, group, HEAD, queue).value
        item = request_at(run, request)
        length = item.prompt + item.emitted
        fits = gpu.held + more + held_by(run, item, item.emitted + 1) <= run.capacity
        if run.prefill_max_tokens > 0 and prompts > 0 and item.needs != COPY:
            fits = fits and tokens + length <= run.prefill_max_tokens
        if not fits:
            if not bound and run.num_bins > 1:
                restore_memory(memory, group)
            break
        pop_head(run, group, queue)
        admitted = True
        if gpu.running == 0:
            gpu.bin = queue
            gpu.turn = 0
        gpu.turn += 1
        link(run, gpu, request)
        gpu_of(run, request).value = gpu_index
        if not item.started:
            item.started = True
            start_time(run, request).value = now_s
        if item.needs == COPY:
            gpu.copy_tokens += length
            gpu.held += held_by(run, item, item.emitted)
            begin_decoding(run, gpu, request, now_s - item.last_token_s)
            more = growth(run, gpu, 1)
        else:
            gpu.held += held_by(run, item, item.emitted + 1)
            item.in_prefill = True
            item.progress = 0
            gpu.prefilling += 1
            if gpu.first_prefill == NOBODY:
                gpu.first_prefill = request
            tokens += length
            squares += float(length) * length
            prompts += 1
    run.held += gpu.held - held_before
    gpu.held_max = max(gpu.held_max, gpu.held)
    gpu.running_max = max(gpu.running_max, gpu.running)
    gpu.room = run.capacity - gpu.held - more if gpu.running < gpu.limit else NOBODY
    if run.serves == ONE_BIN:
        gpu.taken_bin = gpu.bin if gpu.running > 0 else NOBODY

    if gpu.changed or admitted or preempted or gpu.done == gpu.iterations:
        close_row(run, gpu, now_s)
        if gpu.running == 0:
            gpu.kind = EMPTY
            gpu.copy_tokens = 0
        else:
            plan(run, gpu, gpu_index, now_s, tokens, squares, prompts, preempted, iteration, iteration_parameters)
        gpu.changed = False
    gpu.planned = gpu.iterations
    gpu.boundary = gpu.done + 1.0
    gpu.boundary_s = LONG_PAST_S if gpu.kind == EMPTY else boundary_s(gpu, gpu.boundary)
    if run.many_gpus:
        set_front(run, gpu, gpu_index)
    return concerns_others or admitted or preempted
