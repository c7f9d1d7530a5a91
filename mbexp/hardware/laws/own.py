"""A latency law of your own, named in the configuration by its dotted path.

``gpu.law.kind=mylaws.crowded`` names either of two things in a Python file of yours that imports mbexp:

1. A compiled function of the signature in `mbexp.hardware.law`, which is handed the numbers of ``gpu.law.parameters``::

       from mbexp.hardware.law import latency_law

       @latency_law
       def crowded(parameters, batch_size, longest_prompt, longest_output, longest_total, sum_prompt, sum_output):
           step_s = parameters[0] + parameters[1] * batch_size**1.5
           first_token_s = 1e-5 * sum_prompt
           return first_token_s + longest_output * step_s, first_token_s, step_s

   It returns, in seconds, the time of the whole batch, the time to the first token and the time between tokens; none
   may be negative. It runs at full speed, and the event loop is not compiled again. Its ranges are
   ``gpu.law.batch_size_range`` and ``gpu.law.length_range_tokens``.
2. A function of one argument, the `GpuConfig`, that returns a `LatencyLaw`: for a law that reads a file, or that also
   has a price by iteration.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from numba import config

from mbexp.config.keys import GpuConfig
from mbexp.config.plugins import load_object
from mbexp.errors import UserError
from mbexp.hardware.law import LAW_SIGNATURE, UNBOUNDED, LatencyLaw, as_range


def build(gpu: GpuConfig) -> LatencyLaw:
    """Return the law at the dotted path ``gpu.law.kind``.

    Raises
    ------
    UserError
        If there is nothing there, or it is neither a compiled law nor a function of the `GpuConfig`.
    """
    law = gpu.law
    where = f"gpu.law.kind={law.kind}"
    found = load_object("gpu.law.kind", law.kind)
    if _is_law(found):
        return LatencyLaw(
            name=gpu.name,
            function=found,
            parameters=np.array(law.parameters, dtype=np.float64),
            provenance=law.provenance or f"the law {law.kind} of the user",
            batch_size_range=as_range(law.batch_size_range, UNBOUNDED),
            length_range_tokens=as_range(law.length_range_tokens, UNBOUNDED),
            length=law.length,
        )
    if not inspect.isfunction(found) or len(inspect.signature(found).parameters) != 1:
        raise UserError(
            f"{where}: neither a law decorated with mbexp.hardware.law.latency_law nor a function of one argument, "
            "the GpuConfig"
        )
    made = found(gpu)
    if not isinstance(made, LatencyLaw):
        raise UserError(f"{where}: returned {type(made).__name__}, not a LatencyLaw")
    return made


def _is_law(found: Any) -> bool:
    if config.DISABLE_JIT:  # type: ignore[attr-defined]  # decorated functions are plain ones then
        return inspect.isfunction(found) and len(inspect.signature(found).parameters) == len(LAW_SIGNATURE.args)
    return any(signature.args == LAW_SIGNATURE.args for signature in getattr(found, "nopython_signatures", []))
