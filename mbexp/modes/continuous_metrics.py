"""From the records of a continuous run to the flat summary: the keys of the other mode, and what only this one has."""

from __future__ import annotations

import numpy as np

from mbexp.config.keys import Config
from mbexp.hardware.law import LatencyLaw
from mbexp.results.metrics import Measured, Summary, load_metrics, request_metrics, warm_up_requests
from mbexp.simulator.continuous.outcome import ContinuousRecords


def summarize_continuous(config: Config, records: ContinuousRecords, law: LatencyLaw) -> Summary:
    """Return the flat summary of a continuous simulation; NaN where a metric does not exist."""
    first = warm_up_requests(config, records.arrival_s)
    measured = Measured(
        first=first,
        arrival_s=records.arrival_s[first:],
        start_s=records.start_s[first:],
        first_token_s=records.first_token_s[first:],
        finish_s=records.finish_s[first:],
    )
    output = records.output_tokens[first:]
    decode_s = measured.finish_s - measured.first_token_s
    meets_token_sla = decode_s * 1000 <= config.sla.token_ms * (output - 1)
    return {
        **request_metrics(config, measured, output, meets_token_sla),
        **_token_metrics(records),
        **_gpu_metrics(records, measured),
        **load_metrics(
            records.arrival_s,
            records.num_gpus,
            lambda: work_at_full_occupancy_s(config, records, law),
            lambda instants_s: np.searchsorted(np.sort(records.start_s), instants_s),
        ),
    }


def _token_metrics(records: ContinuousRecords) -> Summary:
    gaps = records.gaps
    return {
        "tbt_mean_ms": gaps.mean_s * 1000,
        "tbt_p99_ms": gaps.quantile_s(0.99) * 1000,
        "token_sla_violation_pct": 100.0 * gaps.above / gaps.count if gaps.count else np.nan,
        "tbt_max_ms": gaps.max_s * 1000 if gaps.count else np.nan,
    }


def _gpu_metrics(records: ContinuousRecords, measured: Measured) -> Summary:
    gpus = records.gpus
    count = len(records.arrival_s)
    busy_s, steps = float(gpus["busy_s"].sum()), int(gpus["step"].sum())
    mixed = int(gpus["mixed_steps"].sum())
    span_s = measured.end_s - float(measured.arrival_s[0]) if len(measured.arrival_s) else 0.0
    lasts_s = float(records.finish_s.max() - records.arrival_s[0]) if count else 0.0
    memory_s = records.num_gpus * records.kv_capacity_tokens * lasts_s
    measured_busy_s = busy_s - float(gpus["busy_before_s"].sum())
    return {
        "num_batches": steps + int(gpus["prefills"].sum()),
        "batch_size_mean": records.mean_decoding,
        "batch_size_max": int(gpus["running_max"].max()) if count else np.nan,
        "padding_waste_pct": 0.0 if count else np.nan,
        "kv_overflow_pct": 0.0 if count else np.nan,
        "gpu_utilization_pct": 100.0 * measured_busy_s / (records.num_gpus * span_s) if span_s else np.nan,
        "extrapolated_batches_pct": 100.0 * int(gpus["outside_steps"].sum()) / steps if steps else 0.0,
        "running_mean": float(gpus["running_s"].sum()) / busy_s if busy_s else np.nan,
        "limit_mean": float(gpus["limit_s"].sum()) / busy_s if busy_s else np.nan,
        "preemptions": int(records.preemptions.sum(dtype=np.int64)),
        "preempted_requests_pct": 100.0 * float(np.mean(records.preemptions > 0)) if count else np.nan,
        "outgrown_predictions": records.outgrown,
        "recomputed_tokens": records.recomputed_tokens,
        "copied_tokens": int(gpus["copied_tokens"].sum()),
        "kv_use_mean_pct": 100.0 * float(gpus["kv_token_s"].sum()) / memory_s if memory_s else np.nan,
        "kv_held_max_pct": 100.0 * int(gpus["held_max"].max()) * records.block_tokens / records.kv_capacity_tokens,
        "prefill_time_pct": 100.0 * float(gpus["prefill_s"].sum()) / busy_s if busy_s else np.nan,
        "copy_time_pct": 100.0 * float(gpus["copy_s"].sum()) / busy_s if busy_s else np.nan,
        "mixed_steps_pct": 100.0 * mixed / steps if steps else np.nan,
    }


def work_at_full_occupancy_s(config: Config, records: ContinuousRecords, law: LatencyLaw) -> float:
    """Return the GPU-seconds that the accepted requests need while as many run on each GPU as may, of average length.

    As many: the mean limit that was in force, or what memory holds of requests as they are met on a GPU, where a
    long one is met longer. Prefills are priced one at a time, or, in chunks, in mixed steps filled to the budget; of
    that budget, decoding takes no more than its share of the tokens, since no request decodes before its prefill.
    """
    prompt = records.prompt_tokens.astype(np.float64)
    output = records.output_tokens.astype(np.float64)
    predicted = records.predicted_tokens.astype(np.float64)
    stay = output.sum()
    context = float((prompt * output + 0.5 * output * output).sum() / stay)
    if config.execution.kv == "paged":
        held = context + 0.5 * config.execution.block_tokens
    else:
        held = float(((prompt + np.maximum(predicted, output)) * output).sum() / stay)
    gpus = records.gpus
    busy_s = float(gpus["busy_s"].sum())
    limit = float(gpus["limit_s"].sum()) / busy_s if busy_s else 1.0
    size = max(1, int(min(limit, records.kv_capacity_tokens / held) + 0.5))
    if config.execution.prefill == "chunked":
        decodes = float((output - 1).sum())
        share = config.execution.token_budget * decodes / (decodes + float(prompt.sum()))
        size = max(1, min(size, int(share + 0.5), config.execution.token_budget - 1))
    steps = float((output - 1).sum()) / size

    def price(decoding: int, tokens: float, squares: float, prompts: int) -> float:
        return law.iteration_s(decoding, int(decoding * context), int(tokens), squares, prompts)

    step_s = price(size, 0, 0.0, 0)
    if config.execution.prefill == "first":
        lengths, number = np.unique(records.prompt_tokens, return_counts=True)
        prefill_s = [price(0, length, float(length) ** 2, 1) for length in lengths.tolist()]
        return steps * step_s + float(np.dot(prefill_s, number))
    chunk = max(config.execution.token_budget - size, 1)
    mixed = float(prompt.sum()) / chunk
    mean_squares = float((prompt * prompt).sum() / prompt.sum()) * chunk
    mixed_s = price(size, chunk, mean_squares, max(1, round(chunk / float(prompt.mean()))))
    return mixed * mixed_s + max(steps - mixed, 0.0) * step_s
