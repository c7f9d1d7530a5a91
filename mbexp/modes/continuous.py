"""A continuous run, from a checked configuration, a trace and its predictions to records, summary and warnings."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mbexp.config.keys import Config, ExecutionConfig, GpuConfig
from mbexp.errors import UserError
from mbexp.hardware.law import LatencyLaw
from mbexp.modes.continuous_metrics import summarize_continuous
from mbexp.policy.continuous import build_continuous_policy
from mbexp.prediction import Prediction
from mbexp.results.metrics import Summary, warm_up_requests
from mbexp.simulator.continuous import invariants as continuous_invariants
from mbexp.simulator.continuous.outcome import ContinuousRecords
from mbexp.simulator.continuous.serve import ContinuousRules, continuous
from mbexp.workload.trace import Trace

ASSIGNMENT_STREAM = 4  # random stream of the assignment rules
LOGGED_SEGMENTS = 500_000  # rows of batches.parquet at most


def run_continuous(
    config: Config, trace: Trace, prediction: Prediction, law: LatencyLaw, kv_capacity_tokens: int
) -> tuple[ContinuousRecords, Summary]:
    """Run one configuration with ``execution=continuous``.

    Returns
    -------
    records : ContinuousRecords
    summary : dict
        Counts of requests aside, every metric of docs/metrics.md.

    Raises
    ------
    UserError
        Before the run, on a configuration that cannot work.
    """
    if config.gpu.noise.kind != "none":
        raise UserError(
            f"gpu.noise.kind={config.gpu.noise.kind}: noise is that of whole batches; execution=continuous has none"
        )
    policy = build_continuous_policy(config.scheduler, config.sla, config.execution, kv_capacity_tokens)
    one_queue = config.scheduler.queue == "fifo"
    draws = None
    if policy.needs_draws:
        rng = np.random.default_rng(np.random.SeedSequence([config.seed, ASSIGNMENT_STREAM]))
        draws = rng.random((len(trace), 2))
    queue_of = np.zeros(len(trace), np.uint16) if one_queue else prediction.bin_of
    predicted = prediction.tokens
    if config.execution.kv == "reserve" and config.execution.reserve_for == "longest_of_bin":
        predicted = longest_of_bin(predicted, queue_of)
    log = min(8 * len(trace) + 1000, LOGGED_SEGMENTS) if config.output.batches else 0
    records = continuous(
        trace.arrival_s,
        trace.prompt_tokens,
        trace.output_tokens,
        predicted,
        queue_of,
        1 if one_queue else prediction.bins.k,
        config.gpu.count,
        kv_capacity_tokens,
        law,
        policy,
        execution_rules(config.execution, config.gpu),
        config.sla.token_ms / 1000,
        draws,
        log,
        warm_up_requests(config, trace.arrival_s),
    )
    summary = {
        **continuous_invariants.check(records, len(trace), policy.limit_max, policy.central),
        **summarize_continuous(config, records, law),
    }
    return records, summary


def longest_of_bin(predicted: npt.NDArray[np.int32], queue_of: npt.NDArray[np.uint16]) -> npt.NDArray[np.int32]:
    """Return for each request the longest prediction in its queue: all that a server knows who knows only the bin."""
    longest = np.zeros(int(queue_of.max(initial=0)) + 1, np.int32)
    np.maximum.at(longest, queue_of, predicted)
    return longest[queue_of]


def execution_rules(execution: ExecutionConfig, gpu: GpuConfig) -> ContinuousRules:
    """Return the rules of the loop that the configuration names."""
    return ContinuousRules(
        prefill=execution.prefill,
        token_budget=execution.token_budget,
        prefill_max_tokens=execution.prefill_max_tokens,
        kv=execution.kv,
        block_tokens=execution.block_tokens,
        preemption=execution.preemption,
        swap_token_s=gpu.kv_bytes_per_token / (execution.swap_gb_per_s * 1e9),
        underprediction=execution.underprediction,
        gpu_serves=execution.gpu_serves,
        turn_requests=execution.turn_requests,
        oversized_prompt=execution.oversized_prompt,
    )


def continuous_warnings(config: Config, records: ContinuousRecords, law: LatencyLaw, summary: Summary) -> list[str]:
    """Return what a reader of a continuous run must know, besides what holds of any run."""
    found: list[str] = []
    step_s = law.decode_step_s(1, 2)
    where = f"sla.token_ms={config.sla.token_ms:g}"
    if step_s > config.sla.token_ms / 1000:
        found.append(
            f"{where} cannot be met: under this law a decode step of one request already takes {1000 * step_s:.4g} ms"
        )
    elif summary["tbt_max_ms"] <= config.sla.token_ms:
        found.append(f"{where} did not bind: no gap between two tokens was longer than {summary['tbt_max_ms']:.4g} ms")
    if config.scheduler.fill != "greedy":
        found.append(
            f"scheduler.fill={config.scheduler.fill} means nothing under execution=continuous: nobody waits for a "
            "batch to fill"
        )
    found += law.require_iteration().notes
    if records.num_segments > len(records.segments) > 0:
        found.append(
            f"batches.parquet holds the first {len(records.segments):,} of {records.num_segments:,} runs of iterations"
        )
    if summary["preemptions"]:
        found.append(
            f"preemption: {summary['preempted_requests_pct']:.1f} % of requests lost their place, "
            f"{summary['preemptions']:,} times in all; {summary['recomputed_tokens']:,} tokens were computed again"
        )
    if not math.isnan(summary["extrapolated_batches_pct"]) and summary["extrapolated_batches_pct"] > 0:
        sizes, lengths = law.batch_size_range, law.length_range_tokens
        found.append(
            f"extrapolation: {summary['extrapolated_batches_pct']:.1f} % of decode steps lie outside the range of the "
            f"latency law (batch size {sizes[0]}-{sizes[1]}, length {lengths[0]}-{lengths[1]} tokens)"
        )
    return found
