"""The two kinds of policy function that only continuous batching has, as compiled signatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from mbexp.compiled.decorators import compiled

_float = types.float64
_int = types.int64
_floats = types.Array(types.float64, 1, "C")
_ints = types.Array(types.int64, 1, "C")

# running_limit(parameters, state, running, waiting, finished, sum_tokens, sum_tokens_squared, tokens, gap_sum_s, steps)
#     -> limit
#   Most requests that one GPU may run (at least 1). Called once with `steps` = 0 before the run, then each time the GPU
#   has made another `interval_steps` decode steps. `running`: requests on the GPU now; `waiting`: requests that it
#   could take, and those in prefill on it. Since the last call: `finished` requests, with the sum of their prompt +
#   output and of its square; `tokens` that came out of `steps` decode steps, and the sum of the gaps before them.
#   `state` starts as zeros and is the GPU's own.
RUNNING_LIMIT_SIGNATURE = _int(_floats, _floats, _int, _int, _int, _float, _float, _int, _float, _int)

# assign(first, count, share, requests, kv_tokens, need_tokens, draw_1, draw_2, memory) -> gpu
#   The request may be given to the GPUs `first` ... `first + count - 1`, which are number `share` of the shares of GPUs
#   (0 where all GPUs serve all bins). `requests` and `kv_tokens` have one entry a GPU: requests given to it and not
#   finished, and the sum of their prompt + predicted output; `need_tokens` is that of this request. The draws are
#   uniform numbers of this request, in [0, 1). `memory` starts as zeros and is the rule's own, one entry a share first.
ASSIGN_SIGNATURE = _int(_int, _int, _int, _ints, _ints, _int, _float, _float, _floats)

RUNNING_LIMIT_TYPE = types.FunctionType(RUNNING_LIMIT_SIGNATURE)
ASSIGN_TYPE = types.FunctionType(ASSIGN_SIGNATURE)

ASSIGN_MEMORY = 64  # floats an assignment rule may keep beyond one for each share

Function = Callable[..., Any]


def running_limit(function: Function) -> Function:
    """Compile a limit on running requests; a decorator. Arguments and result: see `RUNNING_LIMIT_SIGNATURE`."""
    return compiled(RUNNING_LIMIT_SIGNATURE)(function)


def assignment(function: Function) -> Function:
    """Compile a rule that gives requests to GPUs; a decorator. Arguments and result: see `ASSIGN_SIGNATURE`."""
    return compiled(ASSIGN_SIGNATURE)(function)
