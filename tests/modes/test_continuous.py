"""execution=continuous through the configuration: keys, tables, warnings, mistakes, invariants, sweeps."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numba
import numpy as np
import pyarrow.parquet as parquet
import pytest

from mbexp import UserError, load_trace, simulate
from mbexp.errors import InvariantError
from mbexp.simulator.continuous import invariants as continuous_invariants
from mbexp.simulator.continuous.serve import continuous
from mbexp.simulator.continuous.tokens import NUM_BINS, bin_edges_s, bin_of
from tests import ROOT

H100 = {"gpu": "roofline_h100", "num_gpus": 2}
CONTINUOUS = {**H100, "execution": "continuous", "execution.assignment": "central"}


@pytest.fixture(scope="module")
def trace():
    return load_trace(num_requests=2000)


@pytest.fixture(scope="module")
def result(trace):
    return simulate(trace, **CONTINUOUS)


def test_every_key_of_the_other_mode_is_there(trace, result):
    batches = simulate(trace, **H100).summary
    assert [key for key in batches if key not in result.summary] == []
    numbers = (int, float, bool, np.integer, np.floating, np.bool_)
    assert all(isinstance(value, numbers) for value in result.summary.values())


def test_every_key_is_defined_on_a_page(result):
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert [key for key in result.summary if f"`{key}`" not in page] == []


def test_summary_is_what_the_tables_say(result):
    requests, summary = result.requests, result.summary
    assert summary["latency_mean_s"] == pytest.approx((requests.finish_s - requests.arrival_s).mean())
    assert summary["ttft_p99_s"] == pytest.approx(np.quantile(requests.first_token_s - requests.arrival_s, 0.99))
    several = requests[requests.output_tokens > 1]
    tpot_ms = 1000 * (several.finish_s - several.first_token_s) / (several.output_tokens - 1)
    assert summary["tpot_p90_ms"] == pytest.approx(np.quantile(tpot_ms, 0.90))
    assert summary["queue_delay_p95_s"] == pytest.approx(np.quantile(requests.start_s - requests.arrival_s, 0.95))
    decode_s = (requests.finish_s - requests.first_token_s).sum()
    gaps = (requests.output_tokens - 1).sum()
    assert summary["tbt_mean_ms"] == pytest.approx(1000 * decode_s / gaps)  # every gap of a request, end to end
    rows = result.batches
    tokens = (rows.decoding * rows.iterations).sum()
    assert tokens == gaps
    assert summary["batch_size_mean"] == pytest.approx(tokens / rows.iterations[rows.decoding > 0].sum())
    assert rows.prompt_tokens.mul(rows.iterations).sum() == requests.prompt_tokens.sum()
    busy_s = (rows.finish_s - rows.start_s).sum()
    assert summary["gpu_utilization_pct"] == pytest.approx(100 * busy_s / (2 * summary["makespan_s"]))
    assert set(rows.kind) == {"decode", "prefill"}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"execution.prefill": "chunked"},
        {"execution.kv": "paged", "gpu.kv_capacity_tokens": 40_000},
        {"scheduler": "dynamic_no_bins", "execution.assignment": "power_of_two"},
        {"scheduler": "multi_bin_dynamic", "k_bins": 2, "execution.gpu_serves": "load_share"},
        {"gpu": "linear_p2"},
        {"gpu": "rtx4080_qwen3_1_7b"},
        {"gpu": "grid_interpolation", "gpu.law.path": "rtx4080_qwen3_1_7b_generated.csv"},
    ],
)
def test_modes_laws_and_schedulers_run_and_repeat(trace, keys):
    one, other = (simulate(trace, **{**CONTINUOUS, **keys}) for _ in range(2))
    assert one.outcome.finish_s.tobytes() == other.outcome.finish_s.tobytes()
    assert one.summary["completed_requests"] == 2000
    assert one.summary["invariants_checked"] == len(continuous_invariants.ALL)


def test_chunks_of_prompts_are_refused_where_the_law_knows_whole_prompts_only():
    grid = {"gpu": "grid_interpolation", "gpu.law.path": "rtx4080_qwen3_1_7b_generated.csv", "num_requests": 10}
    with pytest.raises(UserError, match=r"execution\.prefill=chunked: the law grid_interpolation knows whole") as error:
        simulate(**{**CONTINUOUS, **grid, "execution.prefill": "chunked"})
    assert "\n" not in str(error.value)


def test_warm_up_leaves_out_the_first_requests_and_gaps(trace, result):
    warm = simulate(trace, **CONTINUOUS, **{"warm_up.share_pct": 50.0})
    assert warm.summary["measured_requests"] == 1000
    late = result.requests.iloc[1000:]
    assert warm.summary["latency_mean_s"] == pytest.approx((late.finish_s - late.arrival_s).mean())
    gaps = (late.output_tokens - 1).sum()
    assert gaps <= warm.outcome.gaps.count < 1.1 * gaps  # and the rest of those under way
    assert 0 < warm.summary["gpu_utilization_pct"] <= 100


def test_offered_load_is_what_the_run_shows():
    """Just below the capacity that it implies the queue stays short; just above it grows."""
    keys = {**CONTINUOUS, "num_gpus": 1, "scheduler": "static_fifo", "workload.rate_scaling": 1000}
    flood = simulate(**keys, num_requests=2000)
    assert flood.summary["overloaded"]
    capacity = flood.summary["arrival_rate_per_s"] / flood.summary["offered_load"]
    assert flood.summary["throughput_requests_per_s"] == pytest.approx(capacity, rel=0.1)


@pytest.mark.parametrize("budget", [128, 256, 2048])
def test_offered_load_of_chunks_is_what_the_run_shows(budget):
    """A budget close to the number that may run leaves no room to prefill: then it, not the slots, is the capacity."""
    flood = simulate(
        **{**CONTINUOUS, "num_gpus": 1, "scheduler": "static_fifo", "scheduler.fixed_batch_size": 128},
        **{"execution.prefill": "chunked", "execution.token_budget": budget, "num_requests": 20_000},
        **{"workload": "synthetic", "workload.prompt.mean_tokens": 1155, "workload.output.mean_tokens": 211},
        **{"workload.arrivals.rate_per_s": 100.0, "output.batches": False},
    )
    capacity = flood.summary["arrival_rate_per_s"] / flood.summary["offered_load"]
    assert flood.summary["throughput_requests_per_s"] == pytest.approx(capacity, rel=0.1)


def test_stored_folder(command):
    code, out, _ = command("execution=continuous", "gpu=roofline_h100", "num_requests=300")
    assert code == 0
    folder = next(iter(Path("outputs").iterdir()))
    assert json.loads((folder / "summary.json").read_text())["preemptions"] == 0
    assert parquet.read_table(folder / "requests.parquet").column("preemptions").to_pylist() == [0] * 300
    batches = parquet.read_table(folder / "batches.parquet")
    assert {"gpu", "bin", "start_s", "finish_s", "size", "kind", "iterations"} <= set(batches.column_names)
    assert "between tokens" in out


def test_both_modes_in_one_sweep(command):
    code, out, err = command(
        "--multirun",
        "execution=run_to_completion,continuous",
        "scheduler=static_fifo,multi_bin_dynamic",
        "gpu=roofline_h100",
        "num_requests=300",
        "output.batches=false",
    )
    assert code == 0, err
    assert "4 rows of 4 runs" in out


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"gpu.kv_capacity_tokens": 100}, r"prompts, the longest of \d+ tokens, exceed the KV memory of 100 tokens"),
        (
            {"execution.prefill": "chunked", "execution.token_budget": 64},
            r"execution.token_budget=64: must be at least the 128 requests",
        ),
        ({"execution.gpu_serves": "equal_share"}, r"4 bins cannot share 2 GPUs"),
        ({"gpu.noise.kind": "exponential"}, r"gpu.noise.kind=exponential: noise is that of whole batches"),
        (
            {"execution.kv": "paged", "execution.block_tokens": 4096, "gpu.kv_capacity_tokens": 4000,
             "execution.oversized_prompt": "reject"},
            r"execution.block_tokens=4096: a block is larger than the KV memory",
        ),
        ({"execution.kv": "block"}, r"execution.kv=block: no such choice; choose from future, paged, reserve"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_the_run(trace, keys, message):
    with pytest.raises(UserError, match=message) as error:
        simulate(trace, **{**CONTINUOUS, **keys})
    assert "\n" not in str(error.value)


def test_oversized_prompts_can_be_left_out_and_counted(trace):
    keys = {**CONTINUOUS, "gpu.kv_capacity_tokens": 3000, "execution.oversized_prompt": "reject"}
    result = simulate(trace, **keys)
    too_long = np.count_nonzero(trace.prompt_tokens + trace.output_tokens > 3000)
    assert result.summary["rejected_requests"] == too_long > 0
    assert result.requests["finish_s"].isna().sum() == too_long
    assert any("can never fit" in warning for warning in result.warnings)


def test_warnings_say_what_the_laws_imply_and_what_means_nothing(trace):
    law = "rtx4080_qwen3_1_7b"
    original = simulate(trace, execution="continuous", scheduler="multi_bin_static", num_gpus=4, gpu=law)
    text = "\n".join(original.warnings)
    assert "a decode step takes the same time whatever its context" in text
    assert "scheduler.fill=full means nothing" in text
    tight = simulate(trace, **CONTINUOUS, **{"sla.token_ms": 1.0})
    assert any("sla.token_ms=1 cannot be met" in warning for warning in tight.warnings)
    loose = simulate(trace, **CONTINUOUS, **{"sla.token_ms": 1e5})
    assert any("did not bind" in warning for warning in loose.warnings)


def test_keys_of_the_mode_without_the_mode_are_told(trace):
    result = simulate(trace, **{"execution.prefill": "chunked", "execution.token_budget": 1024})
    told = "execution.prefill=chunked, execution.token_budget=1024: without meaning here; add execution=continuous"
    assert told in result.warnings
    assert not any("without meaning" in warning for warning in simulate(trace).warnings)


def test_a_server_that_knows_only_the_bin_reserves_its_longest(trace):
    keys = {**CONTINUOUS, "scheduler": "multi_bin_dynamic", "execution.reserve_for": "longest_of_bin", "k_bins": 4}
    records = simulate(trace, **keys).outcome
    for queue in range(4):
        assert set(records.predicted_tokens[records.queue_of == queue]) == {
            records.output_tokens[records.queue_of == queue].max()
        }


def test_preemption_is_told():
    keys = {**CONTINUOUS, "execution.kv": "paged", "gpu.kv_capacity_tokens": 30_000, "workload.rate_scaling": 1000}
    result = simulate(**keys, num_requests=2000)
    assert result.summary["preemptions"] > 0
    assert any(warning.startswith("preemption:") for warning in result.warnings)
    assert result.summary["recomputed_tokens"] > 0


# Invariants: each is broken by hand.


def check(records, **changes):
    changed = dataclasses.replace(records, **changes)
    return continuous_invariants.check(changed, len(records.arrival_s), 128, True)


def swapped(values, one=10, other=1500):
    values = values.copy()
    values[[one, other]] = values[[other, one]]
    return values


def with_gpus(records, name, change):
    gpus = records.gpus.copy()
    gpus[name] = change(gpus[name])
    return {"gpus": gpus}


def test_invariants_hold(result):
    assert check(result.outcome)["invariants_checked"] == 13


@pytest.mark.parametrize(
    ("invariant", "change"),
    [
        (continuous_invariants.ARRIVED, lambda r: {"finish_s": np.where(np.arange(2000) == 7, np.nan, r.finish_s)}),
        (continuous_invariants.ARRIVALS, lambda r: {"arrival_s": swapped(r.arrival_s)}),
        (continuous_invariants.ORDER, lambda r: {"first_token_s": r.finish_s + 1}),
        (continuous_invariants.GPU, lambda r: {"gpu": r.gpu + 2}),
        (
            continuous_invariants.FIFO,
            lambda r: {"start_s": np.where(np.arange(2000) == 3, r.first_token_s.max(), r.start_s),
                       "first_token_s": np.where(np.arange(2000) == 3, r.first_token_s.max(), r.first_token_s),
                       "finish_s": np.where(np.arange(2000) == 3, r.finish_s.max(), r.finish_s)},
        ),
        (continuous_invariants.LEFT, lambda r: with_gpus(r, "held", lambda held: held + 1)),
        (continuous_invariants.GAPS, lambda r: {"gaps": dataclasses.replace(r.gaps, count=r.gaps.count - 1)}),
        (continuous_invariants.PROMPTS, lambda r: with_gpus(r, "prefill_tokens", lambda tokens: tokens + 1)),
        (continuous_invariants.MEMORY, lambda r: {"kv_capacity_tokens": 100}),
        (continuous_invariants.LIMIT, lambda r: with_gpus(r, "running_max", lambda most: most + 128)),
        (continuous_invariants.BUSY, lambda r: with_gpus(r, "busy_s", lambda busy: busy * 100)),
        (continuous_invariants.LITTLE, lambda r: with_gpus(r, "running_s", lambda running: running * 1.001)),
    ],
)  # fmt: skip
def test_a_broken_invariant_is_an_error(result, invariant, change):
    with pytest.raises(InvariantError) as error:
        check(result.outcome, **change(result.outcome))
    assert f"invariant: {invariant}" in str(error.value)


def test_a_request_must_be_accepted_or_rejected_once(trace):
    keys = {**CONTINUOUS, "gpu.kv_capacity_tokens": 3000, "execution.oversized_prompt": "reject"}
    records = simulate(trace, **keys).outcome
    twice = dataclasses.replace(records, accepted=np.concatenate([records.accepted[1:], records.accepted[-1:]]))
    with pytest.raises(InvariantError, match=continuous_invariants.ONCE):
        continuous_invariants.check(twice, 2000, 128, True)


@numba.njit
def found_bin(gap_s):
    return bin_of(gap_s)  # which compiled code alone can call


def test_histogram_edges_and_bins_agree():
    edges = bin_edges_s()
    assert len(edges) == NUM_BINS + 1
    assert np.all(np.diff(edges) / edges[:-1] <= 1 / 512 + 1e-12)
    rng = np.random.default_rng(0)
    gaps = 10 ** rng.uniform(-5.9, 6.2, 2000)
    bins = np.array([found_bin(gap) for gap in gaps])
    assert np.all((edges[bins] <= gaps) & (gaps < edges[bins + 1]))
    assert found_bin(float(edges[777])) == 777
    assert (found_bin(0.0), found_bin(1e-9), found_bin(1e9)) == (0, 0, NUM_BINS - 1)


def test_the_log_of_segments_is_bounded(trace):
    from mbexp.config.keys import SlaConfig
    from mbexp.config.scheduler_keys import SchedulerConfig
    from mbexp.hardware.iteration import ClosedForm
    from mbexp.policy.build import build_policy
    from mbexp.simulator.continuous.serve import ContinuousRules
    from tests.simulator.continuous.agreement import priced

    policy = build_policy(SchedulerConfig(), SlaConfig(), 10**6, in_batches=False)
    ones = np.zeros(2000, np.uint16)
    price = priced(ClosedForm(0.01, *[0.0] * 7))
    lengths = trace.prompt_tokens, trace.output_tokens, trace.output_tokens
    records = continuous(trace.arrival_s, *lengths, ones, 1, 1, 10**6, price, policy, ContinuousRules(), log_segments=5)
    assert len(records.segments) == 5 < records.num_segments
    assert 0 < len(records.samples) <= 4096
    assert np.all(np.diff(records.samples["time_s"]) > 0)


def test_by_default_a_router_spreads_requests_over_the_gpus():
    """Sixty-four equal requests at once on eight GPUs: eight on each, and every GPU works all the time."""
    length = {"kind": "constant"}
    keys = {
        "workload": "synthetic",
        "workload.arrivals.kind": "at_once",
        "workload.prompt": {**length, "value_tokens": 600},
        "workload.output": {**length, "value_tokens": 200},
        "num_requests": 64,
        "scheduler": "static_fifo",
        "scheduler.fixed_batch_size": 64,
    }
    spread = simulate(**keys, **H100 | {"num_gpus": 8}, execution="continuous")
    assert np.bincount(spread.requests["gpu"]).tolist() == [8] * 8
    assert spread.summary["gpu_utilization_pct"] == pytest.approx(100)
    # As if each GPU served its eight requests alone.
    alone = simulate(**keys | {"num_requests": 8}, **H100 | {"num_gpus": 1}, execution="continuous")
    assert spread.summary["makespan_s"] == alone.summary["makespan_s"]
