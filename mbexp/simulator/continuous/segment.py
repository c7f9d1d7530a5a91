"""Segments of the continuous event loop: iterations whose price grows linearly, in closed form."""

from __future__ import annotations

import math

import numpy as np

from mbexp.compiled.decorators import called, inlined
from mbexp.simulator.continuous.layout import DECODE, PREFILL, age_group_at
from mbexp.simulator.continuous.tokens import add_gap, add_gaps


@inlined
def time_of(first_s, growth_s, iterations):
    """Return how long the first `iterations` of a segment take: n t + d n (n - 1)/2, n up to 1e7 exact in it."""
    number = float(iterations)
    return number * first_s + growth_s * (0.5 * number * (number - 1.0))


@inlined
def boundary_s(gpu, boundary):
    """Return the instant of a boundary of the segment."""
    return gpu.start_s + time_of(gpu.first_s, gpu.growth_s, boundary)


@inlined
def look_ahead(gpu, time_s, strictly):
    """Move ``gpu.boundary`` and its instant on to the first boundary at or after an instant (`strictly`: after it).

    The boundary noted so far must not lie after the one sought. At the end of the segment its last boundary is noted.
    """
    known = gpu.boundary
    step_s = gpu.first_s + gpu.growth_s * known
    if step_s > 0.0 and gpu.growth_s >= 0.0:
        # As if steps did not grow; right unless the instant lies near a boundary.
        passed = np.floor((time_s - gpu.boundary_s) / step_s) + 1.0
        guess = min(known + max(passed, 0.0), float(gpu.iterations))
        at_s = boundary_s(gpu, guess)
        if 0.0 < at_s - time_s < 0.99 * step_s:
            gpu.boundary = guess
            gpu.boundary_s = at_s
            return
    exact = _exact_boundary(gpu, int(known), time_s, strictly)
    gpu.boundary = float(exact)
    gpu.boundary_s = boundary_s(gpu, exact)


@inlined
def step_ahead(gpu, time_s, strictly):
    """Move on as `look_ahead` does, at less cost where the boundary sought is the one behind that noted so far."""
    following_s = boundary_s(gpu, gpu.boundary + 1.0)
    if gpu.boundary_s < time_s < following_s and gpu.boundary < gpu.iterations:
        gpu.boundary += 1.0
        gpu.boundary_s = following_s
    else:
        look_ahead(gpu, time_s, strictly)


@inlined
def next_boundary(gpu, known, time_s):
    """Return the number of the first boundary of the segment after an instant; one that lies not after it is known."""
    return _exact_boundary(gpu, known, time_s, True)


@called
def _exact_boundary(gpu, known, time_s, strictly):
    """Solve start + k first + growth k (k - 1) / 2 = time for k, then correct it by the boundaries themselves."""
    wait_s = time_s - gpu.start_s
    boundary = known
    if wait_s > 0.0:
        slope = gpu.first_s - 0.5 * gpu.growth_s
        divisor = slope + math.sqrt(max(slope * slope + 2.0 * gpu.growth_s * wait_s, 0.0))
        last = gpu.iterations
        guess = 2.0 * wait_s / divisor if divisor > 0.0 else float(last)
        boundary = min(max(int(min(guess, float(last))), known), last)
    while boundary > known and _reached(gpu, boundary - 1, time_s, strictly):
        boundary -= 1
    while boundary < gpu.iterations and not _reached(gpu, boundary, time_s, strictly):
        boundary += 1
    return boundary


@inlined
def _reached(gpu, boundary, time_s, strictly):
    """Return whether a boundary of the segment lies at or after an instant (`strictly`: after it)."""
    at_s = boundary_s(gpu, boundary)
    return at_s > time_s or (at_s == time_s and not strictly)


@inlined
def account(run, gpu, now_s):
    """Count what happened from the boundary last accounted for to the planned one: time, tokens, gaps, KV use."""
    before, after = gpu.done, gpu.planned
    number = after - before
    seconds = time_of(gpu.first_s, gpu.growth_s, after) - time_of(gpu.first_s, gpu.growth_s, before)
    pause_s = gpu.pause_s if before == 0 else 0.0
    context = gpu.context + gpu.computed
    gpu.busy_s += seconds + pause_s
    gpu.copy_s += pause_s
    gpu.running_s += gpu.running * (seconds + pause_s)
    gpu.limit_s += gpu.limit * (seconds + pause_s)
    gpu.kv_token_s += context * pause_s
    context += gpu.chunk_tokens  # a chunk counts from the beginning of its iteration
    gpu.done = after

    if gpu.kind == PREFILL:
        # Everyone who was decoding stalls, and grows older together.
        gpu.prefills += 1
        gpu.prefill_s += seconds
        gpu.kv_token_s += context * seconds
        for age_group in range(gpu.age_groups):
            age_group_at(run, gpu.index, age_group).age_s += seconds + pause_s
        return

    size = gpu.decoding
    if size == 0:
        # Chunks of prompts alone: as in a prefill of whole prompts, nobody decodes.
        gpu.prefills += number
        gpu.prefill_s += seconds
    elif gpu.kind != DECODE:
        gpu.mixed_steps += number
    # sum over j in [0, number) of (context + more j) (first + growth (before + j)), from the sums of 1, j and j^2
    more = size + gpu.chunk_tokens
    growth_s = gpu.growth_s
    ones = float(number)
    firsts = 0.5 * ones * (ones - 1.0)
    squares = firsts * (2.0 * ones - 1.0) / 3.0
    first_s = gpu.first_s + growth_s * before
    gpu.kv_token_s += context * (ones * first_s + growth_s * firsts) + more * (first_s * firsts + growth_s * squares)
    if size == 0:
        return

    _count_gaps(run, gpu, before, after, pause_s)
    gpu.interval_tokens += size * number
    gpu.decoded_tokens += size * number
    gpu.outside_steps += _steps_outside(run, size, gpu.context, number)
    gpu.context += size * number
    gpu.step += number
    gpu.last_step_s = now_s


@inlined
def _steps_outside(run, size, context, number):
    """Return how many of so many decode steps lie outside the range of the law: by size, or by mean context.

    `context` is that of the first step; the mean context grows by a token with every step.
    """
    if size < run.size_low or size > run.size_high:
        return number
    low, high = size * run.length_low, size * run.length_high
    outside = 0
    if context < low:
        outside = min((low - context + size - 1) // size, number)
    if context + (number - 1) * size > high:
        inside = (high - context) // size + 1 if context <= high else 0
        outside += number - max(inside, outside)
    return outside


@inlined
def _count_gaps(run, gpu, before, after, pause_s):
    """Count the gaps between tokens that end with the decode steps from boundary `before` to `after` of a segment."""
    size = gpu.decoding
    if before == 0:
        # The first step of a segment ends a gap as long as the age, the pause and the step itself. From then on all who
        # decode are of one age, and each of their gaps is the price of a step.
        for age_group in range(gpu.age_groups):
            weight = age_group_at(run, gpu.index, age_group).members
            if weight > 0:
                gap_s = age_group_at(run, gpu.index, age_group).age_s + pause_s + gpu.first_s
                add_gap(gap_s, weight, run)
                gpu.interval_gap_s += weight * gap_s
        gpu.age_groups = 1
        age_group_at(run, gpu.index, 0).age_s = 0.0
        age_group_at(run, gpu.index, 0).members = size
        before = 1
    if after > before:
        add_gaps(gpu.first_s, gpu.growth_s, before, after, size, run)
        steps = after - before
        gpu.interval_gap_s += size * (steps * gpu.first_s + gpu.growth_s * (0.5 * (before + after - 1) * steps))
