"""KV memory of the continuous event loop: what requests hold, and when it is full (docs/semantics/memory.md)."""

from __future__ import annotations

from mbexp.compiled.decorators import called, inlined
from mbexp.simulator.continuous.layout import phase_at


@inlined
def held_by(run, item, emitted):
    """Return what a request holds with so many tokens emitted, in blocks if paged, else in tokens."""
    if run.paged:
        return (item.prompt + emitted + run.block_tokens - 1) // run.block_tokens
    return item.prompt + max(item.predicted, emitted)


@inlined
def outgrew(run, item, emitted):
    """Return whether a request holds a token more with every token from here on."""
    return not run.paged and emitted >= item.predicted and item.predicted < item.output


@inlined
def phase_of(run, item):
    """Return the phase of a decoding request: it takes a new block at the steps that are minus this, modulo a block.

    It does not change while the request decodes, so that a GPU needs only the number of requests in each phase.
    """
    return (item.prompt + item.emitted - item.joined_step) % run.block_tokens


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
