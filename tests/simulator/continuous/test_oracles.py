"""Continuous batching against what is known exactly: queues of B c servers, saturation, occupancy; cases by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mbexp import simulate
from mbexp.results.statistics import batch_means_interval
from mbexp.theory import queueing
from mbexp.theory.dynamic_batching import continuous_saturation_throughput, slot_tokens
from mbexp.workload.trace import Trace

STEP_S = 0.001
# Every iteration takes a millisecond, whatever is in it, and prompts are computed beside decoding.
CONSTANT_STEP = {
    "execution": "continuous",
    "execution.assignment": "central",  # one queue before all servers
    "execution.prefill": "chunked",
    "execution.token_budget": 10**6,
    "gpu.law": {"kind": "linear", "length": "output", "c0_ms": 1000 * STEP_S, "c1_ms": 0.0},
    "gpu.kv_capacity_tokens": 2**31 - 1,
    "scheduler": "static_fifo",
    "output.batches": False,
}


def queue_delay(outputs, rate, slots, gpus, seed=3):
    """Mean queue delay at Poisson arrivals, and its interval, without the first tenth."""
    n = len(outputs)
    arrival_s = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, n))
    trace = Trace(arrival_s - arrival_s[0], np.ones(n, np.int32), np.maximum(outputs, 1).astype(np.int32), "test")
    keys = {**CONSTANT_STEP, "scheduler.fixed_batch_size": slots, "num_gpus": gpus, "output.requests": False}
    records = simulate(trace, **keys).outcome
    return batch_means_interval((records.start_s - records.arrival_s)[n // 10 :])


@pytest.mark.parametrize(("slots", "gpus"), [(8, 1), (4, 2), (1, 8)])
def test_exponential_lengths_are_a_queue_with_b_c_servers(slots, gpus):
    """M/M/8 at 80 %: the GPUs' slots are its servers; a slot that frees is filled at the next step at the latest."""
    rng = np.random.default_rng(1)
    found = queue_delay(np.rint(rng.exponential(1 / STEP_S, 400_000)), 6.4, slots, gpus)
    exact = queueing.mmc(6.4, 1.0, 8).wait
    assert exact - 2 * found.half_width < found.mean < exact + STEP_S + 2 * found.half_width
    assert found.half_width < 0.06 * exact


@pytest.mark.parametrize(("slots", "gpus", "rate"), [(4, 1, 3.2), (2, 2, 3.2), (1, 1, 0.8)])
def test_constant_lengths_are_m_d_c(slots, gpus, rate):
    found = queue_delay(np.full(400_000, round(1 / STEP_S)), rate, slots, gpus)
    exact = queueing.mdc(rate, 1.0, slots * gpus).wait
    assert exact - 2 * found.half_width < found.mean < exact + STEP_S + 2 * found.half_width


@pytest.mark.parametrize(("rate", "wait"), [(0.05, 7.385965), (0.07, 18.534591)])
def test_uniform_lengths_are_m_g_1(rate, wait):
    rng = np.random.default_rng(2)
    found = queue_delay(np.rint(rng.uniform(1, 20, 400_000) / STEP_S), rate, 1, 1)
    assert found.mean == pytest.approx(wait, abs=2 * found.half_width + STEP_S)


@pytest.mark.parametrize("slots", [8, 128])
def test_saturation_is_multi_bin_batching_with_infinitely_many_bins(slots):
    """P1's limit k -> infinity: B / E[l], reached here without a bin."""
    n = 200_000
    outputs = np.rint(np.random.default_rng(5).uniform(1, 20, n) / STEP_S).astype(np.int32)
    trace = Trace(np.zeros(n), np.ones(n, np.int32), outputs, "test")
    summary = simulate(trace, **{**CONSTANT_STEP, "scheduler.fixed_batch_size": slots, "num_gpus": 1}).summary
    exact = continuous_saturation_throughput(slots, 10.5)
    assert summary["throughput_requests_per_s"] == pytest.approx(exact, rel=0.01 if slots > 8 else 0.002)
    assert summary["offered_load"] is np.nan or np.isnan(summary["offered_load"])


def test_a_slot_holds_length_biased_requests():
    """A slot meets long requests longer: E[in out]/E[out] + E[out^2]/(2 E[out]) tokens, not E[in] + E[out]/2."""
    rng = np.random.default_rng(7)
    n = 100_000
    output = np.rint(rng.lognormal(4.0, 1.0, n)).astype(np.int32) + 1
    prompt = (20 + 2 * output).astype(np.int32)
    trace = Trace(np.zeros(n), prompt, output, "test")
    keys = {**CONSTANT_STEP, "scheduler.fixed_batch_size": 64, "num_gpus": 1}
    records = simulate(trace, **keys).outcome
    occupancy = float(records.gpus["kv_token_s"].sum() / records.gpus["running_s"].sum())
    exact = slot_tokens(prompt, output)
    assert occupancy == pytest.approx(exact, rel=0.01)
    assert exact > 2 * float(np.mean(prompt) + np.mean(output) / 2)


# Cases by hand. A prefill of s prompts takes 1 s + 0.5 s, a decode step of b requests 1 s + b / 2 s.
HALVES = {
    "execution": "continuous",
    "gpu.law": {"kind": "linear", "length": "output", "c0_ms": 1000.0, "c1_ms": 500.0},
    "gpu.kv_capacity_tokens": 1000,
    "scheduler": "static_fifo",
    "num_gpus": 1,
    "sla.token_ms": 2100.0,
}


def test_one_request_alone(make_trace):
    """Prefill 1.5 s, then two steps of 1.5 s."""
    result = simulate(make_trace([0.0], [3], [10]), **HALVES)
    row = result.requests.iloc[0]
    assert (row.start_s, row.first_token_s, row.finish_s) == (0.0, 1.5, 4.5)
    assert result.summary["tbt_mean_ms"] == 1500
    assert result.summary["token_sla_violation_pct"] == 0
    # 10 tokens while they are computed, then 11 and 12 in the two steps: 33 x 1.5 s of 1000 x 4.5 s.
    assert result.summary["kv_use_mean_pct"] == pytest.approx(100 * 33 * 1.5 / 4500)


def test_an_arrival_waits_for_the_boundary_and_stalls_the_others(make_trace):
    """A decodes from 1.5 s, steps end at 3.0 and 4.5; B comes at 2.0, is admitted at 3.0, computed until 4.5: A's
    second gap is that stall and a step of both, 1.5 + 2 s."""
    result = simulate(make_trace([0.0, 2.0], [3, 2], [10, 10]), **HALVES)
    assert result.requests["start_s"].tolist() == [0.0, 3.0]
    assert result.requests["first_token_s"].tolist() == [1.5, 4.5]
    assert result.requests["finish_s"].tolist() == [6.5, 6.5]
    assert result.summary["tbt_max_ms"] == 3500
    assert result.outcome.gaps.above == 1


def test_an_arrival_at_a_boundary_is_seen_there(make_trace):
    result = simulate(make_trace([0.0, 3.0], [3, 2], [10, 10]), **HALVES)
    assert result.requests["start_s"].tolist() == [0.0, 3.0]


def test_chunks_go_beside_decoding(make_trace):
    """Budget 8: B's prompt of 20 beside A: 7 + 7 + 6 tokens in three steps, the last of which ends it."""
    keys = {**HALVES, "execution.prefill": "chunked", "execution.token_budget": 8}
    result = simulate(make_trace([0.0, 1.0], [6, 2], [4, 20]), **keys)
    # A's prompt: 1.5 s. Then A alone decodes with chunks of B: 1.5, 1.5 and, ending a prompt, 2.0 s; then both: 2.0 s.
    assert result.requests["first_token_s"].tolist() == [1.5, 6.5]
    assert result.requests["finish_s"].tolist() == [10.0, 8.5]
    assert result.outcome.gaps.max_s == 2.0
    assert result.outcome.segments["prompt_tokens"].tolist() == [4, 7, 6, 0, 0]
    assert result.outcome.segments["iterations"].tolist() == [1, 2, 1, 1, 1]


def test_the_youngest_gives_way_when_blocks_run_out(make_trace):
    """Six blocks of four tokens; two requests of 8 tokens and 8 outputs hold three each from the first token on.

    At 10 tokens none needs more until the thirteenth; then the older takes a block from the younger, which goes back
    and computes its 8 + 4 tokens again when the older is done.
    """
    keys = {
        **HALVES,
        "gpu.kv_capacity_tokens": 24,
        "execution.kv": "paged",
        "execution.block_tokens": 4,
    }
    result = simulate(make_trace([0.0, 0.0], [8, 8], [8, 8]), **keys)
    # Prefill of both 2.0 s (token 1); three steps of 2 s (tokens 2-4); at 8 s each holds 12 tokens and needs a block.
    # A goes on alone: tokens 5-8 in 1.5 s each, until 14 s. B: prefill of 12 tokens until 15.5 s (token 5), then 6-8.
    assert result.requests["finish_s"].tolist() == [14.0, 20.0]
    assert result.requests["preemptions"].tolist() == [0, 1]
    assert result.summary["recomputed_tokens"] == 12
    assert result.summary["kv_held_max_pct"] == 100
    assert result.outcome.gaps.max_s == 7.5


def test_the_same_swapped(make_trace):
    """Twelve tokens out and in: 0.25 s each way at this rate."""
    keys = {
        **HALVES,
        "gpu.kv_capacity_tokens": 24,
        "execution.kv": "paged",
        "execution.block_tokens": 4,
        "execution.preemption": "swap",
        "gpu.kv_bytes_per_token": 1e9 / 48,
        "execution.swap_gb_per_s": 1.0,
    }
    result = simulate(make_trace([0.0, 0.0], [8, 8], [8, 8]), **keys)
    # Out at 8 s delays A by 0.25 s, to 14.25 s; in again delays B's first step: 14.5, then 4 steps of 1.5 s.
    assert result.requests["finish_s"].tolist() == pytest.approx([14.25, 20.5])
    assert result.summary["copied_tokens"] == 24
    assert result.summary["recomputed_tokens"] == 0


@pytest.mark.parametrize(
    ("rule", "finish_s"), [("extend", [6.0, 7.5]), ("preempt", [6.0, 7.5]), ("requeue", [7.5, 4.5])]
)
def test_underprediction(make_trace, rule, finish_s):
    """One slot; A (predicted 2, emits 4) before B (emits 1).

    extend: prefill 1.5 s and three steps. preempt: at 3.0 s A is put back in front and computes 7 tokens again until
    4.5 s (token 3), then one step. requeue: at the tail, it lets B pass.
    """
    trace = make_trace([0.0, 0.0], [4, 1], [5, 5])
    keys = {**HALVES, "scheduler.fixed_batch_size": 1, "execution.underprediction": rule}
    result = simulate(trace, **keys, predictor={"kind": "constant", "value_tokens": 2})
    assert result.requests["finish_s"].tolist() == finish_s
    assert result.summary["outgrown_predictions"] == 1


def test_one_bin_at_a_time_empties_before_it_changes(make_trace):
    """Short (1 token) and long (3 tokens) requests alternate; the GPU takes both shorts, then both longs."""
    trace = make_trace([0.0] * 4, [1, 3, 1, 3], [5] * 4)
    keys = {**HALVES, "scheduler": "multi_bin_dynamic", "k_bins": 2, "scheduler.selection": "shortest_bin"}
    apart = simulate(trace, **keys, **{"execution.gpu_serves": "one_bin"})
    # Shorts: a prefill of two, 2.0 s, and they are done. Longs: a prefill of two, 4.0 s, and two steps of 2 s.
    assert apart.requests["finish_s"].tolist() == [2.0, 8.0, 2.0, 8.0]
    together = simulate(trace, **keys)
    # All four at once: a prefill of four, 3.0 s.
    assert together.requests["finish_s"].tolist() == [3.0, 7.0, 3.0, 7.0]
