"""What happens on a GPU at the end of an iteration (docs/semantics/iterations.md)."""

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import inlined
from mbexp.simulator.continuous.calendar import take_out_of_bucket
from mbexp.simulator.continuous.layout import (
    DECODE,
    EXTEND,
    HELD,
    IN_PREFILL,
    NOBODY,
    PREFILL,
    first_token_s,
    gpu_at,
    leave_at,
    request_at,
)
from mbexp.simulator.continuous.memory import fill_chunks, growth, outgrew
from mbexp.simulator.continuous.prefix import free, make_way, prompt_computed
from mbexp.simulator.continuous.requests import (
    begin_decoding,
    drop_leave,
    end_decoding,
    end_prefill,
    finish,
    push_leave,
    put_back,
    unlink,
)
from mbexp.simulator.continuous.segment import account
from mbexp.simulator.continuous.tokens import add_gap


@inlined
def end(run, gpu_index, now_s, order):
    """Bring a GPU to its planned boundary: tokens are emitted, prefills end, requests leave or are put back.

    Returns
    -------
    bool
        Whether a request went back to a queue.
    """
    gpu = gpu_at(run, gpu_index)
    queue_set = 0 if run.central else gpu_index
    held_before = gpu.held
    put_back_before = run.put_back
    number = gpu.planned - gpu.done
    if gpu.kind != PREFILL and gpu.decoding > 0:
        gpu.held += growth(run, gpu, number)
    if run.prefill_memory != HELD:
        if gpu.kind != DECODE:
            gpu.held += fill_chunks(run, gpu, gpu.chunk_tokens * number)[1]
        gpu.held_max = max(gpu.held_max, gpu.held)
    elif gpu.kind != PREFILL and gpu.decoding > 0:
        gpu.held_max = max(gpu.held_max, gpu.held)
    make_way(run, gpu)
    account(run, gpu, now_s)
    if gpu.kind != DECODE:
        _advance_prefills(run, gpu, queue_set, gpu.chunk_tokens * number, now_s, order)
    _let_leave(run, gpu, queue_set, now_s, order)
    run.held += gpu.held - held_before
    # Until it starts again, it admits by itself.
    gpu.room = NOBODY
    if run.calendar_size > 0:
        take_out_of_bucket(run, gpu_index)
    return run.put_back > put_back_before


@inlined
def _advance_prefills(run, gpu, queue_set, tokens, now_s, order):
    """Compute so many tokens of the requests in prefill, in order of admission; where a prefill ends, emit a token."""
    left = tokens
    gpu.prefill_tokens += left
    request = gpu.first_prefill
    while left > 0:
        item = request_at(run, request)
        follower = item.next  # it may leave below
        if item.stage == IN_PREFILL:
            length = item.prompt + item.emitted
            chunk = min(left, length - item.computed)
            left -= chunk
            item.computed += chunk
            gpu.computed += chunk
            if item.computed < length:
                break
            gpu.changed = True
            end_prefill(gpu, item)
            prompt_computed(run, gpu, request)
            _emit_after_prefill(run, gpu, queue_set, request, now_s, order)
        request = np.int64(follower)
    # All before `request` are through; the next prefill is its own or behind it.
    if gpu.prefilling == 0:
        request = NOBODY
    else:
        while request_at(run, request).stage != IN_PREFILL:
            request = np.int64(request_at(run, request).next)
    gpu.first_prefill = request


@inlined
def _emit_after_prefill(run, gpu, queue_set, request, now_s, order):
    """Emit the token at the end of a prefill; the request leaves if it is done, else is put back or decodes."""
    item = request_at(run, request)
    item.emitted += 1
    if item.emitted == 1:
        first_token_s(run, request).value = now_s
    else:
        add_gap(now_s - item.last_token_s, 1, run)
    item.last_token_s = now_s
    done = item.emitted == item.output
    if done or (outgrew(run, item, item.emitted) and run.underprediction != EXTEND):
        free(run, gpu, request, item, item.emitted)
        unlink(run, gpu, request)
        if done:
            gpu.closed = False
            finish(run, gpu, request, now_s)
        else:
            put_back(run, gpu, queue_set, request, order, now_s)
    else:
        begin_decoding(run, gpu, request, 0.0, order)


@inlined
def _let_leave(run, gpu, queue_set, now_s, order):
    """Let the requests that were decoding, in trace order, leave if done, or be put back or extended if outgrown."""
    while gpu.leaving > 0 and leave_at(run, gpu.index, 0).step == gpu.step:
        gpu.changed = True
        request = leave_at(run, gpu.index, 0).request
        item = request_at(run, request)
        drop_leave(run, gpu, request)
        emitted = item.emitted + (gpu.step - item.joined_step)
        if emitted < item.output and run.underprediction == EXTEND:
            # It goes on, holds one token more with every token, and leaves with its last one.
            gpu.outgrown += 1
            run.outgrown += 1
            push_leave(run, gpu, gpu.step + item.output - emitted, request)
        else:
            end_decoding(run, gpu, request, order)
            if emitted == item.output:
                gpu.gone += 1
                finish(run, gpu, request, now_s)
            else:
                put_back(run, gpu, queue_set, request, order, now_s)
