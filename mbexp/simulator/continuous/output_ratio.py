"""Admission by a share of the outputs to come, and retraction of the fewest outputs, as SGLang has them.

The rules are those of docs/semantics/memory.md, "A share of the outputs to come". What a GPU keeps of them is
`ratio`, `ratio_step`, `gone` and `closed` of its record.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called
from mbexp.simulator.continuous.layout import DECODING, IN_PREFILL, NOBODY, queue_set_at, request_at
from mbexp.simulator.continuous.memory import growth
from mbexp.simulator.continuous.requests import preempt

# SGLang's SGLANG_INIT_NEW_TOKEN_RATIO, _MIN_NEW_TOKEN_RATIO_FACTOR, _NEW_TOKEN_RATIO_DECAY_STEPS,
# _RETRACT_DECODE_STEPS and _CLIP_MAX_NEW_TOKENS_ESTIMATION.
RATIO_FIRST, LEAST_PART, FALLING_STEPS, STEPS_AHEAD, MOST_TOKENS = 0.7, 0.14, 600.0, 20, 4096


@called
def _allowed(run, item):
    """Return the output that a request is allowed: its prediction, or what memory holds beside its prompt and block."""
    block = run.block_tokens
    prompt = (item.prompt + block - 1) // block * block
    return max(min(item.predicted, run.capacity * block - prompt - block - 1), 0)


@called
def _to_come(run, item, emitted):
    """Return the output of a request that is still allowed, at most `MOST_TOKENS`."""
    return min(max(_allowed(run, item) - emitted, 0), MOST_TOKENS)


@called
def _reset(run, gpu):
    """Let the share be what it was before the run, as of an engine that stood idle."""
    gpu.ratio = run.ratio_first
    gpu.ratio_step = gpu.step
    gpu.gone = 0
    gpu.closed = False


@called
def open_up(run, gpu):
    """Open a GPU that is empty since its last decode step, and to which nobody could be admitted."""
    if gpu.running == 0 and (gpu.closed or gpu.gone >= gpu.limit):
        _reset(run, gpu)


@called
def charge(run, item, chunk):
    """Return what a request admitted with a chunk takes of the tokens that others may be admitted to."""
    block = run.block_tokens
    tokens = (chunk + block - 1) // block * block + block
    if item.computed + chunk == item.prompt + item.emitted:
        tokens += min(_allowed(run, item), MOST_TOKENS)
    return tokens


@called
def needed_by_ratio(run, item):
    """Return the tokens that an admission needs: the context, the output to come, and a block."""
    return float(item.prompt + item.emitted + _to_come(run, item, item.emitted) + run.block_tokens)


@called
def room_by_ratio(run, gpu):
    """Return the tokens that are free beside the share of outputs to come and the next chunk of a prefill."""
    taken, outputs = 0, 0
    left = run.token_budget
    request = gpu.youngest
    while request != NOBODY:
        item = request_at(run, request)
        if item.stage == DECODING:
            outputs += _to_come(run, item, item.emitted + (gpu.step - item.joined_step))
        elif item.stage == IN_PREFILL:
            taken += charge(run, item, min(left, item.prompt + item.emitted - item.computed))
        request = np.int64(item.previous)
    least = LEAST_PART * run.ratio_first
    fall = (run.ratio_first - least) / FALLING_STEPS
    share = max(gpu.ratio - fall * max(gpu.step - gpu.ratio_step, 0), least)
    return float((run.capacity - gpu.held) * run.block_tokens - taken) - share * outputs


@called
def _fewest_outputs(run, gpu):
    """Return the decoding request with the fewest outputs, of equals the longest prompt, then the latest admission."""
    found, least, longest = NOBODY, 0, 0
    request = gpu.youngest
    while request != NOBODY:
        item = request_at(run, request)
        emitted = item.emitted + (gpu.step - item.joined_step)
        if found == NOBODY or emitted < least or (emitted == least and item.prompt > longest):
            found, least, longest = request, emitted, item.prompt
        request = np.int64(item.previous)
    return found


@called
def retract(run, gpu, queue_set, order, now_s):
    """Before a decode step put back the fewest outputs until it fits, and open a GPU that lost a request.

    Returns
    -------
    bool
        Whether admission is to be tried again at the next boundary.
    """
    if gpu.running == 0:
        _reset(run, gpu)
    if gpu.running == 0 or gpu.prefilling > 0:
        return False
    opened = gpu.gone > 0
    gpu.gone = 0
    if gpu.held + growth(run, gpu, 1) > run.capacity:
        opened = True
        while gpu.held + growth(run, gpu, 1) > run.capacity:
            preempt(run, gpu, queue_set, _fewest_outputs(run, gpu), False, order, now_s)
        outputs, allowed = 0, 0
        request = gpu.youngest
        while request != NOBODY:
            item = request_at(run, request)
            outputs += item.emitted + (gpu.step - item.joined_step)
            allowed += _allowed(run, item)
            request = np.int64(item.previous)
        gpu.ratio = min((outputs + STEPS_AHEAD * gpu.running) / max(allowed, 1), 1.0)
        gpu.ratio_step = gpu.step + 1  # this step does not lower it
        gpu.changed = True
    if opened:
        gpu.closed = False
    return opened and queue_set_at(run, queue_set).waiting > 0
