"""Continuous batching: requests join and leave between two iterations (docs/semantics/iterations.md)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mbexp.config.engine_limits import note_of
from mbexp.config.execution_keys import ROUTERS, ExecutionConfig
from mbexp.config.gpu_keys import GpuConfig
from mbexp.errors import UserError
from mbexp.modes._claims import claims_of
from mbexp.prediction import interval

if TYPE_CHECKING:
    import pyarrow as pa

    from mbexp.config.keys import SlaConfig
    from mbexp.hardware.law import LatencyLaw
    from mbexp.modes.problem import Problem, Summary
    from mbexp.simulator.continuous.outcome import ContinuousOutcome, MeasuredOneByOne
    from mbexp.simulator.continuous.setup import ContinuousRules

IntArray = npt.NDArray[np.int32]

LOOP = "mbexp.simulator.continuous.loop:run_until_served"
ASSIGNMENT_STREAM = 4  # random stream of the assignment rules
ESTIMATE_STREAM = 6  # of outputs that are drawn from the history
STAND_IN = "round_robin"  # in place of a router, which the loop knows by itself
LOGGED_SEGMENTS = 500_000  # rows of batches.parquet at most
KINDS = ("empty", "decode", "prefill", "mixed", "mixed")  # by mbexp.simulator.continuous.layout
PREFILL = KINDS.index("prefill")


def simulate(problem: Problem) -> ContinuousOutcome:
    """Serve the requests iteration by iteration."""
    from mbexp.policy.build import build_policy
    from mbexp.results.metrics import warm_up_requests
    from mbexp.simulator.continuous.serve import continuous
    from mbexp.workload.shared import shared_prefixes

    config, trace, fleet = problem.config, problem.trace, problem.fleet
    if config.gpu.noise.kind != "none":
        raise UserError(
            f"gpu.noise.kind={config.gpu.noise.kind}: noise is that of whole batches; execution=continuous has none"
        )
    execution = config.execution
    if execution.prefill != "first" and not fleet.law.require_iteration().prices_chunks:
        raise UserError(
            f"execution.prefill={execution.prefill}: the law {fleet.law.name} knows whole prompts "
            "only, and a piece of one would be 16-63 % wrong; use execution.prefill=first, or a law of a step, such as "
            "gpu=h100_llama31_8b"
        )
    policy = build_policy(
        config.scheduler,
        config.sla,
        fleet.kv_capacity_tokens,
        in_batches=False,
        assignment=STAND_IN if execution.assignment in ROUTERS else execution.assignment,
    )
    predicted = problem.prediction.tokens
    if execution.kv == "reserve" and execution.reserve_for == "longest_of_bin":
        predicted = longest_of_bin(predicted, problem.queue_of)
    if execution.kv == "future" and execution.future_estimate in ("low", "high"):
        low, high = interval(config.predictor, predicted)
        predicted = low if execution.future_estimate == "low" else high
    rules = execution_rules(execution, config.gpu)
    if execution.future_estimate == "history":
        seed = int(problem.random(ESTIMATE_STREAM).integers(2**32))
        rules = dataclasses.replace(rules, estimate_seed=seed)
    return continuous(
        trace.arrival_s,
        trace.prompt_tokens,
        trace.output_tokens,
        predicted,
        problem.queue_of,
        problem.num_queues,
        fleet.count,
        fleet.kv_capacity_tokens,
        fleet.law,
        policy,
        rules,
        config.sla.token_s,
        problem.random(ASSIGNMENT_STREAM).random((len(trace), 2)) if policy.needs_draws else None,
        min(8 * len(trace) + 1000, LOGGED_SEGMENTS) if config.output.batches else 0,
        warm_up_requests(config, trace.arrival_s),
        trace.closed,
        None if execution.prefix_cache == "none" else shared_prefixes(trace, execution.block_tokens),
        conversation_homes(problem) if execution.assignment == "session_affinity" else None,
        claims_of(problem, policy, predicted, _alone_s),
    )


def conversation_homes(problem: Problem) -> npt.NDArray[np.float64]:
    """Return a number in [0, 1) for each request, the same for all of a conversation: where its GPU lies among all."""
    contents = problem.trace.contents
    if contents is None:
        raise UserError(
            "execution.assignment=session_affinity: the trace does not say which requests are turns of a conversation; "
            "use workload=sessions, or name the columns in workload.sessions"
        )
    root = np.arange(len(problem.trace))
    above = contents.origin.astype(np.int64)
    while np.any(above >= 0):
        below = above >= 0
        root[below] = root[above[below]]
        above[below] = above[above[below]]
    draws: npt.NDArray[np.float64] = problem.random(ASSIGNMENT_STREAM).random((len(root), 2))[root, 0]
    return draws


def _alone_s(law: LatencyLaw, prompt_tokens: IntArray, predicted_tokens: IntArray) -> npt.NDArray[np.float64]:
    from mbexp.simulator.alone import service_by_iterations_s

    return service_by_iterations_s(law, prompt_tokens, predicted_tokens)


def longest_of_bin(predicted: npt.NDArray[np.int32], queue_of: npt.NDArray[np.uint16]) -> npt.NDArray[np.int32]:
    """Return for each request the longest prediction in its queue: all that a server knows who knows only the bin."""
    longest = np.zeros(int(queue_of.max(initial=0)) + 1, np.int32)
    np.maximum.at(longest, queue_of, predicted)
    return longest[queue_of]


def execution_rules(execution: ExecutionConfig, gpu: GpuConfig) -> ContinuousRules:
    """Return the rules of the loop that the configuration names."""
    from mbexp.simulator.continuous.setup import ContinuousRules

    assert execution.token_budget is not None  # `mbexp.config.engine_limits` fills it
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
        interval_steps=execution.interval_steps,
        oversized_prompt=execution.oversized_prompt,
        admission=execution.admission,
        prefill_memory=execution.prefill_memory,
        hold_last_token=execution.hold_last_token,
        reserved_blocks=execution.reserved_blocks,
        watermark_pct=execution.watermark_pct,
        max_model_len_tokens=execution.max_model_len_tokens,
        prefix_cache=execution.prefix_cache,
        prefix_cache_blocks=execution.prefix_cache_blocks,
        prefix_cache_of=execution.prefix_cache_of,
        output_reserve=execution.output_reserve,
        conservativeness=execution.conservativeness,
        future_estimate=execution.future_estimate,
        future_history=execution.future_history,
        gives_way=execution.gives_way,
        router=execution.assignment if execution.assignment in ROUTERS else "none",
    )


def check(problem: Problem, outcome: ContinuousOutcome) -> Summary:
    """Check the invariants of iterations."""
    from mbexp.policy.build import CENTRAL, limit_max
    from mbexp.simulator.continuous import invariants

    config = problem.config
    central = config.execution.assignment == CENTRAL
    return invariants.check(outcome, len(problem.trace), limit_max(config.scheduler), central)


def meets_token_sla(problem: Problem, outcome: ContinuousOutcome, first: int) -> npt.NDArray[np.bool_]:
    """Return for each request whether its mean time between tokens meets the target."""
    if problem.config.sla.token_ms is None:
        return np.ones(len(outcome.finish_s) - first, np.bool_)
    decode_s = outcome.finish_s[first:] - outcome.first_token_s[first:]
    met: npt.NDArray[np.bool_] = decode_s * 1000 <= problem.config.sla.token_ms * (outcome.output_tokens[first:] - 1)
    return met


def metrics(problem: Problem, outcome: ContinuousOutcome, first: int) -> Summary:
    """Return the metrics of tokens, iterations, GPUs and load."""
    from mbexp.results.metrics import load_metrics
    from mbexp.simulator.continuous.full_occupancy import work_at_full_occupancy_s
    from mbexp.simulator.outcome import BEYOND_MODEL

    rules = execution_rules(problem.config.execution, problem.config.gpu)
    return {
        f"rejected_{BEYOND_MODEL}": len(outcome.rejected.get(BEYOND_MODEL, ())),
        **token_metrics(outcome, problem.config.sla.token_ms is not None),
        **gpu_metrics(outcome, outcome.measured(first)),
        **prefix_metrics(outcome),
        **load_metrics(outcome, lambda: work_at_full_occupancy_s(outcome, problem.fleet.law, rules)),
    }


def token_metrics(outcome: ContinuousOutcome, has_limit: bool) -> Summary:
    """Return the metrics of the gaps between tokens; without a limit, nothing is known of what exceeds it."""
    from mbexp.results.metrics import QUANTILES, named_quantiles

    gaps = outcome.gaps
    return {
        "tbt_mean_ms": gaps.mean_s * 1000,
        **named_quantiles("tbt", "ms", [gaps.quantile_s(share) * 1000 for share in QUANTILES.values()]),
        "token_sla_violation_pct": 100.0 * gaps.above / gaps.count if gaps.count and has_limit else np.nan,
        "tbt_max_ms": gaps.max_s * 1000 if gaps.count else np.nan,
    }


def gpu_metrics(outcome: ContinuousOutcome, measured: MeasuredOneByOne) -> Summary:
    """Return the metrics of iterations, GPUs and memory."""
    gpus = outcome.gpus
    count = len(outcome.arrival_s)
    busy_s, steps = float(gpus["busy_s"].sum()), int(gpus["step"].sum())
    mixed = int(gpus["mixed_steps"].sum())
    span_s = measured.end_s - float(measured.arrival_s[0]) if len(measured.arrival_s) else 0.0
    lasts_s = float(outcome.finish_s.max() - outcome.arrival_s[0]) if count else 0.0
    memory_s = outcome.num_gpus * outcome.kv_capacity_tokens * lasts_s
    measured_busy_s = busy_s - float(gpus["busy_before_s"].sum())
    return {
        "num_batches": steps + int(gpus["prefills"].sum()),
        "batch_size_mean": outcome.mean_decoding,
        "batch_size_max": int(gpus["running_max"].max()) if count else np.nan,
        "padding_waste_pct": 0.0 if count else np.nan,
        "kv_overflow_pct": 0.0 if count else np.nan,
        "gpu_utilization_pct": 100.0 * measured_busy_s / (outcome.num_gpus * span_s) if span_s else np.nan,
        "extrapolated_batches_pct": 100.0 * int(gpus["outside_steps"].sum()) / steps if steps else 0.0,
        "running_mean": float(gpus["running_s"].sum()) / busy_s if busy_s else np.nan,
        "limit_mean": float(gpus["limit_s"].sum()) / busy_s if busy_s else np.nan,
        "preemptions": int(outcome.preemptions.sum(dtype=np.int64)),
        "preempted_requests_pct": 100.0 * float(np.mean(outcome.preemptions > 0)) if count else np.nan,
        "outgrown_predictions": outcome.outgrown,
        "recomputed_tokens": outcome.recomputed_tokens,
        "copied_tokens": int(gpus["copied_tokens"].sum()),
        "kv_use_mean_pct": 100.0 * float(gpus["kv_token_s"].sum()) / memory_s if memory_s else np.nan,
        "kv_held_max_pct": 100.0 * int(gpus["held_max"].max()) * outcome.block_tokens / outcome.kv_capacity_tokens,
        "prefill_time_pct": 100.0 * float(gpus["prefill_s"].sum()) / busy_s if busy_s else np.nan,
        "copy_time_pct": 100.0 * float(gpus["copy_s"].sum()) / busy_s if busy_s else np.nan,
        "mixed_steps_pct": 100.0 * mixed / steps if steps else np.nan,
    }


def prefix_metrics(outcome: ContinuousOutcome) -> Summary:
    """Return the metrics of the prefix cache, none where there is none."""
    hits = outcome.prefix
    if hits is None:
        return {}
    count, tokens = len(outcome.arrival_s), int(outcome.prompt_tokens.sum(dtype=np.int64))
    skipped = int(hits.skipped_at_first.sum(dtype=np.int64))
    return {
        "prefix_hit_blocks_pct": 100.0 * hits.found_blocks / hits.looked_blocks if hits.looked_blocks else np.nan,
        "prefix_hit_tokens_pct": 100.0 * skipped / tokens if count else np.nan,
        "prefix_hit_requests_pct": 100.0 * hits.found_requests / count if count else np.nan,
        "prefix_saved_tokens": hits.skipped_tokens,
        "prefix_evicted_blocks": hits.evicted_blocks,
    }


def notes(problem: Problem, outcome: ContinuousOutcome, summary: Summary) -> list[str]:
    """Return what a reader of a continuous run must know."""
    from mbexp.policy.build import limit_max
    from mbexp.results.notes import extrapolation, least_gpus
    from mbexp.simulator.continuous.least_work import least_work_s

    config, law = problem.config, problem.fleet.law
    found: list[str] = [note] if (note := note_of(config)) else []
    if summary["overloaded"]:
        rules = execution_rules(config.execution, config.gpu)
        most = limit_max(config.scheduler)
        found += least_gpus(outcome, least_work_s(outcome, law, rules, most), most)
    found += _token_note(config.sla, law.decode_step_s(1, 2), summary["tbt_max_ms"])
    if config.scheduler.fill != "greedy":
        found.append(
            f"scheduler.fill={config.scheduler.fill} means nothing under execution=continuous: nobody waits for a "
            "batch to fill"
        )
    found += law.require_iteration().notes
    if outcome.num_segments > len(outcome.segments) > 0:
        found.append(
            f"batches.parquet holds the first {len(outcome.segments):,} of {outcome.num_segments:,} runs of iterations"
        )
    if summary["preemptions"]:
        found.append(
            f"preemption: {summary['preempted_requests_pct']:.1f} % of requests lost their place, "
            f"{summary['preemptions']:,} times in all; {summary['recomputed_tokens']:,} tokens were computed again"
        )
    return found + extrapolation(summary, law, "decode steps")


def _token_note(sla: SlaConfig, step_s: float, tbt_max_ms: float) -> list[str]:
    """Return a sentence where the limit of the time between tokens cannot be met, or did not bind."""
    if sla.token_ms is None:
        return []
    where = f"sla.token_ms={sla.token_ms:g}"
    if step_s > sla.token_s:
        took = f"under this law a decode step of one request already takes {1000 * step_s:.4g} ms"
        return [f"{where} cannot be met: {took}"]
    if tbt_max_ms <= sla.token_ms:
        return [f"{where} did not bind: no gap between two tokens was longer than {tbt_max_ms:.4g} ms"]
    return []


def rows(outcome: ContinuousOutcome) -> int:
    """Return the number of stored segments: runs of like iterations of a GPU."""
    return len(outcome.segments)


def table(outcome: ContinuousOutcome, first: int = 0, last: int | None = None) -> pa.Table:
    """Return one row for each run of like iterations of a GPU, in order of their beginning, or a part of the rows.

    Columns: ``batch gpu bin start_s finish_s size kind iterations decoding context_tokens prompt_tokens limit step_ms
    step_growth_ms``. ``size``: requests on the GPU, ``decoding`` of them emit a token in each iteration; ``bin`` is -1
    where the GPU serves any; ``context_tokens`` are those of the first iteration, ``prompt_tokens`` those of each;
    iteration i (from 0) takes ``step_ms + i step_growth_ms``.
    """
    import pyarrow as pa

    from mbexp.results.arrow import column, text_column

    segments = outcome.segments[first:last]
    columns = {
        "batch": np.arange(first, first + len(segments), dtype=np.int32),
        "gpu": segments["gpu"],
        "bin": segments["bin"],
        "start_s": segments["start_s"],
        "finish_s": segments["finish_s"],
        "size": segments["running"],
        "iterations": segments["iterations"],
        "decoding": segments["decoding"],
        "context_tokens": segments["context_tokens"],
        "prompt_tokens": segments["prompt_tokens"],
        "limit": segments["limit"],
        "step_ms": segments["first_s"] * 1000,
        "step_growth_ms": segments["growth_s"] * 1000,
    }
    table = pa.table({name: column(values) for name, values in columns.items()})
    # Chunks of prompts alone, where no request decodes, are a prefill.
    kinds = np.where((segments["decoding"] == 0) & (segments["kind"] > PREFILL), PREFILL, segments["kind"])
    return table.add_column(6, "kind", text_column([KINDS[kind] for kind in kinds.tolist()]))
