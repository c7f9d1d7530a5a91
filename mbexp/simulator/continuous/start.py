"""What a GPU does at a boundary before its next iteration: a start (docs/semantics/iterations.md)."""

from __future__ import annotations

from mbexp.compiled.decorators import inlined
from mbexp.policy.views import Interval
from mbexp.simulator.continuous.fronts import set_front
from mbexp.simulator.continuous.future import fits_at_its_peak
from mbexp.simulator.continuous.layout import (
    BAD_LIMIT,
    BAD_SELECTION,
    CHUNK,
    EMPTY,
    FIRST_CHUNK,
    HEAD,
    HELD,
    LONG_PAST_S,
    NOBODY,
    ONE_BIN,
    SHARE,
    TO_COPY,
    WAITING,
    gpu_at,
    gpu_of,
    queue_at,
    queue_set_at,
    request_at,
    start_s,
)
from mbexp.simulator.continuous.memory import fill_chunks, growth, held_by, held_in_prefill
from mbexp.simulator.continuous.order import look_at_heads, stops_at_every_boundary
from mbexp.simulator.continuous.plan import close_row, plan
from mbexp.simulator.continuous.queue import may_take_own, named_queue, pop_head, restore_memory
from mbexp.simulator.continuous.requests import (
    begin_decoding,
    begin_prefill,
    link,
    preempt_youngest,
)
from mbexp.simulator.continuous.segment import boundary_s


@inlined
def start(
    run, gpu_index, now_s, queues, heads_s, memory, select, select_parameters, iteration, iteration_parameters,
    limit_rule, limit_parameters, bounds, limit_state, order,
):  # fmt: skip
    """Start a GPU that stands at a boundary: its limit, room for the next step, admission, the next iteration.

    Returns
    -------
    bool
        Whether the queues or the chances of other GPUs changed.
    """
    gpu = gpu_at(run, gpu_index)
    queue_set = 0 if run.central else gpu_index
    concerns_others = gpu.candidate
    gpu.candidate = False
    held_before = gpu.held

    if run.interval_steps > 0 and gpu.step >= gpu.next_update:
        _update_limit(run, gpu, queue_set, limit_rule, limit_parameters, bounds, limit_state[gpu_index])
    preempted, more = _make_room(run, gpu, queue_set, order, now_s)
    admitted, tokens, squares, prompts = False, 0, 0.0, 0
    if not preempted:
        admitted, more, tokens, squares, prompts = _admit(
            run, gpu, queue_set, more, now_s, queues, heads_s, memory, select, select_parameters, order
        )
    _note_held(run, gpu, held_before, more)
    if order is not None and order.future and gpu.running < gpu.limit:
        gpu.room = run.capacity - gpu.held  # whoever fits is found at each boundary
    if gpu.changed or admitted or preempted or gpu.done == gpu.iterations:
        close_row(run, gpu, now_s)
        if gpu.running == 0:
            gpu.kind = EMPTY
            gpu.copy_tokens = 0
        else:
            plan(run, gpu, now_s, tokens, squares, prompts, preempted, iteration, iteration_parameters)
        gpu.changed = False
    if run.by_budget and gpu.kind == CHUNK:
        gpu.room = NOBODY  # the chunks use up the budget
    _note_next_boundary(run, gpu, queue_set, order)
    return concerns_others or admitted or preempted


@inlined
def _is_bound(run, gpu):
    """Return whether a GPU may take from its own bin only: that of its share, or the one that it took while empty."""
    return run.serves == SHARE or (run.serves == ONE_BIN and gpu.running > 0)


@inlined
def _update_limit(run, gpu, queue_set, limit_rule, limit_parameters, bounds, limit_state):
    """Work out anew the limit on the running requests of a GPU, from what it saw since the last time."""
    waiting = queue_set_at(run, queue_set).waiting
    if _is_bound(run, gpu):
        waiting = queue_at(run, queue_set, WAITING, gpu.bin).value
    interval = Interval(
        False, gpu.running, waiting + gpu.prefilling, gpu.interval_finished, gpu.interval_sum_tokens,
        gpu.interval_squares, gpu.interval_gap_s / gpu.interval_tokens, gpu.interval_tokens / run.interval_steps,
    )  # fmt: skip
    gpu.limit = limit_rule(interval, bounds, limit_state, limit_parameters)
    if gpu.limit < 1:
        run.status = BAD_LIMIT
    gpu.next_update = gpu.step + run.interval_steps
    gpu.interval_finished = 0
    gpu.interval_sum_tokens = 0.0
    gpu.interval_squares = 0.0
    gpu.interval_tokens = 0
    gpu.interval_gap_s = 0.0


@inlined
def _make_room(run, gpu, queue_set, order, now_s):
    """While memory cannot take what the next iteration adds, preempt the request admitted last.

    Returns
    -------
    (bool, int)
        Whether one was preempted, and what the requests will hold more with their next token or chunk.
    """
    preempted = False
    more = growth(run, gpu, 1)
    if run.prefill_memory != HELD:
        more += fill_chunks(run, gpu, run.token_budget - gpu.decoding)[1]
    while gpu.held + more > run.capacity:
        preempt_youngest(run, gpu, queue_set, order, now_s)
        more = growth(run, gpu, 1)
        if run.prefill_memory != HELD:
            more += fill_chunks(run, gpu, run.token_budget - gpu.decoding)[1]
        preempted = True
    return preempted, more


@inlined
def _admit(run, gpu, queue_set, more, now_s, queues, heads_s, memory, select, select_parameters, order):
    """Admit the heads of queues while fewer run than the limit and the head fits beside what is held and `more`.

    Returns
    -------
    (bool, int, int, float, int)
        Whether any was admitted; `more` with those who decode at once; and of those admitted to a prefill the tokens,
        the sum of their squares, and the number.
    """
    admitted, tokens, squares, prompts = False, 0, 0.0, 0
    left, chunks_more = 1, 0
    if run.by_budget:
        left, chunks_more = fill_chunks(run, gpu, run.token_budget - gpu.decoding)
    while gpu.running < gpu.limit and left > 0:
        if order is not None:
            look_at_heads(run, order, queue_set, now_s)
        bound = _is_bound(run, gpu)
        if bound:
            if not may_take_own(run, gpu, queue_set):
                break
            queue = gpu.bin
        else:
            if queue_set_at(run, queue_set).ready_count == 0:
                break
            queue = 0
            if run.num_bins > 1:
                queue = named_queue(run, queues, heads_s, memory, queue_set, now_s, select, select_parameters, True)
                if queue == NOBODY:
                    run.status = BAD_SELECTION
                    break
        request = queue_at(run, queue_set, HEAD, queue).value
        item = request_at(run, request)
        length = item.prompt + item.emitted
        need = held_by(run, item, item.emitted + 1)
        if run.prefill_memory == FIRST_CHUNK and item.stage != TO_COPY:
            need = held_in_prefill(run, item, min(left, length))
        spare = run.watermark if gpu.running > 0 else 0
        fits = gpu.held + more + need + spare <= run.capacity
        if order is not None and order.future:
            fits = fits_at_its_peak(run, order, gpu, item, spare)
        if run.prefill_max_tokens > 0 and prompts > 0 and item.stage != TO_COPY:
            fits = fits and tokens + length <= run.prefill_max_tokens
        if not fits:
            # Nobody overtakes the head that the rule named, and the rule's choice was for nothing.
            if not bound and run.num_bins > 1:
                restore_memory(memory, queue_set)
            break
        pop_head(run, queue_set, queue, order)
        admitted = True
        _join_those_running(run, gpu, queue, request, now_s)
        if item.stage == TO_COPY:
            gpu.copy_tokens += length
            gpu.held += held_by(run, item, item.emitted)
            begin_decoding(run, gpu, request, now_s - item.last_token_s, order)
            more = growth(run, gpu, 1) + chunks_more
            if run.by_budget:
                left -= 1
        else:
            chunk = min(left, length)
            if run.prefill_memory == HELD:
                # The token that its prefill will emit is held from now on.
                gpu.held += need
            else:
                chunks_more += held_in_prefill(run, item, chunk)
                more += held_in_prefill(run, item, chunk)
            if run.by_budget:
                left -= chunk
            begin_prefill(gpu, item, request)
            tokens += length
            squares += float(length) * length
            prompts += 1
    return admitted, more, tokens, squares, prompts


@inlined
def _join_those_running(run, gpu, queue, request, now_s):
    """Let an admitted request run on a GPU; an empty GPU takes the bin of its queue, and begins a turn."""
    if gpu.running == 0:
        gpu.bin = queue
        gpu.turn = 0
    gpu.turn += 1
    link(run, gpu, request)
    gpu_of(run, request).value = gpu.index
    item = request_at(run, request)
    if not item.started:
        item.started = True
        start_s(run, request).value = now_s


@inlined
def _note_held(run, gpu, held_before, more):
    """Note what is held after admission, the most that was, and what others may learn: the room left, the bin taken."""
    run.held += gpu.held - held_before
    gpu.held_max = max(gpu.held_max, gpu.held)
    gpu.running_max = max(gpu.running_max, gpu.running)
    spare = run.watermark if gpu.running > 0 else 0
    gpu.room = run.capacity - gpu.held - more - spare if gpu.running < gpu.limit else NOBODY
    if run.serves == ONE_BIN:
        gpu.taken_bin = gpu.bin if gpu.running > 0 else NOBODY


@inlined
def _note_next_boundary(run, gpu, queue_set, order):
    """Note the boundary that ends the iteration which begins, for whoever looks for a GPU that can admit."""
    gpu.planned = gpu.iterations
    if order is not None and stops_at_every_boundary(run, order, queue_set, gpu) and gpu.kind != EMPTY:
        gpu.planned = gpu.done + 1
    gpu.boundary = gpu.done + 1.0
    gpu.boundary_s = LONG_PAST_S if gpu.kind == EMPTY else boundary_s(gpu, gpu.boundary)
    if run.many_gpus:
        set_front(run, gpu)
