"""GPU time that the requests of a run need while every GPU runs all that it may: the numerator of the offered load."""

from __future__ import annotations

import numpy as np

from mbexp.hardware.law import LatencyLaw
from mbexp.simulator.continuous.outcome import ContinuousOutcome
from mbexp.simulator.continuous.setup import ContinuousRules
from mbexp.simulator.tally import tallied


def work_at_full_occupancy_s(outcome: ContinuousOutcome, law: LatencyLaw, rules: ContinuousRules) -> float:
    """Return the GPU-seconds that the accepted requests need while as many run on each GPU as may, of average length.

    As many: the mean limit that was in force, or what memory holds of requests as they are met on a GPU, where a
    long one is met longer. Prefills are priced one at a time, or, in chunks, in mixed steps filled to the budget; of
    that budget, decoding takes no more than its share of the tokens, since no request decodes before its prefill.
    """
    prompt = outcome.prompt_tokens.astype(np.float64)
    skipped = outcome.prefix.skipped_at_first.astype(np.int64) if outcome.prefix else np.zeros(len(prompt), np.int64)
    computed = prompt - skipped
    squares = prompt * prompt - skipped * skipped.astype(np.float64)
    output = outcome.output_tokens.astype(np.float64)
    predicted = outcome.predicted_tokens.astype(np.float64)
    stay = output.sum()
    context = float((prompt * output + 0.5 * output * output).sum() / stay)
    if rules.grows:
        held = context + 0.5 * (rules.unit_tokens if rules.kv == "paged" else 0)
    else:
        held = float(((prompt + np.maximum(predicted, output)) * output).sum() / stay)
    gpus = outcome.gpus
    busy_s = float(gpus["busy_s"].sum())
    limit = float(gpus["limit_s"].sum()) / busy_s if busy_s else 1.0
    size = max(1, int(min(limit, outcome.kv_capacity_tokens / held) + 0.5))
    if rules.prefill == "chunked":
        decodes = float((output - 1).sum())
        share = rules.token_budget * decodes / (decodes + float(computed.sum()))
        size = max(1, min(size, int(share + 0.5), rules.token_budget - 1))
    steps = float((output - 1).sum()) / size

    def price(decoding: int, tokens: float, squares: float, prompts: int) -> float:
        return law.iteration_s(decoding, int(decoding * context), int(tokens), squares, prompts)

    step_s = price(size, 0, 0.0, 0)
    if rules.prefill != "chunked":
        # Prompts with what they skip, as one number each: the sort of two rows takes longer than the event loop.
        several = int(skipped.max(initial=0)) + 1
        pairs, number = tallied(outcome.prompt_tokens.astype(np.int64) * several + skipped)
        met = zip((pairs // several).tolist(), (pairs % several).tolist(), strict=True)
        prefill_s = [price(0, p - h, float(p) ** 2 - float(h) ** 2, 1) for p, h in met]
        return steps * step_s + float(np.dot(prefill_s, number))
    chunk = max(rules.token_budget - size, 1)
    mixed = float(computed.sum()) / chunk
    mean_squares = float(squares.sum() / computed.sum()) * chunk
    mixed_s = price(size, chunk, mean_squares, max(1, round(chunk / float(computed.mean()))))
    return mixed * mixed_s + max(steps - mixed, 0.0) * step_s
