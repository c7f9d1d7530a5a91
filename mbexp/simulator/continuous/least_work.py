"""A bound below the GPU time that requests need in iterations, whatever the scheduler."""

from __future__ import annotations

import numpy as np

from mbexp.hardware.closed_form import closed_form
from mbexp.hardware.iteration import ClosedForm
from mbexp.hardware.law import LatencyLaw
from mbexp.simulator.continuous.outcome import ContinuousOutcome
from mbexp.simulator.continuous.setup import ContinuousRules


def least_work_s(outcome: ContinuousOutcome, law: LatencyLaw, rules: ContinuousRules, limit_max: int) -> float:
    """Return GPU-seconds below which no schedule of iterations serves the accepted requests.

    Every prompt token is computed and every output token but the first is decoded at least once, with the context that
    it has. What an iteration costs for each of these adds up over iterations. What it costs as such is paid at least
    as often as there must be iterations: an iteration decodes for at most `limit_max` requests, and never holds more
    tokens than the memory or, in chunks, computes more than the budget. 0 where the price is not the closed form with
    no negative part, and where prefixes are cached, for then not every prompt token is computed.
    """
    price = law.require_iteration()
    if (
        outcome.prefix
        or price.function is not closed_form
        or np.any(price.parameters < 0)
        or not len(outcome.arrival_s)
    ):
        return 0.0
    form = ClosedForm(*price.parameters.tolist())
    prompt = outcome.prompt_tokens.astype(np.float64)
    further = outcome.output_tokens.astype(np.float64) - 1.0
    tokens, squares, count = float(prompt.sum()), float((prompt * prompt).sum()), float(len(prompt))
    decodes = float(further.sum())
    contexts = float((further * prompt + 0.5 * further * (further + 1.0)).sum())  # p + 1 .. p + o - 1
    steps = max(decodes / limit_max, contexts / outcome.kv_capacity_tokens)
    work_s = form.prefill_token_s * tokens + form.prefill_sequence_s * count
    linear_s = form.sequence_s * decodes + form.context_s * contexts + form.prefill_square_s * squares
    if rules.prefill != "chunked":
        largest = outcome.kv_capacity_tokens if rules.prefill == "first" else rules.token_budget
        prefills = max(count / limit_max if rules.prefill == "first" else 0.0, tokens / largest)
        decode_s = steps * form.fixed_s + max(steps * form.floor_s, form.compute_s * decodes)
        prefill_s = prefills * (form.fixed_s + form.prefill_extra_s) + max(prefills * form.floor_s, work_s)
        return decode_s + prefill_s + linear_s
    steps = max(steps, (decodes + tokens) / rules.token_budget)
    compute_s = max(steps * form.floor_s, form.compute_s * decodes + work_s)
    return steps * form.fixed_s + compute_s + form.prefill_extra_s * tokens / rules.token_budget + linear_s
