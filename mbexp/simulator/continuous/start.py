"""What a GPU does at a boundary before its next iteration: a start (docs/semantics/iterations.md)."""

from __future__ import annotations

from mbexp.compiled.decorators import inlined
from mbexp.compiled.index_set import add
from mbexp.policy.views import Interval
from mbexp.simulator.continuous.calendar import put_into_bucket
from mbexp.simulator.continuous.displace import displaced, left_by_others
from mbexp.simulator.continuous.future import fits_at_its_peak
from mbexp.simulator.continuous.give_way import admits_at_once, let_one_go
from mbexp.simulator.continuous.layout import (
    BAD_LIMIT,
    BAD_SELECTION,
    CHUNK,
    EMPTY,
    FIRST_CHUNK,
    FULL_OUTPUT,
    HEAD,
    HELD,
    LONG_PAST_S,
    NOBODY,
    ONE_BIN,
    OUTPUT_RATIO,
    SHARE,
    TO_COPY,
    WAITING,
    gpu_at,
    gpu_of,
    idle_gpus,
    queue_at,
    queue_set_at,
    request_at,
    start_s,
)
from mbexp.simulator.continuous.memory import fill_chunks, growth, held_by, held_in_prefill, prompt_budget
from mbexp.simulator.continuous.order import look_at_heads, stops_at_every_boundary
from mbexp.simulator.continuous.output_ratio import (
    charge,
    needed_by_ratio,
    open_up,
    retract,
    room_by_ratio,
)
from mbexp.simulator.continuous.plan import close_row, plan
from mbexp.simulator.continuous.prefix import look_up, make_way, share_prompt, share_prompts_that_end, use_found
from mbexp.simulator.continuous.queue import may_take_own, named_queue, pop_head, restore_memory
from mbexp.simulator.continuous.requests import (
    begin_decoding,
    begin_prefill,
    link,
)
from mbexp.simulator.continuous.segment import boundary_s
from mbexp.simulator.continuous.wait import NO_WAIT, OPEN, go_on, is_filled, next_type, pause


@inlined
def start(
    run, gpu_index, now_s, first, most, waits, queues, heads_s, memory, select, select_parameters, iteration,
    iteration_parameters, limit_rule, limit_parameters, bounds, limit_state, order,
):  # fmt: skip
    """Start a GPU that stands at a boundary: its limit, room for the next step, admission, the next iteration.

    Where GPUs start together, each is started in several calls: only the first works out limit and room, each admits
    at most as many as it is told, and none begins the iteration while it `waits` for others to admit.

    Returns
    -------
    (bool, bool)
        Whether it admitted now; and whether it began and the queues or the chances of other GPUs changed.
    """
    gpu = gpu_at(run, gpu_index)
    queue_set = 0 if run.central else gpu_index
    held_before = gpu.held
    by_ratio = run.output_reserve == OUTPUT_RATIO
    if first:
        if run.interval_steps > 0 and gpu.step >= gpu.next_update:
            _update_limit(run, gpu, queue_set, limit_rule, limit_parameters, bounds, limit_state[gpu_index])
        gpu.preempted, gpu.more = False, 0
        if by_ratio:
            open_up(run, gpu)
        else:
            gpu.preempted, gpu.more = _make_room(run, gpu, queue_set, order, now_s)
        gpu.admitted = False
        gpu.new_tokens, gpu.new_squares, gpu.new_prompts = 0, 0.0, 0
        gpu.tokens_left, gpu.chunks_more = 1, 0
        if run.by_budget:
            gpu.tokens_left, gpu.chunks_more = fill_chunks(run, gpu, prompt_budget(run, gpu))
            if not gpu.preempted:
                share_prompts_that_end(run, gpu, gpu.tokens_left)
    filled = True
    if order is not None and order.wait != NO_WAIT:
        filled = is_filled(run, order, gpu, queue_set)
        if filled:
            go_on(run, order, gpu, now_s)
    admitted = False
    # Who gave way to a central queue may be the next of an emptier GPU, which is looked for first.
    at_once = admits_at_once(run) and not (run.central and first)
    if filled and not gpu.closed and (not gpu.preempted or at_once):
        admitted = _admit(run, gpu, queue_set, most, now_s, queues, heads_s, memory, select, select_parameters, order)
    if by_ratio:  # never with central queues: this is the only call
        gpu.preempted = retract(run, gpu, queue_set, order, now_s)
    run.held += gpu.held - held_before
    concerns_now = admitted or gpu.candidate or gpu.preempted
    if waits or (run.central and first and run.waiting > 0 and concerns_now):
        return admitted, False  # others that come at this instant may be emptier now, or take who was preempted
    _note_room(run, gpu)
    if order is not None and order.future and gpu.running < gpu.limit:
        gpu.room = run.capacity - gpu.held  # whoever fits is found at each boundary
    if order is not None and order.preempts:
        gpu.room = max(gpu.room, 0)  # who arrives may displace
    if order is not None and order.wait != NO_WAIT and gpu.running < gpu.limit:
        gpu.room = max(gpu.room, 0)  # a head that does not fit keeps out no other type
    if order is not None and not filled:
        pause(run, order, gpu, now_s)
    elif gpu.changed or gpu.admitted or gpu.preempted or gpu.done == gpu.iterations:
        close_row(run, gpu, now_s)
        if gpu.running == 0:
            gpu.kind = EMPTY
            gpu.copy_tokens = 0
        else:
            plan(
                run, gpu, now_s, gpu.new_tokens, gpu.new_squares, gpu.new_prompts, gpu.preempted, iteration,
                iteration_parameters,
            )  # fmt: skip
        gpu.changed = False
    if run.by_budget and gpu.kind == CHUNK:
        gpu.room = NOBODY  # the chunks use up the budget
    _note_next_boundary(run, gpu, queue_set, order)
    concerns_others = gpu.candidate or gpu.admitted or gpu.preempted
    gpu.candidate = False
    return admitted, concerns_others


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
        gpu.prefilling, float(gpu.held), float(run.capacity),
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
    """While memory cannot take what the next iteration adds, preempt the request that gives way.

    Returns
    -------
    (bool, int)
        Whether one was preempted, and what the requests will hold more with their next token or chunk.
    """
    preempted = False
    more = growth(run, gpu, 1)
    if run.prefill_memory != HELD:
        more += fill_chunks(run, gpu, prompt_budget(run, gpu))[1]
    while gpu.held + more > run.capacity:
        let_one_go(run, gpu, queue_set, order, now_s)
        more = growth(run, gpu, 1)
        if run.prefill_memory != HELD:
            more += fill_chunks(run, gpu, prompt_budget(run, gpu))[1]
        preempted = True
    return preempted, more


@inlined
def _admit(run, gpu, queue_set, most, now_s, queues, heads_s, memory, select, select_parameters, order):
    """Admit up to `most` heads of queues while fewer run than the limit and the head fits beside what is held and `k`.

    Of those admitted to a prefill the record of the GPU counts the number, the tokens, and the sum of their squares.

    Returns
    -------
    bool
        Whether any was admitted.
    """
    number, more, left = 0, gpu.more, gpu.tokens_left
    tokens, squares, prompts = gpu.new_tokens, gpu.new_squares, gpu.new_prompts
    ghosts, room = 0, 0.0
    by_ratio = run.output_reserve == OUTPUT_RATIO
    if by_ratio:
        ghosts = gpu.gone
        room = room_by_ratio(run, gpu)
    while number < most and left > 0:
        if gpu.running + ghosts >= gpu.limit:
            if order is not None and displaced(run, gpu, queue_set, order, now_s):
                left, more = left_by_others(run, gpu)
                continue
            break
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
            if order is not None and order.wait != NO_WAIT:
                queue = next_type(run, order, queue_set)
                if queue == NOBODY:
                    break
            elif run.num_bins > 1:
                queue = named_queue(run, queues, heads_s, memory, queue_set, now_s, select, select_parameters, True)
                if queue == NOBODY:
                    run.status = BAD_SELECTION
                    break
        request = queue_at(run, queue_set, HEAD, queue).value
        item = request_at(run, request)
        length = item.prompt + item.emitted
        found, in_use, skipped = look_up(run, gpu, item, request)
        need = held_by(run, item, item.emitted + 1)
        if run.prefill_memory == FIRST_CHUNK and item.stage != TO_COPY:
            need = held_in_prefill(run, item, skipped + min(left, length - skipped))
        spare = run.watermark if gpu.running > 0 else 0
        fits = gpu.held + more + need - in_use + spare <= run.capacity
        if order is not None and order.future:
            stalls = item.stage != TO_COPY and (run.alone or not run.chunked)  # decoding, so that nobody grows
            fits = (fits or stalls) and fits_at_its_peak(run, order, gpu, request, item, spare)
        if run.output_reserve == FULL_OUTPUT:
            fits = fits and gpu.promised + held_by(run, item, item.predicted) <= run.capacity
        elif by_ratio:
            fits = gpu.running == 0 or needed_by_ratio(run, item) < room
        if order is not None and not fits and displaced(run, gpu, queue_set, order, now_s):
            left, more = left_by_others(run, gpu)
            continue
        if run.whole and item.stage != TO_COPY:
            fits = fits and (length <= left or gpu.running == 0)
        if run.prefill_max_tokens > 0 and prompts > 0 and item.stage != TO_COPY:
            fits = fits and tokens + length - skipped <= run.prefill_max_tokens
        if not fits:
            # Nobody overtakes the head that the rule named, and the rule's choice was for nothing.
            if not bound and run.num_bins > 1:
                restore_memory(memory, queue_set)
            gpu.closed = by_ratio
            break
        pop_head(run, queue_set, queue, order)
        if order is not None and order.wait != NO_WAIT:
            order.types[OPEN, queue] -= 1
        number += 1
        _join_those_running(run, gpu, queue, request, now_s)
        if item.stage == TO_COPY:
            gpu.copy_tokens += length
            gpu.held += held_by(run, item, item.emitted)
            begin_decoding(run, gpu, request, now_s - item.last_token_s, order)
            more = growth(run, gpu, 1) + gpu.chunks_more
            if run.by_budget:
                left -= 1
        else:
            chunk = min(left, length - skipped)
            use_found(run, gpu, item, request, found, skipped)
            if run.prefill_memory == HELD:
                # The token that its prefill will emit is held from now on.
                gpu.held += need - found
            else:
                before = held_in_prefill(run, item, skipped)
                gpu.held += before - found
                grows = held_in_prefill(run, item, skipped + chunk) - before
                gpu.chunks_more += grows
                more += grows
            if run.by_budget:
                left -= chunk
            if not run.by_budget or skipped + chunk == length:
                share_prompt(run, gpu, request)
            make_way(run, gpu)
            begin_prefill(gpu, item, request, skipped)
            if by_ratio:
                room -= charge(run, item, chunk)
            tokens += length - skipped
            squares += float(length) * length - float(skipped) * skipped
            prompts += 1
            if by_ratio and room <= 0.0:
                gpu.closed = True
                break
    if by_ratio and left > 0 and gpu.running + ghosts >= gpu.limit and queue_set_at(run, queue_set).waiting > 0:
        gpu.closed = True
    if number > 0:
        gpu.admitted = True
        gpu.new_tokens, gpu.new_squares, gpu.new_prompts = tokens, squares, prompts
        gpu.more, gpu.tokens_left = more, left
    return number > 0


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
def _note_room(run, gpu):
    """Note the most that was held and ran, and what others may learn: the room left, the bin taken."""
    gpu.held_max = max(gpu.held_max, gpu.held)
    gpu.running_max = max(gpu.running_max, gpu.running)
    spare = run.watermark if gpu.running > 0 else 0
    gpu.room = run.capacity - gpu.held - gpu.more - spare if gpu.running < gpu.limit else NOBODY
    if run.output_reserve == FULL_OUTPUT and gpu.room != NOBODY:
        gpu.room = run.capacity - gpu.promised
    elif run.output_reserve == OUTPUT_RATIO:
        gpu.room = NOBODY if gpu.closed else run.capacity  # even at its limit an attempt closes it
    if run.serves == ONE_BIN:
        gpu.taken_bin = gpu.bin if gpu.running > 0 else NOBODY


@inlined
def _note_next_boundary(run, gpu, queue_set, order):
    """Note the boundary that ends the iteration which begins, for whoever looks for a GPU that can admit."""
    gpu.planned = gpu.iterations
    if order is not None and stops_at_every_boundary(run, order, queue_set, gpu) and gpu.kind != EMPTY:
        gpu.planned = gpu.done + 1
    gpu.boundary = gpu.done + 1.0
    gpu.boundary_s = boundary_s(gpu, gpu.boundary)
    if gpu.kind == EMPTY:
        gpu.boundary_s = LONG_PAST_S
        if run.central:
            add(idle_gpus(run, 0), gpu.index)
    elif run.calendar_size > 0 and gpu.room >= 0:
        put_into_bucket(run, gpu)
