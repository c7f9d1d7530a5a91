"""Every metric of iterations, GPUs and memory against sums over the iterations of the step-by-step simulator."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mbexp import simulate
from mbexp.modes.continuous import gpu_metrics, table, token_metrics
from tests.simulator.continuous.agreement import Case, run_closed_form, run_reference
from tests.simulator.continuous.reference import Simulation
from tests.simulator.continuous.test_agreement import random_case

WAYS = {
    "whole, prefills of any size": {"prefill": "first", "prefill_max_tokens": None},
    "whole, a bound on one prefill": {"prefill": "first", "prefill_max_tokens": 60},
    "chunked, the least budget": {"prefill": "chunked"},
    "chunked, a large budget": {"prefill": "chunked", "token_budget": 400},
}


def counted(case: Case, simulation: Simulation) -> dict[str, float]:
    """Return the metrics as sums over iterations and requests."""
    steps = simulation.iterations
    decoding = [step for step in steps if step.decoding]
    seconds = np.array([step.pause + step.duration for step in steps])
    busy_s = seconds.sum()
    requests = simulation.requests
    lasts_s = max(float(request.finish) for request in requests) - requests[0].arrival
    unit = case.rules["block_tokens"] if case.rules["kv"] == "paged" else 1
    lost = [request.preemptions for request in requests]

    def share(number: float, of: float) -> float:
        return 100 * number / of if of else np.nan

    return {
        "num_batches": len(steps),
        "batch_size_mean": np.mean([step.decoding for step in decoding]) if decoding else np.nan,
        "batch_size_max": max(step.running for step in steps),
        "gpu_utilization_pct": share(busy_s, case.gpus * lasts_s),
        "extrapolated_batches_pct": share(sum(step.outside for step in decoding), len(decoding)) if decoding else 0.0,
        "running_mean": float(np.dot(seconds, [step.running for step in steps])) / busy_s,
        "limit_mean": float(np.dot(seconds, [step.limit for step in steps])) / busy_s,
        "preemptions": sum(lost),
        "preempted_requests_pct": share(sum(number > 0 for number in lost), len(lost)),
        "outgrown_predictions": simulation.outgrown,
        "recomputed_tokens": simulation.prefilled - sum(request.prompt for request in requests),
        "copied_tokens": simulation.copied,
        "kv_use_mean_pct": share(simulation.kv_time, case.gpus * case.memory * lasts_s),
        "kv_held_max_pct": share(simulation.held_max * unit, case.memory),
        "prefill_time_pct": share(sum(step.duration for step in steps if not step.decoding), busy_s),
        "copy_time_pct": share(sum(step.pause for step in steps), busy_s),
        "mixed_steps_pct": share(sum(step.prompt_tokens > 0 for step in decoding), len(decoding)),
        "padding_waste_pct": 0.0,
        "kv_overflow_pct": 0.0,
    }


@pytest.mark.parametrize("way", WAYS)
def test_every_metric_is_what_the_step_by_step_simulator_counts(way):
    seen: dict[str, set[float]] = {}
    for seed in range(60):
        case = random_case(seed)
        cap = case.scheduler["fixed_batch_size"]
        rules = {"block_tokens": 4, **case.rules, "token_budget": cap, **WAYS[way]}
        if rules.get("admission") == "whole":
            rules["admission"] = "budget"  # no prompt fits this budget whole
        if rules["prefill"] != "chunked":
            rules["prefill_memory"] = "held"
        case = dataclasses.replace(case, rules=rules, sizes=(1 + seed % 2, max(2, cap - 1)), contexts=(20, 70))
        simulation, _ = run_reference(case)
        if not simulation.requests:
            continue
        outcome = run_closed_form(case)
        found, expected = gpu_metrics(outcome, outcome.measured(0)), counted(case, simulation)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-9, nan_ok=True), f"seed {seed}: {name}"
            seen.setdefault(name, set()).add(value)
        gaps_ms = 1000 * np.array(simulation.gaps)
        if len(gaps_ms):
            of_tokens = token_metrics(outcome, has_limit=True)
            assert of_tokens["tbt_mean_ms"] == pytest.approx(gaps_ms.mean(), rel=1e-9)
            assert of_tokens["tbt_max_ms"] == pytest.approx(gaps_ms.max(), rel=1e-9)
            assert of_tokens["token_sla_violation_pct"] == pytest.approx(100 * np.mean(gaps_ms > case.token_ms))
    # What never differs from zero is not tested.
    constant = {"padding_waste_pct", "kv_overflow_pct"} | ({"mixed_steps_pct"} if way.startswith("whole") else set())
    assert {name for name, values in seen.items() if len(values) < 5} == constant


def test_chunks_of_prompts_that_nobody_decodes_beside_are_iterations():
    """1,000 prompts of 5,000 tokens, each alone on the GPU: 20 chunks of at most 256 and a decode step."""
    constant = {"kind": "constant"}
    result = simulate(
        execution="continuous",
        gpu="roofline_h100",
        scheduler="static_fifo",
        num_gpus=1,
        num_requests=1000,
        workload="synthetic",
        **{
            "execution.prefill": "chunked",
            "execution.token_budget": 256,
            "workload.arrivals.kind": "constant",
            "workload.arrivals.rate_per_s": 1,
            "workload.prompt": {**constant, "value_tokens": 5000},
            "workload.output": {**constant, "value_tokens": 2},
        },
    )
    summary = result.summary
    assert summary["num_batches"] == 21_000
    assert summary["mixed_steps_pct"] == 0
    rows = result.batches
    prefill = rows[rows.kind == "prefill"]
    assert rows.iterations.sum() == 21_000
    assert prefill.iterations.sum() == 20_000
    busy_s = (rows.finish_s - rows.start_s).sum()
    assert summary["prefill_time_pct"] == pytest.approx(100 * (prefill.finish_s - prefill.start_s).sum() / busy_s)
    assert set(table(result.outcome).column("kind").to_pylist()) == {"prefill", "decode"}
