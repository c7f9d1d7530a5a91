"""KV memory of the continuous event loop: what requests hold, and when it is full (docs/semantics/memory.md)."""

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called, inlined
from mbexp.compiled.variants import variant
from mbexp.simulator.continuous.extended import PART
from mbexp.simulator.continuous.layout import (
    FIRST_CHUNK,
    FULL_OUTPUT,
    HELD,
    IN_PREFILL,
    NOBODY,
    OUTPUT_RATIO,
    TO_COPY,
    phase_at,
    request_at,
)


@inlined
def held_by(run, item, emitted):
    """Return what a request holds with so many tokens emitted, in blocks if paged, else in tokens."""
    if run.paged:
        return (item.prompt + emitted + run.ahead_tokens + run.block_tokens - 2) // run.block_tokens
    return item.prompt + max(item.predicted, emitted)


@inlined
def _in_place(run, item):
    """Return the blocks of others that a request in prefill uses in place."""
    return item.age_group if run.in_memory else 0


@inlined
def _none_in_place(run, item):
    """Return that a request uses no block of others."""
    return 0


@inlined
def _shares(run):
    """Return whether requests use blocks of others in place."""
    return run.in_memory


@inlined
def _never_shares(run):
    """Return that requests use no blocks of others."""
    return False


in_place = variant(PART, _in_place, _none_in_place)
shares_blocks = variant(PART, _shares, _never_shares)


@inlined
def needed(run, item):
    """Return what must be free for a request to be admitted, at the least."""
    if run.output_reserve == FULL_OUTPUT:
        return held_by(run, item, item.predicted)
    if run.output_reserve == OUTPUT_RATIO:
        return 1  # the start of the GPU, which knows the share, decides
    if shares_blocks(run) or (run.prefill_memory == FIRST_CHUNK and item.stage != TO_COPY):
        return 1  # likewise: it knows the chunk and what is cached
    return held_by(run, item, item.emitted + 1)


@inlined
def held_in_prefill(run, item, computed):
    """Return what a request in prefill holds with so many tokens of its context computed, the running chunk included.

    A context that is complete is held with the token that the end of the prefill emits.
    """
    if run.prefill_memory == HELD or computed == item.prompt + item.emitted:
        return held_by(run, item, item.emitted + 1)
    return max((computed + run.block_tokens - 1) // run.block_tokens, in_place(run, item))


@inlined
def prompt_budget(run, gpu):
    """Return how many prompt tokens the next iteration may compute."""
    return run.token_budget if run.alone else run.token_budget - gpu.decoding


@called
def fill_chunks(run, gpu, left):
    """Give up to `left` tokens to the requests in prefill, in the order of their admission.

    Returns
    -------
    (int, int)
        The tokens that none of them takes, and what their chunks hold more than now.
    """
    more = 0
    request = gpu.first_prefill
    while request != NOBODY and left > 0:
        item = request_at(run, request)
        if item.stage == IN_PREFILL:
            chunk = min(left, item.prompt + item.emitted - item.computed)
            left -= chunk
            if run.prefill_memory != HELD:
                more += held_in_prefill(run, item, item.computed + chunk) - held_in_prefill(run, item, item.computed)
        request = np.int64(item.next)
    return left, more


@inlined
def outgrew(run, item, emitted):
    """Return whether a request holds a token more with every token from here on."""
    return not run.paged and emitted >= item.predicted and item.predicted < item.output


@inlined
def phase_of(run, item):
    """Return the phase of a decoding request: it takes a new block at the steps that are minus this, modulo a block.

    It does not change while the request decodes, so that a GPU needs only the number of requests in each phase.
    """
    return (item.prompt + item.emitted + run.ahead_tokens - 1 - item.joined_step) % run.block_tokens


@inlined
def growth(run, gpu, steps):
    """Return what the decoding requests of a GPU will hold more after so many decode steps."""
    if not run.paged:
        return gpu.outgrown * steps
    block = run.block_tokens
    # In a cycle of `block` steps every request takes one block.
    cycles = steps // block
    total = cycles * gpu.decoding
    phase = (-gpu.step) % block
    for _ in range(steps - cycles * block):
        total += phase_at(run, gpu.index, phase).value
        phase += block - 1 if phase == 0 else -1
    return total


@called
def chunks_until_full(run, gpu, tokens, most):
    """Return how many iterations fit into the free memory of a GPU, each with an equal chunk of its first prefill."""
    free = run.capacity - gpu.held
    item = request_at(run, gpu.first_prefill)
    before = held_in_prefill(run, item, item.computed)
    done = 1  # the start has made room for the first
    while done < most:
        chunks = held_in_prefill(run, item, item.computed + (done + 1) * tokens) - before
        if growth(run, gpu, done + 1) + chunks > free:
            break
        done += 1
    return done


@called
def steps_until_full(run, gpu, most):
    """Return how many decode steps fit into the free memory of a GPU, at most `most`."""
    free = run.capacity - gpu.held
    if not run.paged:
        return most if gpu.outgrown == 0 else min(most, free // gpu.outgrown)
    block = run.block_tokens
    if gpu.decoding * (most // block + 1) <= free:
        return most
    # Whole cycles first, then step by step through the last one.
    cycles = free // gpu.decoding
    free -= cycles * gpu.decoding
    steps = cycles * block
    phase = (-gpu.step) % block
    while steps < most:
        free -= phase_at(run, gpu.index, phase).value
        if free < 0:
            break
        phase += block - 1 if phase == 0 else -1
        steps += 1
    return min(steps, most)
