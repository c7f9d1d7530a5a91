"""Batches run to completion: all members of a batch leave together (docs/semantics/run_to_completion.md)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mbexp.config.execution_keys import ExecutionConfig
from mbexp.config.gpu_keys import NoiseConfig
from mbexp.config.keys import Config
from mbexp.modes._claims import claims_of

if TYPE_CHECKING:
    import pyarrow as pa

    from mbexp.hardware.law import LatencyLaw
    from mbexp.modes.problem import Problem, Summary
    from mbexp.simulator.batches.members import Totals
    from mbexp.simulator.batches.outcome import BatchesOutcome

LOOP = "mbexp.simulator.batches.loop:serve_all"
NOISE_STREAM = 3  # random stream of the batch times

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]


def simulate(problem: Problem) -> BatchesOutcome:
    """Serve the requests batch by batch."""
    from mbexp.policy.build import build_policy
    from mbexp.simulator.batches.serve import run_to_completion

    config, trace, fleet = problem.config, problem.trace, problem.fleet
    policy = build_policy(config.scheduler, config.sla, fleet.kv_capacity_tokens)
    return run_to_completion(
        trace.arrival_s,
        trace.prompt_tokens,
        trace.output_tokens,
        problem.prediction.tokens,
        problem.queue_of,
        problem.num_queues,
        fleet.count,
        fleet.kv_capacity_tokens,
        fleet.law,
        policy,
        noise_factors(config.gpu.noise, len(trace), problem.random(NOISE_STREAM)),
        trace.closed,
        claims_of(problem, policy, problem.prediction.tokens, _alone_s),
    )


def _alone_s(law: LatencyLaw, prompt_tokens: IntArray, predicted_tokens: IntArray) -> FloatArray:
    from mbexp.simulator.alone import service_in_a_batch_s

    return service_in_a_batch_s(law, prompt_tokens, predicted_tokens)


def noise_factors(noise: NoiseConfig, count: int, rng: np.random.Generator) -> FloatArray | None:
    """Return factors of mean 1 for the times of `count` batches, or None for none."""
    if noise.kind == "none":
        return None
    if noise.kind == "exponential":
        return rng.exponential(size=count)
    sigma = np.sqrt(np.log1p(noise.cv**2))
    return np.exp(sigma * rng.standard_normal(count) - sigma**2 / 2)


def check(problem: Problem, outcome: BatchesOutcome) -> Summary:
    """Check the invariants of batches."""
    from mbexp.simulator.batches import invariants

    return invariants.check(outcome, len(problem.trace))


def meets_token_sla(problem: Problem, outcome: BatchesOutcome, first: int) -> npt.NDArray[np.bool_]:
    """Return for each request whether the mean step of its batch meets the target."""
    from mbexp.simulator.batches.outcome import of_requests

    token_ms = problem.config.sla.token_ms
    limit_ms = np.inf if token_ms is None else token_ms
    return of_requests(outcome.batches["step_s"] * 1000 <= limit_ms, outcome.batch_of[first:])


def metrics(problem: Problem, outcome: BatchesOutcome, first: int) -> Summary:
    """Return the metrics of tokens, batches, GPUs and load."""
    from mbexp.results.metrics import load_metrics, token_metrics
    from mbexp.simulator.batches.full_batches import work_at_full_batches_s
    from mbexp.simulator.batches.members import totals

    law = problem.fleet.law
    sums, gaps = totals(
        outcome, first, law.length == "prompt_plus_output", law.batch_size_range, law.length_range_tokens
    )
    summary = token_metrics(problem.config, outcome.batches["step_s"], gaps)
    del gaps
    # A full batch of a queue has the mean limit that was in force there.
    limits = np.maximum(np.rint(sums.limits / np.maximum(sums.formed, 1)), 1).astype(np.int64)
    return (
        summary
        | _batch_metrics(outcome, sums, first)
        | load_metrics(outcome, lambda: work_at_full_batches_s(outcome, law, limits))
    )


def _batch_metrics(outcome: BatchesOutcome, sums: Totals, first: int) -> Summary:
    batches = outcome.batches
    names = ("batch_size_mean", "batch_size_max", "padding_waste_pct", "kv_overflow_pct", "gpu_utilization_pct")
    if not len(batches):
        return {"num_batches": 0, **dict.fromkeys(names, np.nan), "extrapolated_batches_pct": np.nan}
    began_s = float(outcome.arrival_s[first])
    busy_s = np.maximum(batches["start_s"], began_s)
    np.subtract(batches["finish_s"], busy_s, out=busy_s)
    if busy_s.min() <= 0:
        busy_s = busy_s[busy_s > 0]
    available_s = outcome.num_gpus * (outcome.last_completion_s(first) - began_s)
    return {
        "num_batches": len(batches),
        "batch_size_mean": len(outcome.index) / len(batches),
        "batch_size_max": sums.largest,
        "padding_waste_pct": 100.0 * (1.0 - float(sums.tokens) / float(sums.padded_tokens)),
        "kv_overflow_pct": 100.0 * (sums.overflowing / len(batches)),
        "gpu_utilization_pct": 100.0 * float(busy_s.sum()) / available_s if available_s else np.nan,
        "extrapolated_batches_pct": 100.0 * (sums.outside / len(batches)),
    }


def notes(problem: Problem, outcome: BatchesOutcome, summary: Summary) -> list[str]:
    """Return what is said of batches that run to completion."""
    from mbexp.hardware import check_sla
    from mbexp.policy.build import limit_max
    from mbexp.results.notes import extrapolation, least_gpus
    from mbexp.simulator.batches.least_work import least_work_s

    config, law = problem.config, problem.fleet.law
    found = [*check_sla(law, config.sla, config.scheduler), *law.require_batch().notes]
    if summary["overloaded"] and config.gpu.noise.kind == "none":
        most = limit_max(config.scheduler)
        found += least_gpus(outcome, least_work_s(outcome, law, most), most)
    found += extrapolation(summary, law, "batches")
    if summary["kv_overflow_pct"] > 0:
        found.append(
            f"memory: {summary['kv_overflow_pct']:.1f} % of batches held more KV cache than fits, because lengths were "
            "underpredicted; they ran all the same"
        )
    if unused := _unused_keys(config):
        found.append(f"{', '.join(unused)}: without meaning here; add execution=continuous")
    return found


def _unused_keys(config: Config) -> list[str]:
    """Return what was set of the keys that belong to iterations."""
    given, usual = dataclasses.asdict(config.execution), dataclasses.asdict(ExecutionConfig())
    return [f"execution.{key}={given[key]}" for key in usual if key != "name" and given[key] != usual[key]]


def rows(outcome: BatchesOutcome) -> int:
    """Return the number of batches."""
    return len(outcome.batches)


def table(outcome: BatchesOutcome, first: int = 0, last: int | None = None) -> pa.Table:
    """Return one row a batch in order of formation, of all batches or of those from `first` up to, without, `last`.

    Columns: ``batch gpu bin start_s finish_s size limit b_mem b_sla controller_low controller_high first_token_s
    step_ms longest_prompt_tokens longest_output_tokens longest_tokens total_prompt_tokens total_output_tokens
    total_tokens kv_overflow``. Tokens are true lengths; ``longest_tokens`` is the longest prompt + output.
    """
    import pyarrow as pa

    from mbexp.results.arrow import column
    from mbexp.simulator.batches.members import lengths

    batches = outcome.batches[first:last]
    tokens = lengths(outcome, first, last)
    sum_total = tokens.sum_prompt + tokens.sum_output
    columns = {
        "batch": np.arange(first, first + len(batches), dtype=np.int32),
        "gpu": batches["gpu"],
        "bin": batches["queue"],
        "start_s": batches["start_s"],
        "finish_s": batches["finish_s"],
        "size": batches["size"],
        "limit": batches["limit"],
        "b_mem": batches["b_mem"],
        "b_sla": batches["b_sla"],
        "controller_low": batches["controller_low"],
        "controller_high": batches["controller_high"],
        "first_token_s": batches["first_token_s"],
        "step_ms": batches["step_s"] * 1000,
        "longest_prompt_tokens": tokens.longest_prompt,
        "longest_output_tokens": tokens.longest_output,
        "longest_tokens": tokens.longest_total,
        "total_prompt_tokens": tokens.sum_prompt,
        "total_output_tokens": tokens.sum_output,
        "total_tokens": sum_total,
        "kv_overflow": sum_total > outcome.kv_capacity_tokens,
    }
    return pa.table({name: column(values) for name, values in columns.items()})
