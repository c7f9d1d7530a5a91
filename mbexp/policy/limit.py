"""Batch limit: fixed, or the smaller of a memory bound (Algorithm 1) and an SLA controller (Algorithm 2) of P2.

P2 is arXiv 2503.05248. The limit is that of a queue where batches run to completion, and of a GPU under continuous
batching; docs/semantics/limit.md defines both.
"""

from __future__ import annotations

import math

from mbexp.policy.slots import batch_limit

# Numbers that the dynamic rule keeps; the first four are stored with each batch.
B_MEM, B_SLA, LOW, HIGH = 0, 1, 2, 3
REQUESTS, SUM_TOKENS, SUM_SQUARES, INTERVALS = 4, 5, 6, 7
WINDOW = 8  # mean gaps, then mean numbers decoding, of the last intervals, both twice over

# Parameters of the dynamic rule; MEMORY_RULE is a place in mbexp.config.scheduler_keys.MEMORY_RULES.
THETA, MEMORY_RULE, WHILE_BUSY, TOLERANCE_S, ALPHA, DELTA, WINDOW_INTERVALS, UPDATE_INTERVALS = range(8)
ORIGINAL, PRINTED, RELEASED = 1, 2, 3


@batch_limit
def fixed(interval, bounds, state, parameters):
    """Always the same: `parameters[0]`."""
    return int(parameters[0])


@batch_limit
def dynamic(interval, bounds, state, parameters):
    """min(b_mem, b_SLA) of P2, Algorithms 1 and 2, with the errata of docs/policies.md."""
    size_min, size_max = bounds.size_min, bounds.size_max
    if interval.is_first:
        state[B_MEM] = size_max
        state[LOW], state[HIGH] = size_min, size_max
        state[B_SLA] = math.floor((size_min + size_max) / 2)
        return int(min(state[B_MEM], state[B_SLA]))
    running = interval.running
    lowest = max(size_min, float(running))

    # Algorithm 1: the largest batch that overflows the memory with a probability of at most eps_M.
    state[REQUESTS] += interval.finished
    state[SUM_TOKENS] += interval.sum_tokens
    state[SUM_SQUARES] += interval.sum_tokens_squared
    busy = state[REQUESTS] > 0 and running > 0 and interval.waiting > 0
    if parameters[MEMORY_RULE] == RELEASED:
        # The code that P2's authors released: as many as 95 % of the memory holds, if each holds what those here do.
        if running > 0 and interval.waiting > interval.in_prefill and interval.kv_held > 0:
            b_mem = math.floor(0.95 * interval.kv_capacity / (interval.kv_held / running))
            state[B_MEM] = min(max(b_mem, lowest), size_max)
    elif busy or parameters[WHILE_BUSY] == 0.0:
        mean = state[SUM_TOKENS] / state[REQUESTS]
        capacity = bounds.kv_capacity_tokens
        spread = math.sqrt(max(state[SUM_SQUARES] / state[REQUESTS] - mean * mean, 0.0)) * parameters[THETA]
        if parameters[MEMORY_RULE] == ORIGINAL:
            b_mem = math.floor((capacity - 0.1 * capacity) / mean)
        elif parameters[MEMORY_RULE] == PRINTED:
            b_mem = math.floor(running + spread * math.sqrt(running) / mean)
        else:
            root = (math.sqrt(spread * spread + 4.0 * mean * capacity) - spread) / (2.0 * mean)
            b_mem = math.floor(root * root)
        state[B_MEM] = min(max(b_mem, lowest), size_max)

    # Algorithm 2: two bounds close in on the largest batch within the token SLA.
    length = int(parameters[WINDOW_INTERVALS])
    done = int(state[INTERVALS])
    slot = done % length
    # Each pair is kept twice, a window apart, so that the window is one stretch wherever it begins.
    state[WINDOW + slot] = state[WINDOW + length + slot] = interval.gap_mean_s
    state[WINDOW + 2 * length + slot] = state[WINDOW + 3 * length + slot] = interval.decoding_mean
    done += 1
    state[INTERVALS] = done
    if done % int(parameters[UPDATE_INTERVALS]) == 0:
        recent = min(done, length)
        oldest = WINDOW + (done % length if done > length else 0)
        gap_sum = 0.0
        size_sum = 0.0
        for gap_s in state[oldest : oldest + recent]:
            gap_sum += gap_s
        for number in state[oldest + 2 * length : oldest + 2 * length + recent]:
            size_sum += number
        gap_mean_s, size_mean = gap_sum / recent, size_sum / recent
        low, high = state[LOW], state[HIGH]
        alpha, delta = parameters[ALPHA], parameters[DELTA]
        target_s, tolerance_s = bounds.token_sla_s, parameters[TOLERANCE_S]
        if gap_mean_s > target_s + tolerance_s:
            state[HIGH] = max(size_mean, low + alpha)
            state[LOW] = max(low - delta, size_min)
        elif gap_mean_s < target_s - tolerance_s:
            state[LOW] = min(size_mean, high - alpha)
            state[HIGH] = min(high + delta, size_max)
        else:
            state[HIGH] = min(size_mean + math.floor(alpha / 2), size_max)
            state[LOW] = max(size_mean - math.floor(alpha / 2), size_min)
        b_sla = math.floor((state[LOW] + state[HIGH]) / 2)
        state[B_SLA] = min(max(b_sla, lowest), size_max)
    return int(min(state[B_MEM], state[B_SLA]))
