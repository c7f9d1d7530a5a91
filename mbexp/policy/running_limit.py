"""Running limit: how many requests a GPU may run at once under continuous batching (P2, Algorithms 1 and 2)."""

from __future__ import annotations

import math

from mbexp.policy.continuous_signatures import running_limit

# Slots of the dynamic rule's state.
B_MEM, B_SLA, LOW, HIGH = 0, 1, 2, 3
REQUESTS, SUM_TOKENS, SUM_SQUARES, PAIRS = 4, 5, 6, 7
WINDOW = 8  # mean gaps, then mean numbers decoding, of the last window_pairs intervals

# Parameters of the dynamic rule; CAPACITY in tokens, RULE a place in mbexp.config.keys.MEMORY_RULES.
SIZE_MIN, SIZE_MAX, CAPACITY, THETA, RULE = 0, 1, 2, 3, 4
TARGET_S, TOLERANCE_S, ALPHA, DELTA, WINDOW_PAIRS, INTERVAL_PAIRS = 5, 6, 7, 8, 9, 10
ORIGINAL, PRINTED = 1, 2


@running_limit
def cap(parameters, state, running, waiting, finished, sum_tokens, sum_tokens_squared, tokens, gap_sum_s, steps):
    """Always the same: `parameters[0]`."""
    return int(parameters[0])


@running_limit
def dynamic(parameters, state, running, waiting, finished, sum_tokens, sum_tokens_squared, tokens, gap_sum_s, steps):
    """min(b_mem, b_SLA) of P2, Algorithms 1 and 2; see docs/semantics/limit.md."""
    size_min, size_max = parameters[SIZE_MIN], parameters[SIZE_MAX]
    if steps == 0:
        state[B_MEM] = size_max
        state[LOW], state[HIGH] = size_min, size_max
        state[B_SLA] = math.floor((size_min + size_max) / 2)
        return int(min(state[B_MEM], state[B_SLA]))
    lowest = max(size_min, float(running))

    # Algorithm 1.
    state[REQUESTS] += finished
    state[SUM_TOKENS] += sum_tokens
    state[SUM_SQUARES] += sum_tokens_squared
    if state[REQUESTS] > 0 and running > 0 and waiting > 0:
        mean = state[SUM_TOKENS] / state[REQUESTS]
        capacity = parameters[CAPACITY]
        spread = math.sqrt(max(state[SUM_SQUARES] / state[REQUESTS] - mean * mean, 0.0)) * parameters[THETA]
        if parameters[RULE] == ORIGINAL:
            b_mem = math.floor((capacity - 0.1 * capacity) / mean)
        elif parameters[RULE] == PRINTED:
            b_mem = math.floor(running + spread * math.sqrt(running) / mean)
        else:
            root = (math.sqrt(spread * spread + 4.0 * mean * capacity) - spread) / (2.0 * mean)
            b_mem = math.floor(root * root)
        state[B_MEM] = min(max(b_mem, lowest), size_max)

    # Algorithm 2.
    length = int(parameters[WINDOW_PAIRS])
    done = int(state[PAIRS])
    state[WINDOW + done % length] = gap_sum_s / tokens
    state[WINDOW + length + done % length] = tokens / steps
    done += 1
    state[PAIRS] = done
    if done % int(parameters[INTERVAL_PAIRS]) == 0:
        recent = min(done, length)
        gap_sum = 0.0
        size_sum = 0.0
        for place in range(done - recent, done):
            gap_sum += state[WINDOW + place % length]
            size_sum += state[WINDOW + length + place % length]
        gap_mean, size_mean = gap_sum / recent, size_sum / recent
        low, high = state[LOW], state[HIGH]
        alpha, delta = parameters[ALPHA], parameters[DELTA]
        target, tolerance = parameters[TARGET_S], parameters[TOLERANCE_S]
        if gap_mean > target + tolerance:
            state[HIGH] = max(size_mean, low + alpha)
            state[LOW] = max(low - delta, size_min)
        elif gap_mean < target - tolerance:
            state[LOW] = min(size_mean, high - alpha)
            state[HIGH] = min(high + delta, size_max)
        else:
            state[HIGH] = min(size_mean + math.floor(alpha / 2), size_max)
            state[LOW] = max(size_mean - math.floor(alpha / 2), size_min)
        b_sla = math.floor((state[LOW] + state[HIGH]) / 2)
        state[B_SLA] = min(max(b_sla, lowest), size_max)
    return int(min(state[B_MEM], state[B_SLA]))
