"""Batch size: fixed, or the smaller of a memory bound (Algorithm 1) and an SLA controller (Algorithm 2)."""

from __future__ import annotations

import math

from mbexp.policy.signatures import batch_size

# Slots of the dynamic rule's state; the first four are stored with each batch.
B_MEM, B_SLA, LOW, HIGH = 0, 1, 2, 3
REQUESTS, SUM_TOKENS, SUM_SQUARES, BATCHES = 4, 5, 6, 7
WINDOW = 8  # step times, then sizes, of the last window_batches batches, both twice over

# Parameters of the dynamic rule.
SIZE_MIN, SIZE_MAX, CAPACITY, THETA, ORIGINAL_RULE = 0, 1, 2, 3, 4
TARGET_S, TOLERANCE_S, ALPHA, DELTA, WINDOW_BATCHES, INTERVAL_BATCHES = 5, 6, 7, 8, 9, 10


@batch_size
def fixed(parameters, state, size, sum_tokens, sum_tokens_squared, step_s):
    """Always the same: `parameters[0]`."""
    return int(parameters[0])


@batch_size
def dynamic(parameters, state, size, sum_tokens, sum_tokens_squared, step_s):
    """min(b_mem, b_SLA) of P2, Algorithms 1 and 2, with the errata of docs/policies.md."""
    size_min, size_max = parameters[SIZE_MIN], parameters[SIZE_MAX]
    if size == 0:
        state[B_MEM] = size_max
        state[LOW], state[HIGH] = size_min, size_max
        state[B_SLA] = math.floor((size_min + size_max) / 2)
        return int(min(state[B_MEM], state[B_SLA]))

    state[REQUESTS] += size
    state[SUM_TOKENS] += sum_tokens
    state[SUM_SQUARES] += sum_tokens_squared
    mean = state[SUM_TOKENS] / state[REQUESTS]
    capacity = parameters[CAPACITY]
    if parameters[ORIGINAL_RULE] != 0.0:
        b_mem = math.floor((capacity - 0.1 * capacity) / mean)
    else:
        spread = math.sqrt(max(state[SUM_SQUARES] / state[REQUESTS] - mean * mean, 0.0)) * parameters[THETA]
        root = (math.sqrt(spread * spread + 4.0 * mean * capacity) - spread) / (2.0 * mean)
        b_mem = math.floor(root * root)
    state[B_MEM] = min(max(b_mem, size_min), size_max)

    length = int(parameters[WINDOW_BATCHES])
    done = int(state[BATCHES])
    slot = done % length
    # Each pair is kept twice, a window apart, so that the window is one stretch wherever it begins.
    state[WINDOW + slot] = state[WINDOW + length + slot] = step_s
    state[WINDOW + 2 * length + slot] = state[WINDOW + 3 * length + slot] = size
    done += 1
    state[BATCHES] = done
    if done % int(parameters[INTERVAL_BATCHES]) == 0:
        recent = min(done, length)
        oldest = WINDOW + (done % length if done > length else 0)
        step_sum = 0.0
        size_sum = 0.0
        for step in state[oldest : oldest + recent]:
            step_sum += step
        for number in state[oldest + 2 * length : oldest + 2 * length + recent]:
            size_sum += number
        step_mean, size_mean = step_sum / recent, size_sum / recent
        low, high = state[LOW], state[HIGH]
        alpha, delta = parameters[ALPHA], parameters[DELTA]
        target, tolerance = parameters[TARGET_S], parameters[TOLERANCE_S]
        if step_mean > target + tolerance:
            state[HIGH] = max(size_mean, low + alpha)
            state[LOW] = max(low - delta, size_min)
        elif step_mean < target - tolerance:
            state[LOW] = min(size_mean, high - alpha)
            state[HIGH] = min(high + delta, size_max)
        else:
            state[HIGH] = min(size_mean + math.floor(alpha / 2), size_max)
            state[LOW] = max(size_mean - math.floor(alpha / 2), size_min)
        b_sla = math.floor((state[LOW] + state[HIGH]) / 2)
        state[B_SLA] = min(max(b_sla, size_min), size_max)
    return int(min(state[B_MEM], state[B_SLA]))
