"""Who gives way where memory is full (docs/semantics/memory.md#preemption)."""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called, inlined
from mbexp.compiled.variants import variant
from mbexp.simulator.continuous.extended import PART
from mbexp.simulator.continuous.layout import DECODING, NOBODY, request_at
from mbexp.simulator.continuous.requests import preempt, preempt_any


@called
def _least_expected(run, gpu):
    """Return the request with the smallest estimate of its output, of equals the one admitted last.

    An estimate is the prediction, or what the request has emitted if that is more.
    """
    found, least = NOBODY, np.int64(0)
    request = gpu.youngest
    while request != NOBODY:
        item = request_at(run, request)
        expected = np.int64(item.emitted)
        if item.stage == DECODING:
            expected += gpu.step - item.joined_step
        expected = max(expected, np.int64(item.predicted))
        if found == NOBODY or expected < least:
            found, least = request, expected
        request = np.int64(item.previous)
    return found


@called
def _let_one_go(run, gpu, queue_set, order, now_s):
    """Preempt the request that gives way: the smallest estimate, or who was admitted last."""
    if run.least_goes:
        preempt_any(run, gpu, queue_set, _least_expected(run, gpu), order, now_s)
    else:
        preempt(run, gpu, queue_set, gpu.youngest, True, order, now_s)


@inlined
def _let_youngest_go(run, gpu, queue_set, order, now_s):
    """Preempt the request that was admitted last."""
    preempt(run, gpu, queue_set, gpu.youngest, True, order, now_s)


@inlined
def _admits_at_once(run):
    """Return whether a GPU admits in a start in which somebody gave way: all who stay decode meanwhile."""
    return run.least_goes and run.chunked and not run.alone


@inlined
def _admits_later(run):
    """Return that a GPU admits nobody in a start in which somebody gave way."""
    return False


let_one_go = variant(PART, _let_one_go, _let_youngest_go)
admits_at_once = variant(PART, _admits_at_once, _admits_later)
