"""The event loop of continuous batching; its rules are those of docs/semantics/iterations.md."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from mbexp.compiled.decorators import called, inlined
from mbexp.compiled.index_set import add, remove
from mbexp.hardware.law import ITERATION_TYPE
from mbexp.policy.slots import ASSIGNMENT, LIMIT, SELECTION
from mbexp.policy.views import BEFORE_THE_RUN, BOUNDS_TYPE, Arrival, Gpus
from mbexp.simulator.continuous.end import end
from mbexp.simulator.continuous.events import (
    comes_first,
    fetch_ahead,
    first_standing,
    next_event_s,
    place_first,
    pop_event,
    put_first_aside,
    set_event,
    stand,
    stop_at_boundary,
    take_back_aside,
)
from mbexp.simulator.continuous.layout import (
    BAD_ASSIGNMENT,
    BAD_LIMIT,
    EMPTY,
    FINISHED,
    HEAD,
    NOBODY,
    NOT_READY,
    NUM_BINS,
    SAMPLES,
    SHARE,
    blank_request,
    gap_count,
    gpu_at,
    idle_gpus,
    least_loaded,
    note_load,
    queue_at,
    request_at,
    sample_at,
    standing_at,
)
from mbexp.simulator.continuous.order import at_every_boundary, come_in_order
from mbexp.simulator.continuous.plan import ENDLESS
from mbexp.simulator.continuous.queue import push
from mbexp.simulator.continuous.requests import change_load
from mbexp.simulator.continuous.routers import routed
from mbexp.simulator.continuous.search import first_to_admit, rouse, wake
from mbexp.simulator.continuous.segment import boundary_s
from mbexp.simulator.continuous.start import start
from mbexp.simulator.continuous.users import come, next_arrival_s
from mbexp.simulator.continuous.wait import NO_WAIT, let_all_go_on

_f8 = types.Array(types.float64, 1, "C")
_f8_2d = types.Array(types.float64, 2, "C")
_i8 = types.Array(types.int64, 1, "C")
_i4 = types.Array(types.int32, 1, "C")


def signature(run: Any, *order: Any) -> Any:
    """Return the types of the loop's arguments: the record of the run first, the order of queues or none last.

    Where there is no order, `types.none`, what asks for it is not compiled: the compiler cuts off branches on None.
    """
    return types.int64(
        run, _f8, _i4, _i4, _i4, types.Array(types.uint16, 1, "C"),
        types.Array(types.int64, 3, "C"), _f8_2d, _f8_2d, SELECTION.type, _f8,
        ITERATION_TYPE, _f8, LIMIT.type, _f8, BOUNDS_TYPE, _f8_2d,
        types.Array(types.int64, 2, "C"), ASSIGNMENT.type, _f8, _f8, _f8_2d, _i8, _i8, *order,
    )  # fmt: skip


@called
def _sample(run, now_s):
    """Keep a sample of every `stride`-th instant; when they are full, keep every other one and double the stride."""
    if run.until_sample > 0:
        run.until_sample -= 1
        return
    run.until_sample = run.stride - 1
    if run.samples_kept == SAMPLES:
        for row in range(SAMPLES // 2):
            kept, source = sample_at(run, row), sample_at(run, 2 * row)
            kept.time_s, kept.held = source.time_s, source.held
            kept.running, kept.waiting = source.running, source.waiting
        run.samples_kept = SAMPLES // 2
        run.stride *= 2
        run.until_sample = run.stride - 1
    sample = sample_at(run, run.samples_kept)
    sample.time_s = now_s
    sample.held = run.held
    sample.running = run.running
    sample.waiting = run.waiting
    run.samples_kept += 1


@called
def _count_from_here(run, now_s):
    """End the warm-up: forget the gaps counted so far, and note how long each GPU was busy."""
    run.gaps, run.gaps_above, run.gap_sum_s, run.gap_max_s = 0, 0, 0.0, 0.0
    for gap_bin in range(NUM_BINS):
        gap_count(run, gap_bin).value = 0
    for gpu_index in range(run.num_gpus):
        gpu = gpu_at(run, gpu_index)
        gpu.busy_before_s = gpu.busy_s
        if gpu.kind != EMPTY:
            # The segment under way: from the boundary accounted for, or the pause before its first iteration, on.
            since_s = gpu.start_s - gpu.pause_s if gpu.done == 0 else boundary_s(gpu, gpu.done)
            gpu.busy_before_s += now_s - since_s


@inlined
def _fill_requests(run, arrival_s, prompt, output, predicted, queue_of):
    """Write what the trace says of the requests into their records."""
    for request in range(run.num_requests):
        item = request_at(run, request)
        blank_request(item)
        item.arrival_s = arrival_s[request]
        item.prompt = prompt[request]
        item.output = output[request]
        item.predicted = predicted[request]
        item.need_tokens = prompt[request] + predicted[request]
        item.bin = queue_of[request]


@inlined
def _assigned(
    run, item, draw, now_s, given, assign, assign_parameters, assign_memory, draws, share_first, share_count
):  # fmt: skip
    """Give an arriving request to a GPU of its share; return the GPU, NOBODY where the rule names another."""
    share = np.int64(item.bin) if run.serves == SHARE else 0
    first, end = share_first[share], share_first[share] + share_count[share]
    need = np.int64(item.need_tokens)
    gpu_index = routed(run, item, draw, first, end, now_s)
    if gpu_index != NOBODY:
        pass
    elif run.least_of != NOBODY:
        gpu_index = least_loaded(run, first, end)
    else:
        one, two = 0.0, 0.0
        if len(draws) > 0:
            one, two = draws[draw, 0], draws[draw, 1]
        gpus = Gpus(first, end, share, given[0], given[1])
        gpu_index = assign(gpus, Arrival(need, one, two), assign_memory, assign_parameters)
        if gpu_index < first or gpu_index >= end:
            return NOBODY
    change_load(run, gpu_index, 1, need)
    return gpu_index


@inlined
def _next_to_admit(run, queues, heads_s, memory, now_s, begun, select, select_parameters, order):
    """Return the GPU that will come first to admit a request of the central queues, NOBODY where none is known."""
    if order is not None and at_every_boundary(order):
        return rouse(run, now_s, begun)
    return first_to_admit(run, queues, heads_s, memory, now_s, begun, select, select_parameters)


def run_until_served(
    runs, arrival_s, prompt, output, predicted, queue_of, queues, heads_s, memory, select, select_parameters,
    iteration, iteration_parameters, limit_rule, limit_parameters, bounds, limit_state,
    given, assign, assign_parameters, assign_memory, draws, share_first, share_count, order,
):  # fmt: skip
    """Simulate until every request is served.

    Parameters
    ----------
    runs, queues, heads_s, memory, given
        Of the state (`mbexp.simulator.continuous.layout`), which is filled with the outcome: the record of the run,
        through which all arrays are reached, and those that rules are given.
    arrival_s, prompt, output, predicted, queue_of
        The requests, in order of arrival. In a closed loop the arrivals are filled in as they happen.
    draws
        Two uniform numbers for each request, or none.
    share_first, share_count
        The GPUs of each share: first and how many.
    order
        Who is next inside a queue (`mbexp.simulator.continuous.order`); None where queues are first in, first out.

    Returns
    -------
    int
        `FINISHED`, or what a policy or law did wrong.
    """
    run = runs[0]
    _fill_requests(run, arrival_s, prompt, output, predicted, queue_of)
    for gpu_index in range(run.num_gpus):
        if run.least_of != NOBODY:
            note_load(run, gpu_index, 0)
        limit = limit_rule(BEFORE_THE_RUN, bounds, limit_state[gpu_index], limit_parameters)
        if limit < 1:
            return BAD_LIMIT
        gpu_at(run, gpu_index).limit = limit

        if run.central:
            add(idle_gpus(run, 0), gpu_index)

    now_s = -np.inf
    begun = False  # at this instant GPUs began iterations: boundaries now of those in the middle of a segment are past
    beginning = False  # those at a boundary begin, and none of them admits any more
    # Whether central queues, or what GPUs may take from them, changed since it was known which GPU will admit next.
    search = False
    settled = False  # of a search: nobody comes at this instant, and `later` comes first after it
    later = NOBODY
    changed = False  # a GPU that starts at this instant changes them
    while True:
        event_s = next_event_s(run)
        arrives_s = next_arrival_s(run)
        at_boundary = run.standing_count + run.aside_count
        if at_boundary == 0 and not search:
            # Nothing is left to do at this instant.
            if run.status != FINISHED:
                return run.status
            if run.joined > 0:
                run.instants += 1
                _sample(run, now_s)
            then_s = min(event_s, arrives_s)
            if then_s == np.inf:
                return FINISHED
            begun = begun and then_s == now_s
            now_s = then_s

        gpu_index, alone, first, most = NOBODY, False, True, ENDLESS
        # 1. Ends, by GPU index.
        if event_s == now_s and not beginning:
            gpu_index = pop_event(run)
            if end(run, gpu_index, now_s, order):
                search = run.central
            if run.closed:
                arrives_s = next_arrival_s(run)  # an answer may have made one known
            # Most often nothing else happens at this instant, and it starts again at once.
            alone = at_boundary == 0 and arrives_s > now_s and not search and next_event_s(run) > now_s
            settled = False
            if not alone:
                stand(run, gpu_at(run, gpu_index), NOT_READY)
                continue
            if run.central:
                most = 1

        # 2. Arrivals, in trace order.
        elif arrives_s == now_s and not beginning:
            joined = run.joined
            draw = come(run, joined, now_s)
            item = request_at(run, joined)
            queue_set = 0
            if run.central:
                search = search or run.num_bins > 1 or run.waiting == 0
                settled = False
            else:
                queue_set = _assigned(
                    run,
                    item,
                    draw,
                    now_s,
                    given,
                    assign,
                    assign_parameters,
                    assign_memory,
                    draws,
                    share_first,
                    share_count,
                )
                if queue_set == NOBODY:
                    return BAD_ASSIGNMENT
            if order is not None:
                come_in_order(run, order, joined)
                head_before = queue_at(run, queue_set, HEAD, 0).value
            push(run, queue_set, joined, False, order, now_s)
            if order is not None:
                search = search or (run.central and queue_at(run, 0, HEAD, 0).value != head_before)
            if joined == run.count_from:
                _count_from_here(run, now_s)
            run.joined = joined + 1
            if run.closed:
                arrival_s[joined] = now_s
            if not run.central:
                # The GPU that it was given to makes a start, or tries to admit at its next boundary.
                gpu = gpu_at(run, queue_set)
                if gpu.at_boundary:
                    pass
                elif gpu.kind == EMPTY:
                    stand(run, gpu, NOT_READY)
                elif gpu.room >= 0:
                    wake(run, queues, heads_s, memory, queue_set, now_s, select, select_parameters, order)
            if order is not None and order.wait != NO_WAIT and run.joined == run.num_requests:
                let_all_go_on(run)
            continue

        # 3. Starts: of one GPU, or of all that stand at a boundary together where queues are central.
        elif not run.central:
            gpu_index, alone = first_standing(run), True
        elif run.standing_count > 0 and standing_at(run, 0).running == NOT_READY:
            gpu_index, most = standing_at(run, 0).gpu, 0
        elif beginning or run.waiting == 0 or run.status != FINISHED:
            if at_boundary == 0:
                search = False
                continue
            beginning = at_boundary > 1
            gpu_index, alone, first, most = first_standing(run), True, False, 0
        else:
            if search and not settled:
                later = _next_to_admit(run, queues, heads_s, memory, now_s, begun, select, select_parameters, order)
                if order is not None and next_event_s(run) == now_s:
                    continue  # a GPU that was roused is at a boundary now: its iteration ends first
                gpu = gpu_at(run, max(later, 0))
                settled = later == NOBODY or (gpu.kind != EMPTY and gpu.boundary_s > now_s)
                search = later != NOBODY
                if search:
                    fetch_ahead(run, later)
                if not settled and comes_first(run, gpu):
                    if gpu.kind == EMPTY:
                        remove(idle_gpus(run, 0), gpu.index)
                        gpu.room = NOBODY
                        stand(run, gpu, NOT_READY)
                    else:
                        stop_at_boundary(run, gpu)
                    continue
            if run.standing_count == 0:
                beginning = at_boundary > 0
                if not beginning and search:
                    # A GPU in the middle of a segment goes on to its boundary, where it will try.
                    gpu = gpu_at(run, later)
                    gpu.candidate = True
                    stop_at_boundary(run, gpu)
                    search = False
                continue
            gpu_index, first, most = standing_at(run, 0).gpu, False, 1

        admitted, concerns_others = start(
            run, gpu_index, now_s, first, most, not alone, queues, heads_s, memory, select, select_parameters,
            iteration, iteration_parameters, limit_rule, limit_parameters, bounds, limit_state, order,
        )  # fmt: skip
        gpu = gpu_at(run, gpu_index)
        if run.central:
            if not alone:
                if first or admitted:
                    place_first(run, gpu.running)
                else:
                    put_first_aside(run)
                if admitted:
                    take_back_aside(run)
                if (first and gpu.preempted) or admitted or gpu.candidate:
                    # Another head waits, or it may have rivals that come at this instant too.
                    search, settled = True, False
                    changed = changed or gpu.candidate
                    gpu.candidate = False
                continue
            if first and run.waiting > 0 and (admitted or gpu.candidate or gpu.preempted):
                stand(run, gpu, gpu.running)
                search, settled = True, False
                continue
            begun = True
            changed = changed or concerns_others
            if not beginning:
                search, settled, changed = run.waiting > 0 and (search or changed), False, False
        if gpu.kind != EMPTY:
            set_event(run, gpu, boundary_s(gpu, gpu.planned))
