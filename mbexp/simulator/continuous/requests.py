"""How requests join and leave a GPU in the continuous event loop."""

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import inlined
from mbexp.simulator.continuous.access import (
    called,
    finish_time,
    given_kv,
    given_requests,
    group_at,
    leave_at,
    phase_at,
    preemptions_of,
    request_at,
)
from mbexp.simulator.continuous.layout import COMPUTE, COPY, EXTEND, NOBODY
from mbexp.simulator.continuous.memory import held_by, outgrew, phase_of


@inlined
def link(run, gpu, request):
    """Add a request to those that run on a GPU, as the youngest."""
    item = request_at(run, request)
    item.next = NOBODY
    item.previous = gpu.youngest
    if gpu.youngest != NOBODY:
        request_at(run, gpu.youngest).next = request
    gpu.youngest = request
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
    gpu.running -= 1
    run.running -= 1


@inlined
def begin_decoding(run, gpu, request, age_s):
    """Let a running request decode from the next iteration on; it emitted its last token `age_s` ago."""
    item = request_at(run, request)
    item.joined_step = gpu.step
    gpu.decoding += 1
    gpu.context += item.prompt + item.emitted
    steps = item.output - item.emitted
    if run.paged:
        phase_at(run, gpu, phase_of(run, item)).value += 1
    elif outgrew(run, item, item.emitted):
        gpu.outgrown += 1
        run.outgrown += 1
    elif item.predicted < item.output:
        steps = item.predicted - item.emitted
    push_leave(run, gpu, gpu.step + steps, request)

    group = gpu.groups - 1
    if group < 0 or group_at(run, gpu, group).age_s != age_s:
        group += 1
        gpu.groups = group + 1
        group_at(run, gpu, group).age_s = age_s
        group_at(run, gpu, group).members = 0
    group_at(run, gpu, group).members += 1
    item.progress = group


@inlined
def end_decoding(run, gpu, request):
    """Take a decoding request off a GPU: its memory and its place, but not its entry among those that will leave."""
    item = request_at(run, request)
    emitted = item.emitted + (gpu.step - item.joined_step)
    gpu.decoding -= 1
    gpu.context -= item.prompt + emitted
    gpu.held -= held_by(run, item, emitted)
    if run.paged:
        phase_at(run, gpu, phase_of(run, item)).value -= 1
    elif run.underprediction == EXTEND and outgrew(run, item, emitted):
        gpu.outgrown -= 1
    group = np.int64(item.progress)
    if item.joined_step < gpu.step:
        # After a step all who made it are one group.
        group = 0
        item.last_token_s = gpu.last_step_s
    group_at(run, gpu, group).members -= 1
    item.emitted = emitted
    unlink(run, gpu, request)


@inlined
def end_prefill(gpu, item):
    """Take a request out of prefill; it still runs and holds its memory."""
    gpu.prefilling -= 1
    gpu.computed -= item.progress
    item.in_prefill = False


@inlined
def finish(run, gpu, request, gpu_index, now_s):
    """Note that a request, off its GPU already, is done."""
    item = request_at(run, request)
    finish_time(run, request).value = now_s
    given_requests(run, gpu_index).value -= 1
    given_kv(run, gpu_index).value -= item.need_tokens
    total = float(item.prompt) + item.output
    gpu.interval_finished += 1
    gpu.interval_sum_tokens += total
    gpu.interval_squares += total * total
    run.finished += 1


@called
def outgrow(run, item):
    """Give a request whose output outgrew its prediction a larger one."""
    item.predicted = max(min(2 * item.predicted, run.memory_tokens - item.prompt), item.emitted + 1)
    run.outgrown += 1


@called
def lose_cache(run, gpu, request, has_cache):
    """Note that a request, off its GPU before its end, must get its KV cache back."""
    item = request_at(run, request)
    preemptions_of(run, request).value += 1
    run.preemptions += 1
    if has_cache and run.swap:
        item.needs = COPY
        gpu.copy_tokens += item.prompt + item.emitted
    else:
        item.needs = COMPUTE


@called
def take_off_youngest(run, gpu):
    """Preempt the request admitted last, and return it."""
    request = gpu.youngest
    item = request_at(run, request)
    has_cache = not item.in_prefill
    if has_cache:
        drop_leave(run, gpu, request)
        end_decoding(run, gpu, request)
    else:
        # The token that the prefill would have emitted is held as well.
        gpu.held -= held_by(run, item, item.emitted + 1)
        end_prefill(gpu, item)
        if gpu.first_prefill == request:
            gpu.first_prefill = NOBODY
        unlink(run, gpu, request)
    lose_cache(run, gpu, request, has_cache)
    return request


@inlined
def push_leave(run, gpu, step, request):
    """Note that a request leaves, or outgrows its prediction, after so many decode steps of its GPU."""
    _leave_up(run, gpu, gpu.leaving, step, request)
    gpu.leaving += 1


@called
def drop_leave(run, gpu, request):
    """Drop the entry of a request."""
    place = 0
    while leave_at(run, gpu, place).request != request:
        place += 1
    gpu.leaving -= 1
    count = gpu.leaving
    if place == count:
        return
    step, moved = leave_at(run, gpu, count).step, leave_at(run, gpu, count).request
    if place > 0:
        above = leave_at(run, gpu, (place - 1) >> 1)
        if step < above.step or (step == above.step and moved < above.request):
            _leave_up(run, gpu, place, step, moved)
            return
    child = 2 * place + 1
    while child < count:
        right = child + 1
        if right < count and (
            leave_at(run, gpu, right).step < leave_at(run, gpu, child).step
            or (
                leave_at(run, gpu, right).step == leave_at(run, gpu, child).step
                and leave_at(run, gpu, right).request < leave_at(run, gpu, child).request
            )
        ):
            child = right
        below = leave_at(run, gpu, child)
        if step < below.step or (step == below.step and moved < below.request):
            break
        leave_at(run, gpu, place).step, leave_at(run, gpu, place).request = below.step, below.request
        place = child
        child = 2 * place + 1
    leave_at(run, gpu, place).step, leave_at(run, gpu, place).request = step, moved


@inlined
def _leave_up(run, gpu, place, step, request):
    while place > 0:
        parent = (place - 1) >> 1
        above = leave_at(run, gpu, parent)
        if above.step < step or (above.step == step and above.request < request):
            break
        leave_at(run, gpu, place).step, leave_at(run, gpu, place).request = above.step, above.request
        place = parent
    leave_at(run, gpu, place).step, leave_at(run, gpu, place).request = step, request
