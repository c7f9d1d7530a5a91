"""The compiled closed form, apart from its parameters: only a run that prices iterations compiles it."""

from __future__ import annotations

import numpy as np

from mbexp.hardware.law import iteration_price


@iteration_price
def closed_form(parameters, decodes, context_tokens, prompt_tokens, prompt_squares, square_growth, prompts_ended):  # type: ignore[no-untyped-def]
    """Parameters: the fields of `ClosedForm`, in their order (mbexp/hardware/iteration.py)."""
    seconds = parameters[0]
    compute_s = 0.0
    growth_s = 0.0
    context_s = parameters[4]
    if prompt_tokens > 0:
        context_s += parameters[10]
    if decodes > 0:
        seconds += parameters[1] * decodes + parameters[8] * (decodes - 1) / decodes
        compute_s = parameters[3] * decodes
        growth_s = context_s * decodes
    if prompt_tokens > 0:
        compute_s += parameters[5] * prompt_tokens + parameters[6] * prompts_ended
        seconds += parameters[9] + parameters[7] * prompt_squares
        growth_s += parameters[7] * square_growth
        if decodes > 0:
            seconds += parameters[13]
    if parameters[11] > 0.0:  # the same in like iterations, whose sequences and prompt tokens are as many
        seconds += parameters[11] * (1.0 - parameters[12] ** float(decodes + prompt_tokens))
    return seconds + max(parameters[2], compute_s) + context_s * context_tokens, growth_s, np.inf
