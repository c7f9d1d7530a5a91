"""The event loop of run-to-completion batching; its rules are those of docs/semantics.md."""

from __future__ import annotations

import numpy as np
from numba import from_dtype, njit, types

from mbexp.compiled import compiled
from mbexp.hardware.law import LAW_TYPE
from mbexp.policy.signatures import BATCH_SIZE_TYPE, FILL_TYPE, SELECT_TYPE
from mbexp.simulator.heap import pop_busy, pop_idle, push_busy, push_idle

# One record a batch: what happened and cannot be recomputed. Its members are the requests at places
# [first, first + size) of the requests sorted by queue.
BATCH_DTYPE = np.dtype(
    [
        ("start_s", np.float64),
        ("finish_s", np.float64),
        ("first_token_s", np.float64),
        ("step_s", np.float64),
        ("controller_low", np.float32),
        ("controller_high", np.float32),
        ("first", np.int32),
        ("size", np.int32),
        ("limit", np.int32),
        ("gpu", np.int32),
        ("b_mem", np.int32),
        ("b_sla", np.int32),
        ("queue", np.int32),
    ],
    align=True,
)

FINISHED, BAD_SELECTION, BAD_LIMIT, BAD_TIME = 0, 1, 2, 3

_f8 = types.Array(types.float64, 1, "C")
_f8_2d = types.Array(types.float64, 2, "C")
_i4 = types.Array(types.int32, 1, "C")
_i8 = types.Array(types.int64, 1, "C")
_u2 = types.Array(types.uint16, 1, "C")
_batches = types.Array(from_dtype(BATCH_DTYPE), 1, "C")

SIGNATURE = types.UniTuple(types.int64, 2)(
    _f8, _u2, _i8, _i4, _f8, _i4, _i4, _i4,  # requests
    types.int64, types.int64, LAW_TYPE, _f8, _f8,  # hardware
    BATCH_SIZE_TYPE, _f8, _f8_2d, SELECT_TYPE, _f8, FILL_TYPE, _f8,  # policy
    _batches,
)  # fmt: skip


@njit
def _refresh(
    queue, now_s, flush_s, head, index, sorted_arrival_s, fill, fill_parameters,
    ready, ready_count, is_ready, waiting, limit, head_arrival_s, head_index, formed_s,
):  # fmt: skip
    """Work out anew when `queue` is formed and whether it is ready; return how many queues are ready."""
    count = waiting[queue]
    formed = np.inf
    if count > 0:
        first = head[queue]
        head_arrival_s[queue] = sorted_arrival_s[first]
        head_index[queue] = index[first]
        full = count >= limit[queue]
        filling_s = sorted_arrival_s[first + limit[queue] - 1] if full else np.inf
        formed = min(fill(fill_parameters, count, limit[queue], sorted_arrival_s[first], filling_s), flush_s)
    formed_s[queue] = formed
    is_now = formed <= now_s
    if is_now == is_ready[queue]:
        return ready_count
    is_ready[queue] = is_now
    place = ready_count
    if is_now:
        while place > 0 and ready[place - 1] > queue:
            ready[place] = ready[place - 1]
            place -= 1
        ready[place] = queue
        return ready_count + 1
    place = 0
    while ready[place] != queue:
        place += 1
    for after in range(place, ready_count - 1):
        ready[after] = ready[after + 1]
    return ready_count - 1


@njit
def _earlier(timer_s, formed_s, is_ready):
    """Return the timer with a queue's future instant taken into account."""
    return timer_s if is_ready else min(timer_s, formed_s)


@njit
def _fitting(need, first, size, capacity):
    """Return how many of the requests from `first` on fit into memory, at most `size`."""
    total = 0
    for place in range(first, first + size):
        total += need[place]
        if total > capacity:
            return place - first
    return size


@njit
def _measure(prompt, output, first, size):
    """Return longest prompt, output and sum, the sums of both, and the sum of squared sums of a batch."""
    longest_prompt, longest_output, longest_total = 0, 0, 0
    sum_prompt, sum_output, squares = 0, 0, 0
    for place in range(first, first + size):
        prompt_tokens, output_tokens = np.int64(prompt[place]), np.int64(output[place])
        total = prompt_tokens + output_tokens
        longest_prompt = max(longest_prompt, prompt_tokens)
        longest_output = max(longest_output, output_tokens)
        longest_total = max(longest_total, total)
        sum_prompt += prompt_tokens
        sum_output += output_tokens
        squares += total * total
    return longest_prompt, longest_output, longest_total, sum_prompt, sum_output, squares


@compiled(SIGNATURE)
def run(
    arrival_s, queue_of, queue_start, index, sorted_arrival_s, need, prompt, output,
    num_gpus, capacity, law, law_parameters, noise,
    batch_size, size_parameters, state, select, memory, fill, fill_parameters,
    batches,
):  # fmt: skip
    """Simulate until every request is served.

    Parameters
    ----------
    arrival_s, queue_of
        Arrival and queue of each accepted request, in trace order.
    queue_start
        Place at which each queue begins in the arrays sorted by queue, plus the end.
    index, sorted_arrival_s, need, prompt, output
        Place in the trace, arrival, predicted KV need, prompt and output of each request, sorted by queue,
        then by trace order.
    noise
        Factor on each batch's time in order of formation; empty for none.
    batches
        Filled with one record a batch, in order of formation.

    Returns
    -------
    (int, int)
        Number of batches, and `FINISHED` or what a policy or law did wrong.
    """
    n = len(arrival_s)
    num_queues = len(queue_start) - 1
    end_s = arrival_s[n - 1] if n > 0 else 0.0
    flushed = False

    # One entry a queue; the first six are what selection rules see.
    ready = np.empty(num_queues, np.int64)
    waiting = np.zeros(num_queues, np.int64)
    limit = np.empty(num_queues, np.int64)
    head_arrival_s = np.full(num_queues, np.inf)
    head_index = np.full(num_queues, n)
    formed_s = np.full(num_queues, np.inf)
    head = queue_start[:-1].copy()
    is_ready = np.zeros(num_queues, np.bool_)
    ready_count = 0
    timer_s = np.inf  # no queue becomes ready by itself before this

    for queue in range(num_queues):
        limit[queue] = batch_size(size_parameters, state[queue], 0, 0.0, 0.0, 0.0)
        if limit[queue] < 1:
            return 0, BAD_LIMIT

    # Busy and idle GPUs are heaps; the rest has one entry a GPU.
    busy_until_s = np.empty(num_gpus)
    busy_gpu = np.empty(num_gpus, np.int32)
    busy_count = 0
    idle_gpu = np.arange(num_gpus).astype(np.int32)
    idle_count = num_gpus
    running = np.zeros(num_gpus, np.int32)
    running_tokens = np.zeros(num_gpus)
    running_squares = np.zeros(num_gpus)

    joined = 0
    num_batches = 0
    while joined < n or busy_count > 0 or ready_count > 0 or timer_s < np.inf:
        now_s = busy_until_s[0] if busy_count > 0 else np.inf
        if idle_count == 0:
            # Nothing can leave before the next completion, so all arrivals before it join at once.
            while joined < n and arrival_s[joined] < now_s:
                queue = queue_of[joined]
                waiting[queue] += 1
                if not is_ready[queue]:
                    ready_count = _refresh(
                        queue, arrival_s[joined], np.inf, head, index, sorted_arrival_s, fill, fill_parameters,
                        ready, ready_count, is_ready, waiting, limit, head_arrival_s, head_index, formed_s,
                    )  # fmt: skip
                    timer_s = _earlier(timer_s, formed_s[queue], is_ready[queue])
                joined += 1
        else:
            if joined < n and arrival_s[joined] < now_s:
                now_s = arrival_s[joined]
            now_s = min(now_s, timer_s)

        # 1. Completions, by GPU index.
        while busy_count > 0 and busy_until_s[0] == now_s:
            gpu = busy_gpu[0]
            busy_count = pop_busy(busy_until_s, busy_gpu, busy_count)
            idle_count = push_idle(idle_gpu, idle_count, gpu)
            done = batches[running[gpu]]
            queue = done["queue"]
            before = limit[queue]
            limit[queue] = batch_size(
                size_parameters, state[queue], done["size"], running_tokens[gpu], running_squares[gpu], done["step_s"]
            )
            if limit[queue] < 1:
                return num_batches, BAD_LIMIT
            if limit[queue] != before and waiting[queue] > 0:
                ready_count = _refresh(
                    queue, now_s, end_s if flushed else np.inf, head, index, sorted_arrival_s, fill, fill_parameters,
                    ready, ready_count, is_ready, waiting, limit, head_arrival_s, head_index, formed_s,
                )  # fmt: skip
                timer_s = _earlier(timer_s, formed_s[queue], is_ready[queue])

        # 2. Arrivals, in trace order.
        while joined < n and arrival_s[joined] == now_s:
            queue = queue_of[joined]
            waiting[queue] += 1
            if not is_ready[queue]:
                ready_count = _refresh(
                    queue, now_s, np.inf, head, index, sorted_arrival_s, fill, fill_parameters,
                    ready, ready_count, is_ready, waiting, limit, head_arrival_s, head_index, formed_s,
                )  # fmt: skip
                timer_s = _earlier(timer_s, formed_s[queue], is_ready[queue])
            joined += 1

        # The end of the trace flushes partial batches; otherwise only queues whose time has come are looked at.
        flush_now = joined == n and not flushed
        if flush_now or timer_s <= now_s:
            flushed = joined == n
            timer_s = np.inf
            for queue in range(num_queues):
                if waiting[queue] > 0 and not is_ready[queue]:
                    ready_count = _refresh(
                        queue, now_s, end_s if flushed else np.inf, head, index, sorted_arrival_s, fill,
                        fill_parameters, ready, ready_count, is_ready, waiting, limit, head_arrival_s, head_index,
                        formed_s,
                    )  # fmt: skip
                    timer_s = _earlier(timer_s, formed_s[queue], is_ready[queue])

        # 3. Dispatch: the lowest idle GPU takes a batch from the queue that the rule names.
        while idle_count > 0 and ready_count > 0:
            queue = select(now_s, ready, ready_count, waiting, limit, head_arrival_s, head_index, formed_s, memory)
            if queue < 0 or queue >= num_queues or not is_ready[queue]:
                return num_batches, BAD_SELECTION
            first = head[queue]
            size = min(waiting[queue], limit[queue])
            if need[first : first + size].sum() > capacity:
                size = _fitting(need, first, size, capacity)
            longest_prompt, longest_output, longest_total, sum_prompt, sum_output, squares = _measure(
                prompt, output, first, size
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

            gpu = idle_gpu[0]
            idle_count = pop_idle(idle_gpu, idle_count)
            busy_count = push_busy(busy_until_s, busy_gpu, busy_count, finish_s, gpu)
            running[gpu] = num_batches
            running_tokens[gpu] = float(sum_prompt + sum_output)
            running_squares[gpu] = float(squares)
            batch = batches[num_batches]
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

            head[queue] += size
            waiting[queue] -= size
            ready_count = _refresh(
                queue, now_s, end_s if flushed else np.inf, head, index, sorted_arrival_s, fill, fill_parameters,
                ready, ready_count, is_ready, waiting, limit, head_arrival_s, head_index, formed_s,
            )  # fmt: skip
            timer_s = _earlier(timer_s, formed_s[queue], is_ready[queue])
    return num_batches, FINISHED


@compiled(
    types.Tuple((types.float64, types.int64, types.float64))(
        LAW_TYPE, _f8, _i4, _i4, _i4, types.int64, types.int64, types.int64, types.int64
    )
)
def full_batch_work(law, law_parameters, prompt, output, need, first, last, limit, capacity):
    """Price requests [first, last) in consecutive batches of `limit`, trimmed by memory.

    Returns
    -------
    (float, int, float)
        Seconds of all batches that are not the last, how many requests they hold, and seconds of the last, partial one.
    """
    full_s = 0.0
    place = first
    while place < last:
        size = min(last - place, limit)
        taken = _fitting(need, place, size, capacity)
        longest_prompt, longest_output, longest_total, sum_prompt, sum_output, _ = _measure(
            prompt, output, place, taken
        )
        service_s, _, _ = law(
            law_parameters, taken, longest_prompt, longest_output, longest_total, sum_prompt, sum_output
        )
        if size < limit and taken == size:
            return full_s, place - first, service_s
        full_s += service_s
        place += taken
    return full_s, place - first, 0.0
