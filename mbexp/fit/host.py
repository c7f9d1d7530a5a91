"""The host's time in a step, which kernel tables do not hold: fitted to measured time per token at several loads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mbexp.fit.loads import Loads
from mbexp.fit.steps import nonnegative
from mbexp.hardware.law import LatencyLaw

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class HostFit:
    """The host's terms, both >= 0, and errors of the time per token in percent, (predicted - measured) / measured.

    Attributes
    ----------
    host_ms, host_us_per_sequence : float
        Keys of ``gpu.law`` with ``kind: step``.
    before_pct, after_pct, left_out_pct : float64 arrays, shape (n,)
        Without host terms; with them; and each load predicted by a fit to the others.
    request_overhead_ms : float or None
        Of the time to the first token of one user alone, what the prefill and the host's time do not explain, at least
        0; None where no load has one user and such a time.
    """

    host_ms: float
    host_us_per_sequence: float
    before_pct: FloatArray
    after_pct: FloatArray
    left_out_pct: FloatArray
    request_overhead_ms: float | None = None


def kernel_tpot_ms(law: LatencyLaw, loads: Loads) -> FloatArray:
    """Return the time per token that a law says of closed loops in which every user's request is running.

    In a step b requests decode, with half of their output in context. A request starts in b of `output_tokens` steps,
    or in every one where there are more; such a step holds its prompt too.
    """
    found = []
    for b, prompt, output in zip(loads.concurrency, loads.prompt_tokens, loads.output_tokens, strict=True):
        context = b * (prompt + 0.5 * output)
        share = min(1.0, b / output)
        tokens = prompt * b / output / share
        alone_s = law.iteration_s(b, context)
        mixed_s = law.iteration_s(b, context, tokens, tokens * prompt, tokens / prompt)
        found.append(1e3 * ((1 - share) * alone_s + share * mixed_s))
    return np.array(found)


def fit_host(law: LatencyLaw, loads: Loads) -> HostFit:
    """Fit ``host_ms + host_us_per_sequence b`` to what the law's times per token lack, by relative errors."""
    kernels_ms = kernel_tpot_ms(law, loads)
    measured = loads.tpot_ms
    columns = np.stack([np.ones(len(measured)), loads.concurrency], axis=1)

    def fitted(rows: npt.NDArray[np.bool_]) -> FloatArray:
        weight = 1 / measured[rows]
        terms = nonnegative(columns[rows] * weight[:, None], (measured - kernels_ms)[rows] * weight)
        return np.array(terms)

    every = np.ones(len(measured), np.bool_)
    terms = fitted(every)
    left_out_ms = np.empty(len(measured))
    for index in range(len(measured)):
        others = every.copy()
        others[index] = False
        left_out_ms[index] = kernels_ms[index] + columns[index] @ fitted(others)
    after_ms = kernels_ms + columns @ terms

    def error_pct(predicted_ms: FloatArray) -> FloatArray:
        return 100 * (predicted_ms / measured - 1)

    return HostFit(
        float(terms[0]), 1e3 * float(terms[1]), error_pct(kernels_ms), error_pct(after_ms), error_pct(left_out_ms),
        _request_overhead_ms(law, loads, float(terms[0])),
    )  # fmt: skip


def _request_overhead_ms(law: LatencyLaw, loads: Loads, host_ms: float) -> float | None:
    """Return the median of what the first tokens of users who are alone take beyond their prefill, at least 0."""
    if loads.ttft_ms is None:
        return None
    alone = (loads.concurrency == 1) & np.isfinite(loads.ttft_ms)
    if not alone.any():
        return None
    prefill_ms = [1e3 * law.prefill_s(1, round(prompt)) for prompt in loads.prompt_tokens[alone]]
    return max(0.0, float(np.median(loads.ttft_ms[alone] - np.array(prefill_ms))) - host_ms)
