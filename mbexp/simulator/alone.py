"""The time that each request would take alone on a GPU, as predicted: what some orders sort by."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from mbexp.compiled.decorators import compiled
from mbexp.hardware.law import ITERATION_TYPE, LAW_TYPE, LatencyLaw

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]


def service_in_a_batch_s(law: LatencyLaw, prompt_tokens: IntArray, predicted_tokens: IntArray) -> FloatArray:
    """Return the time of each request in a batch of its own, shape (n,)."""
    price = law.require_batch()
    service_s = np.empty(len(prompt_tokens))
    _in_a_batch(price.function, price.parameters, prompt_tokens, predicted_tokens, service_s)
    return service_s


def service_by_iterations_s(law: LatencyLaw, prompt_tokens: IntArray, predicted_tokens: IntArray) -> FloatArray:
    """Return the time of each request alone on a GPU: its whole prompt, then a decode step a token; shape (n,)."""
    price = law.require_iteration()
    service_s = np.empty(len(prompt_tokens))
    _by_iterations(price.function, price.parameters, prompt_tokens, predicted_tokens, service_s)
    return service_s


_i4, _f8 = types.Array(types.int32, 1, "C"), types.Array(types.float64, 1, "C")


@compiled(types.void(LAW_TYPE, _f8, _i4, _i4, _f8), _nrt=False)
def _in_a_batch(law, parameters, prompt, predicted, service_s):
    for request in range(len(service_s)):
        length, output = int(prompt[request]), int(predicted[request])
        service_s[request], _, _ = law(parameters, 1, length, output, length + output, length, output)


@compiled(types.void(ITERATION_TYPE, _f8, _i4, _i4, _f8), _nrt=False)
def _by_iterations(iteration, parameters, prompt, predicted, service_s):
    for request in range(len(service_s)):
        length, left = int(prompt[request]), int(predicted[request]) - 1
        total_s, _, _ = iteration(parameters, 0, 0, length, float(length) * length, 0.0, 1)
        context = length + 1
        while left > 0:
            step_s, growth_s, alike = iteration(parameters, 1, context, 0, 0.0, 0.0, 0)
            steps = left if alike >= left else max(int(alike), 1)
            total_s += steps * step_s + growth_s * (0.5 * steps * (steps - 1))
            context += steps
            left -= steps
        service_s[request] = total_s
