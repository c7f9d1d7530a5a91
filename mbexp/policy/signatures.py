"""The three kinds of policy function, as compiled signatures: a function of one of them can be named in the config."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from mbexp.compiled.decorators import compiled

_float = types.float64
_int = types.int64
_floats = types.Array(types.float64, 1, "C")
_ints = types.Array(types.int64, 1, "C")

# batch_size(parameters, state, size, sum_tokens, sum_tokens_squared, step_s) -> limit
#   Called once with size 0 before the run, then after each completed batch of the queue that owns `state`. Returns the
#   most requests that the queue's next batch may hold (at least 1). `state` starts as zeros; its slots 0-3 are stored
#   with each batch as b_mem, b_sla, controller_low, controller_high.
BATCH_SIZE_SIGNATURE = _int(_floats, _floats, _int, _float, _float, _float)

# select(now_s, ready, ready_count, waiting, limit, head_arrival_s, head_index, formed_s, memory) -> queue
#   `ready[:ready_count]` are the queues that may send a batch, ascending. The other arrays have one entry for each
#   queue: waiting requests, largest batch, arrival and place in the trace of the head, instant formed. `memory` starts
#   as zeros and is the rule's own. Must return one of the ready queues.
SELECT_SIGNATURE = _int(_float, _ints, _int, _ints, _ints, _floats, _ints, _floats, _floats)

# fill(parameters, waiting, limit, head_arrival_s, filling_arrival_s) -> formed_s
#   Instant at which a non-empty queue may send its batch; infinity where more requests must come first.
#   `filling_arrival_s` is the arrival of the request that makes the batch full, infinity while it is not.
FILL_SIGNATURE = _float(_floats, _int, _int, _float, _float)

BATCH_SIZE_TYPE = types.FunctionType(BATCH_SIZE_SIGNATURE)
SELECT_TYPE = types.FunctionType(SELECT_SIGNATURE)
FILL_TYPE = types.FunctionType(FILL_SIGNATURE)

SELECTION_MEMORY = 64  # floats a selection rule may keep beyond one for each queue

Function = Callable[..., Any]


def bin_selection(function: Function) -> Function:
    """Compile a bin-selection rule; a decorator. Arguments and result: see `SELECT_SIGNATURE`."""
    return compiled(SELECT_SIGNATURE)(function)


def batch_fill(function: Function) -> Function:
    """Compile a fill rule; a decorator. Arguments and result: see `FILL_SIGNATURE`."""
    return compiled(FILL_SIGNATURE)(function)


def batch_size(function: Function) -> Function:
    """Compile a batch-size rule; a decorator. Arguments and result: see `BATCH_SIZE_SIGNATURE`."""
    return compiled(BATCH_SIZE_SIGNATURE)(function)
