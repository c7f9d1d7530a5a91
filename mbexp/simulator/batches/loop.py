"""The event loop of run-to-completion batching; its rules are those of docs/semantics/run_to_completion.md.

Rules of mbexp are called by number, so that the compiler can inline them; others through function values. Indices that
come out of an array are unsigned: a negative one would be looked for, at each access, to count from the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from mbexp.compiled.busy_heap import pop_busy, push_busy
from mbexp.compiled.decorators import called, compiled, inlined
from mbexp.compiled.index_set import add, take_lowest
from mbexp.compiled.switch import number_of, switch
from mbexp.hardware.law import LAW_TYPE
from mbexp.policy import fill as fills
from mbexp.policy import limit as limits
from mbexp.policy import selection as selections
from mbexp.policy.slots import FILL, LIMIT, SELECTION
from mbexp.policy.views import BEFORE_THE_RUN, BOUNDS_TYPE, Interval, Queue, Queues
from mbexp.simulator.batches.order import formed_by, join, look_at_ready, look_at_taken, take
from mbexp.simulator.batches.state import BATCHES_TYPE, GPUS_TYPE, QUEUES_TYPE, REQUESTS_TYPE
from mbexp.simulator.batches.turns import let_come, make_due, make_known, show_next

FINISHED, BAD_SELECTION, BAD_LIMIT, BAD_TIME, STUCK = 0, 1, 2, 3, 4

# The rules of mbexp, by number.
LIMITS, SELECTIONS, FILLS = LIMIT.built_ins(), SELECTION.built_ins(), FILL.built_ins()
FIXED, GREEDY = number_of(limits.fixed, LIMITS), number_of(fills.greedy, FILLS)
# These do not look at the heads of queues.
ROUND_ROBIN, LONGEST_QUEUE, SHORTEST_BIN = (
    number_of(rule, SELECTIONS) for rule in (selections.round_robin, selections.longest_queue, selections.shortest_bin)
)
_limit, _select, _fill = switch(LIMITS), switch(SELECTIONS), switch(FILLS)

_f8 = types.Array(types.float64, 1, "C")
_f8_2d = types.Array(types.float64, 2, "C")


def signature(turns: Any, *order: Any) -> Any:
    """Return the signature of the loop with turns and an order of these types; `types.none` where there is none.

    What asks for them is then not compiled at all: the compiler cuts off branches on None.
    """
    return types.UniTuple(types.int64, 2)(
        REQUESTS_TYPE, QUEUES_TYPE, GPUS_TYPE, types.int64, LAW_TYPE, _f8, _f8,
        types.int64, LIMIT.type, _f8, BOUNDS_TYPE, _f8_2d, types.int64, SELECTION.type, _f8, _f8,
        types.int64, FILL.type, _f8, BATCHES_TYPE, _f8, types.int64, turns, *order,
    )  # fmt: skip


@inlined
def _named_queue(now_s, queues, ready_count, rule, select, memory, parameters):
    """Return the queue that the selection rule names."""
    view = Queues(
        queues.ready, ready_count, queues.waiting, queues.limit, queues.head_arrival_s, queues.head_index,
        queues.formed_s,
    )  # fmt: skip
    return _select(rule, select, now_s, view, memory, parameters)


@inlined
def _formed_s(requests, queue, first, waiting, limit, head_s, rule, fill, fill_parameters, order):
    """Return the instant at which the fill rule lets a queue with `first` at its head send a batch."""
    filling_s = np.inf
    if order is not None:
        head_s, filling_s = formed_by(order, queue, limit, requests.arrival_s)
    if rule == GREEDY:
        return head_s
    if order is None and waiting >= limit:
        filling_s = requests.arrival_s[np.uint64(requests.trace_index[np.uint64(first + limit - 1)])]
    return _fill(rule, fill, Queue(waiting, limit, head_s, filling_s), fill_parameters)


@inlined
def _refresh(
    queue, now_s, flush_s, requests, queues, ready_count, timer_s, heads_matter, fill_rule, fill, fill_parameters,
    order,
):  # fmt: skip
    """Work out anew when `queue` is formed and whether it is ready.

    Returns
    -------
    (int, float)
        How many queues are ready, and the instant before which no other becomes ready by itself.
    """
    waiting = queues.waiting[queue]
    is_now = waiting > 0
    if heads_matter:
        formed_s = np.inf
        if waiting > 0:
            first = np.int64(queues.head[queue])
            head = np.int64(requests.trace_index[np.uint64(first)]) if order is None else order.lines[queue]["first"]
            queues.head_index[queue] = head
            head_s = requests.arrival_s[np.uint64(head)]
            queues.head_arrival_s[queue] = head_s
            formed_s = _formed_s(
                requests, queue, first, waiting, queues.limit[queue], head_s, fill_rule, fill, fill_parameters, order
            )
            formed_s = min(formed_s, flush_s)
        queues.formed_s[queue] = formed_s
        is_now = formed_s <= now_s
        if not is_now:
            timer_s = min(timer_s, formed_s)
    if is_now == queues.is_ready[queue]:
        return ready_count, timer_s
    queues.is_ready[queue] = is_now
    ready = queues.ready
    if is_now:
        place = ready_count
        while place > 0 and ready[np.uint64(place - 1)] > queue:
            ready[np.uint64(place)] = ready[np.uint64(place - 1)]
            place -= 1
        ready[np.uint64(place)] = queue
        return ready_count + 1, timer_s
    place = 0
    while ready[np.uint64(place)] != queue:
        place += 1
    for after in range(place, ready_count - 1):
        ready[np.uint64(after)] = ready[np.uint64(after + 1)]
    return ready_count - 1, timer_s


# For where it is seldom needed: one copy of it in the loop less.
_refresh_seldom = called(getattr(_refresh, "py_func", _refresh))


@called
def _first_limit(rule, function, bounds, state, parameters):
    """Return the limit of a queue before the run."""
    return _limit(rule, function, BEFORE_THE_RUN, bounds, state, parameters)


@inlined
def _fitting(requests, first, size, capacity):
    """Return how many of the requests from `first` on fit into memory, at most `size`."""
    total = 0
    for place in range(np.uint64(first), np.uint64(first + size)):
        total += np.int64(requests.prompt_tokens[place]) + np.int64(requests.predicted_tokens[place])
        if total > capacity:
            return np.int64(place) - first
    return size


@inlined
def _measure(requests, first, size):
    """Return of a batch: predicted need, longest prompt, output and sum, sums of both, sum of squared sums."""
    need, longest_prompt, longest_output, longest_total = 0, np.int32(0), np.int32(0), np.int32(0)
    sum_prompt, sum_output, squares = 0, 0, 0
    for place in range(np.uint64(first), np.uint64(first + size)):
        prompt, output = requests.prompt_tokens[place], requests.output_tokens[place]
        total = np.int32(prompt + output)
        need += np.int64(prompt) + np.int64(requests.predicted_tokens[place])
        longest_prompt = max(longest_prompt, prompt)
        longest_output = max(longest_output, output)
        longest_total = max(longest_total, total)
        sum_prompt += np.int64(prompt)
        sum_output += np.int64(output)
        squares += np.int64(total) * np.int64(total)
    return (
        need, np.int64(longest_prompt), np.int64(longest_output), np.int64(longest_total),
        sum_prompt, sum_output, squares,
    )  # fmt: skip


_measure_again = called(getattr(_measure, "py_func", _measure))


def serve_all(
    requests, queues, gpus, capacity, law, law_parameters, noise,
    limit_rule, limit_function, limit_parameters, bounds, state, select_rule, select, memory, select_parameters,
    fill_rule, fill, fill_parameters, batches, think_s, users, turns, order,
):  # fmt: skip
    """Simulate until every request is served.

    Parameters
    ----------
    requests, queues, gpus
        See `mbexp.simulator.batches.state`.
    noise
        Factor on each batch's time in order of formation; empty for none.
    limit_rule, select_rule, fill_rule
        Numbers of the three rules in `LIMITS`, `SELECTIONS` and `FILLS`; `OTHER` to call the function that follows.
    bounds
        What the limit keeps to.
    batches
        Filled with one record a batch, in order of formation.
    think_s, users
        Of a closed loop (`mbexp.workload.closed`), in which the arrivals are filled in as answers make them known; no
        number and 0 where they do not depend on answers.
    turns
        Of conversations (`mbexp.simulator.batches.turns`), in which requests are numbered as they come; None where
        there are none, and nothing of them is compiled.
    order
        Who is next inside a queue (`mbexp.simulator.batches.order`); None where queues are first in, first out.

    Returns
    -------
    (int, int)
        Number of batches, and `FINISHED` or what a policy or law did wrong.
    """
    arrival_s, queue_of = requests.arrival_s, requests.queue_of
    waiting, limit, is_ready = queues.waiting, queues.limit, queues.is_ready
    n = len(arrival_s)
    num_queues = len(limit)
    flush_s = np.inf  # the last arrival, once it has happened: nothing more can come
    known = min(users, n)  # of a closed loop: requests whose arrival is known
    ready_count = 0
    timer_s = np.inf  # no queue becomes ready by itself before this
    # Where every waiting request makes its queue ready and the selection asks for no heads, they are not looked up.
    heads_matter = fill_rule != GREEDY or select_rule not in (ROUND_ROBIN, LONGEST_QUEUE, SHORTEST_BIN)

    for queue in range(num_queues):
        limit[queue] = _first_limit(limit_rule, limit_function, bounds, state[queue], limit_parameters)
        if limit[queue] < 1:
            return 0, BAD_LIMIT
    busy_until_s, busy_gpu = gpus.busy_until_s, gpus.busy_gpu
    busy_count = 0
    idle_count = len(gpus.batch)
    for gpu in range(idle_count):
        add(gpus.idle, gpu)

    joined = 0
    if turns is not None:
        show_next(turns, arrival_s, joined)
    num_batches = 0
    while joined < n or busy_count > 0 or ready_count > 0 or timer_s < np.inf:
        now_s = busy_until_s[0]  # infinite where none is busy
        if idle_count == 0:
            # Nothing can leave before the next completion, so all arrivals before it join at once.
            while joined < n and arrival_s[np.uint64(joined)] < now_s:
                if turns is not None:
                    let_come(turns, requests, joined)
                queue = np.int64(queue_of[np.uint64(joined)])
                waiting[queue] += 1
                if order is not None:
                    join(order, turns, queue, joined, arrival_s[joined], arrival_s)
                if not is_ready[queue]:
                    ready_count, timer_s = _refresh(
                        queue, arrival_s[np.uint64(joined)], flush_s, requests, queues, ready_count, timer_s,
                        heads_matter, fill_rule, fill, fill_parameters, order,
                    )  # fmt: skip
                joined += 1
                if turns is not None:
                    show_next(turns, arrival_s, joined)
        else:
            if joined < n:
                now_s = min(now_s, arrival_s[np.uint64(joined)])
            now_s = min(now_s, timer_s)
            if now_s == np.inf:
                return num_batches, STUCK

        # 1. Completions, by GPU index.
        while busy_count > 0 and busy_until_s[0] == now_s:
            gpu = np.int64(busy_gpu[0])
            busy_count = pop_busy(busy_until_s, busy_gpu, busy_count)
            add(gpus.idle, gpu)
            idle_count += 1
            if users > 0:
                answer = batches[np.uint64(gpus.batch[gpu])]
                head = np.int64(answer["first"])
                for place in range(np.uint64(head), np.uint64(head + np.int64(answer["size"]))):
                    due_s = now_s + think_s[np.uint64(requests.trace_index[place])]
                    known = make_known(arrival_s, joined, known, due_s)
            if turns is not None:
                answered = batches[np.uint64(gpus.batch[gpu])]
                head = np.int64(answered["first"])
                for place in range(np.uint64(head), np.uint64(head + np.int64(answered["size"]))):
                    make_due(turns, requests.trace_index[place], now_s)
                show_next(turns, arrival_s, joined)
            if limit_rule != FIXED:
                done = batches[np.uint64(gpus.batch[gpu])]
                queue = np.int64(np.uint32(done["queue"]))
                before = limit[queue]
                size = np.int64(done["size"])
                interval = Interval(
                    False, 0, waiting[queue], size, gpus.tokens[gpu], gpus.tokens_squared[gpu], done["step_s"],
                    float(size), 0, 0.0, 0.0,
                )  # fmt: skip
                limit[queue] = _limit(limit_rule, limit_function, interval, bounds, state[queue], limit_parameters)
                if limit[queue] < 1:
                    return num_batches, BAD_LIMIT
                if limit[queue] != before and waiting[queue] > 0:
                    ready_count, timer_s = _refresh_seldom(
                        queue, now_s, flush_s, requests, queues, ready_count, timer_s,
                        heads_matter, fill_rule, fill, fill_parameters, order,
                    )  # fmt: skip

        # 2. Arrivals, in trace order.
        while joined < n and arrival_s[np.uint64(joined)] == now_s:
            if turns is not None:
                let_come(turns, requests, joined)
            queue = np.int64(queue_of[np.uint64(joined)])
            waiting[queue] += 1
            if order is not None:
                join(order, turns, queue, joined, now_s, arrival_s)
            if not is_ready[queue]:
                ready_count, timer_s = _refresh(
                    queue, now_s, flush_s, requests, queues, ready_count, timer_s,
                    heads_matter, fill_rule, fill, fill_parameters, order,
                )  # fmt: skip
            joined += 1
            if turns is not None:
                show_next(turns, arrival_s, joined)

        # The end of the trace changes when any queue is formed; otherwise only those not ready are looked at.
        flush_now = joined == n and flush_s == np.inf
        if flush_now or timer_s <= now_s:
            if flush_now:
                flush_s = arrival_s[n - 1] if n > 0 else 0.0
            timer_s = np.inf
            for queue in range(num_queues):
                if waiting[queue] > 0 and (flush_now or not is_ready[queue]):
                    ready_count, timer_s = _refresh_seldom(
                        queue, now_s, flush_s, requests, queues, ready_count, timer_s,
                        heads_matter, fill_rule, fill, fill_parameters, order,
                    )  # fmt: skip

        # 3. Dispatch: the lowest idle GPU takes a batch from the queue that the rule names.
        while idle_count > 0 and ready_count > 0:
            if order is not None:
                look_at_ready(order, queues, ready_count, heads_matter, now_s, arrival_s)
            queue = _named_queue(now_s, queues, ready_count, select_rule, select, memory, select_parameters)
            if queue < 0 or queue >= num_queues or not is_ready[queue]:
                return num_batches, BAD_SELECTION
            first = np.int64(queues.head[queue])
            size = min(waiting[queue], limit[queue])
            if order is not None:
                look_at_taken(order, queue, heads_matter, now_s, arrival_s)
                size = take(order, requests, queue, first, size, capacity)
            need, longest_prompt, longest_output, longest_total, sum_prompt, sum_output, squares = _measure(
                requests, first, size
            )
            if need > capacity:
                size = _fitting(requests, first, size, capacity)
                need, longest_prompt, longest_output, longest_total, sum_prompt, sum_output, squares = _measure_again(
                    requests, first, size
                )
            service_s, first_token_s, step_s = law(
                law_parameters, size, longest_prompt, longest_output, longest_total, sum_prompt, sum_output
            )
            if len(noise) > 0:
                factor = noise[num_batches]
                service_s, first_token_s, step_s = service_s * factor, first_token_s * factor, step_s * factor
            finish_s = now_s + service_s
            if not (
                service_s >= 0.0 and finish_s < np.inf and 0.0 <= first_token_s < np.inf and 0.0 <= step_s < np.inf
            ):
                return num_batches, BAD_TIME

            gpu = take_lowest(gpus.idle)
            idle_count -= 1
            busy_count = push_busy(busy_until_s, busy_gpu, busy_count, finish_s, gpu)
            gpus.batch[np.uint64(gpu)] = num_batches
            gpus.tokens[np.uint64(gpu)] = float(sum_prompt + sum_output)
            gpus.tokens_squared[np.uint64(gpu)] = float(squares)
            batch = batches[np.uint64(num_batches)]
            batch["start_s"] = now_s
            batch["finish_s"] = finish_s
            batch["first_token_s"] = first_token_s
            batch["step_s"] = step_s
            batch["b_mem"] = int(state[queue, 0])
            batch["b_sla"] = int(state[queue, 1])
            batch["controller_low"] = state[queue, 2]
            batch["controller_high"] = state[queue, 3]
            batch["first"] = first
            batch["size"] = size
            batch["limit"] = limit[queue]
            batch["gpu"] = gpu
            batch["queue"] = queue
            num_batches += 1

            queues.head[queue] += np.uint32(size)
            waiting[queue] -= size
            ready_count, timer_s = _refresh(
                queue, now_s, flush_s, requests, queues, ready_count, timer_s,
                heads_matter, fill_rule, fill, fill_parameters, order,
            )  # fmt: skip
    return num_batches, FINISHED


run = compiled(signature(types.none, types.none), _nrt=False, no_cfunc_wrapper=True)(serve_all)
