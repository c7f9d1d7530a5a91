"""How the continuous event loop plans the iterations of a GPU: as many as are alike."""

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called, inlined
from mbexp.hardware.closed_form import closed_form
from mbexp.simulator.continuous.layout import (
    ANY_BIN,
    BAD_TIME,
    CHUNK,
    DECODE,
    EMPTY,
    HELD,
    IN_PREFILL,
    LAST_CHUNK,
    NOBODY,
    PREFILL,
    leave_at,
    request_at,
    segment_at,
)
from mbexp.simulator.continuous.memory import chunks_until_full, prompt_budget, steps_until_full

ENDLESS = 2**62

# The price that nearly all laws have, compiled into the loop.
_closed_form = inlined(getattr(closed_form, "py_func", closed_form))


@inlined
def plan(run, gpu, now_s, tokens, squares, prompts, preempted, iteration, iteration_parameters):
    """Begin a segment: as many iterations of what runs on a GPU now as their price grows linearly.

    `tokens`, `squares` and `prompts` are those of the requests just admitted to a prefill of their own.
    """
    kind, iterations, square_growth = DECODE, ENDLESS, 0.0
    if not run.chunked:
        if prompts > 0:
            kind, iterations = PREFILL, 1
    else:
        tokens, squares, prompts = 0, 0.0, 0
        left = prompt_budget(run, gpu)
        if gpu.prefilling > 0 and left > 0:
            kind, iterations, tokens, squares, prompts = _fill(run, gpu, left)
            if run.alone:
                kind, iterations = PREFILL, 1
            elif kind == CHUNK:
                square_growth = 2.0 * float(left) * left
    decoding, context = gpu.decoding, gpu.context
    if kind == PREFILL:
        decoding, context = 0, 0
    if run.closed_form:
        first_s, growth_s, alike = _closed_form(
            iteration_parameters, decoding, context, tokens, squares, square_growth, prompts
        )
    else:
        first_s, growth_s, alike = iteration(
            iteration_parameters, decoding, context, tokens, squares, square_growth, prompts
        )
    if preempted:
        iterations = 1  # admission is tried again at the next boundary
    if alike < iterations:
        iterations = max(int(alike), 1)
    if decoding > 0:
        iterations = _steps_until_change(run, gpu, iterations)
    if kind == CHUNK and run.prefill_memory != HELD:
        iterations = chunks_until_full(run, gpu, tokens, iterations)
    last_s = first_s + growth_s * (iterations - 1)
    if not (0.0 <= first_s < np.inf and 0.0 <= last_s < np.inf):
        run.status = BAD_TIME
    gpu.pause_s = gpu.copy_tokens * run.swap_token_s
    gpu.copied_tokens += gpu.copy_tokens
    gpu.copy_tokens = 0
    gpu.start_s = now_s + gpu.pause_s
    gpu.first_s = first_s
    gpu.growth_s = growth_s
    gpu.done = 0
    gpu.iterations = iterations
    gpu.kind = kind
    gpu.chunk_tokens = tokens
    _open_row(run, gpu, now_s, decoding, context)


@inlined
def _steps_until_change(run, gpu, most):
    """Return the decode steps, at most `most`, to a completion, outgrown prediction, new limit or full memory."""
    steps = min(most, leave_at(run, gpu.index, 0).step - gpu.step)
    if run.interval_steps > 0:
        steps = min(steps, gpu.next_update - gpu.step)
    return steps_until_full(run, gpu, steps)


@called
def _fill(run, gpu, left):
    """Fill iterations with up to `left` prompt tokens, of the requests in prefill in the order of their admission.

    Returns
    -------
    (int, int, int, float, int)
        `CHUNK` or `LAST_CHUNK`, the number of iterations that are filled alike, the tokens of each, the sum of the
        squares of the first, and how many prompts end.
    """
    request = gpu.first_prefill
    item = request_at(run, request)
    remaining = item.prompt + item.emitted - item.computed
    if remaining > left:
        squares = float(left) * (2.0 * item.computed + left)
        return CHUNK, (remaining - 1) // left, left, squares, 0
    tokens, squares, prompts = 0, 0.0, 0
    while left > 0 and request != NOBODY:
        item = request_at(run, request)
        if item.stage == IN_PREFILL:
            remaining = item.prompt + item.emitted - item.computed
            chunk = min(left, remaining)
            left -= chunk
            tokens += chunk
            squares += float(chunk) * (2.0 * item.computed + chunk)
            if chunk == remaining:
                prompts += 1
        request = np.int64(item.next)
    return LAST_CHUNK, 1, tokens, squares, prompts


@inlined
def _open_row(run, gpu, now_s, decoding, context):
    """Note in the log the segment that begins."""
    gpu.row = run.num_segments
    run.num_segments += 1
    if gpu.row < run.log_rows:
        segment = segment_at(run, gpu.row)
        segment.start_s = now_s
        segment.first_s = gpu.first_s
        segment.growth_s = gpu.growth_s
        segment.context_tokens = context
        segment.prompt_tokens = gpu.chunk_tokens
        segment.gpu = gpu.index
        segment.decoding = decoding
        segment.kind = gpu.kind
        segment.limit = gpu.limit
        segment.running = gpu.running
        segment.bin = 0 if run.num_bins == 1 else (NOBODY if run.serves == ANY_BIN else gpu.bin)


@inlined
def close_row(run, gpu, now_s):
    """Note in the log how far the segment went that ends."""
    if gpu.kind != EMPTY and gpu.row < run.log_rows:
        segment = segment_at(run, gpu.row)
        segment.iterations = gpu.done
        segment.finish_s = now_s
