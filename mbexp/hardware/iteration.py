"""The price of one iteration as a compiled function: the closed form of `IterationPrice`, or another law's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

from mbexp.compiled.decorators import compiled
from mbexp.errors import UserError
from mbexp.hardware.law import IterationPrice, LatencyLaw

FloatArray = npt.NDArray[np.float64]

# iteration(parameters, decodes, context_tokens, prompt_tokens, prompt_squares, square_growth, prompts_ended)
#     -> (seconds, growth_s, iterations)
# The price of an iteration of `decodes` sequences with `context_tokens` in total and `prompt_tokens` of prefill, whose
# chunks of n tokens after x have sum((x + n)^2 - x^2) = `prompt_squares`; `prompts_ended` prompts end in it. Repeated,
# the context grows by `decodes` and the squares by `square_growth` each time, and the price by `growth_s`; that holds
# for `iterations` of them, this one included.
ITERATION_SIGNATURE = types.UniTuple(types.float64, 3)(
    types.Array(types.float64, 1, "C"), *[types.int64] * 3, types.float64, types.float64, types.int64
)
ITERATION_TYPE = types.FunctionType(ITERATION_SIGNATURE)


def iteration_law(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a price by iteration; a decorator. Arguments and result: see `ITERATION_SIGNATURE`."""
    return compiled(ITERATION_SIGNATURE)(function)


@iteration_law
def closed_form(parameters, decodes, context_tokens, prompt_tokens, prompt_squares, square_growth, prompts_ended):  # type: ignore[no-untyped-def]
    """Parameters: the fields of `IterationPrice`, in their order."""
    seconds = parameters[0]
    compute_s = 0.0
    growth_s = 0.0
    if decodes > 0:
        seconds += parameters[1] * decodes + parameters[8] * (decodes - 1) / decodes
        compute_s = parameters[3] * decodes
        growth_s = parameters[4] * decodes
    if prompt_tokens > 0:
        compute_s += parameters[5] * prompt_tokens + parameters[6] * prompts_ended
        seconds += parameters[9] + parameters[7] * prompt_squares
        growth_s += parameters[7] * square_growth
    return seconds + max(parameters[2], compute_s) + parameters[4] * context_tokens, growth_s, np.inf


def compiled_iteration(law: LatencyLaw) -> tuple[Any, FloatArray]:
    """Return the compiled price by iteration of `law`, and its parameters.

    Raises
    ------
    UserError
        If the law has no price by iteration, or a decode step takes no time.
    """
    price = law.iteration
    if price is None:
        raise UserError(
            f"execution=continuous: the latency law {law.name} has no price for a decode step; use "
            "gpu.law.kind=linear, roofline, affine or a grid, or give your law an `iteration` "
            "(mbexp/hardware/laws/own.py)"
        )
    if not price.decode_step_s(1, 1) > 0:
        raise UserError(f"execution=continuous: under the latency law {law.name} a decode step takes no time")
    if isinstance(price, IterationPrice):
        return closed_form, np.array(dataclasses.astuple(price), np.float64)
    from mbexp.hardware.iteration_grid import interpolated  # its import compiles, which other laws need not wait for

    return interpolated, price.parameters
