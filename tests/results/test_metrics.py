"""Each metric against a run small enough to compute by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mbexp import simulate
from mbexp.compiled.order_statistics import weighted_quantiles

LAW = {
    # A batch takes 1 s and 1 s for each token of its longest output.
    "gpu.law": {"kind": "affine", "length": "output", "alpha_ms": 1000, "beta_ms": 1000, "gamma": 0},
    "gpu.kv_capacity_tokens": 100,
}


@pytest.fixture
def result(make_trace):  # type: ignore[no-untyped-def]
    """One GPU, batches of up to two, served greedily.

    t=0: request 0 (3 tokens) runs alone until 4. t=4: requests 1 (2) and 2 (1) run until 7. t=10: request 3 (5) runs
    until 16. Request 4 can never fit.
    """
    trace = make_trace([0.0, 1.0, 2.0, 10.0, 11.0], [3, 2, 1, 5, 200])
    return simulate(
        trace, scheduler="static_fifo", num_gpus=1, **{"scheduler.fixed_batch_size": 2, "sla.request_s": 5.5}, **LAW
    )


def by_quantile(name, unit, values):  # type: ignore[no-untyped-def]
    return {f"{name}_p{share}_{unit}": np.quantile(values, share / 100) for share in (50, 90, 95, 99)}


def test_every_metric_by_hand(result) -> None:  # type: ignore[no-untyped-def]
    latency = np.array([4.0, 6.0, 5.0, 6.0])
    expected = {
        "arrived_requests": 5,
        "completed_requests": 4,
        "rejected_requests": 1,
        "rejected_predicted_need_exceeds_memory": 1,
        "rejected_true_need_exceeds_memory": 0,
        "dropped_rows": 0,
        "changed_rows": 0,
        "measured_requests": 4,
        "makespan_s": 16.0,
        "throughput_requests_per_s": 4 / 16,
        "throughput_tokens_per_s": 11 / 16,
        # Every step takes 1 s, far above 10 ms, so nothing is within both SLAs but the request of one token.
        "goodput_requests_per_s": 0.0,
        "latency_mean_s": latency.mean(),
        "latency_p50_s": 5.5,
        "latency_p90_s": 6.0,
        "latency_p95_s": 6.0,
        "latency_p99_s": 6.0,
        "latency_max_s": 6.0,
        "queue_delay_mean_s": (0 + 3 + 2 + 0) / 4,
        "service_time_mean_s": (4 + 3 + 3 + 6) / 4,
        "ttft_mean_s": (1 + 4 + 3 + 1) / 4,
        **by_quantile("queue_delay", "s", [0, 3, 2, 0]),
        **by_quantile("ttft", "s", [1, 4, 3, 1]),
        # From the first token to the end of the batch, over the tokens after the first; one request has only one.
        "tpot_mean_ms": 1000 * (3 / 2 + 2 / 1 + 5 / 4) / 3,
        **by_quantile("tpot", "ms", [1500, 2000, 1250]),
        "tbt_mean_ms": 1000.0,
        **by_quantile("tbt", "ms", [1000.0]),
        "token_sla_violation_pct": 100.0,
        "request_sla_violation_pct": 50.0,
        "num_batches": 3,
        "batch_size_mean": 4 / 3,
        "batch_size_max": 2,
        "padding_waste_pct": 100 * (1 - 11 / (3 + 2 * 2 + 5)),
        "misbin_pct": 0.0,
        "bins": 1,
        "gpu_utilization_pct": 100 * (4 + 3 + 6) / 16,
        "kv_capacity_tokens": 100,
        "kv_overflow_pct": 0.0,
        "extrapolated_batches_pct": result.summary["extrapolated_batches_pct"],
        "arrival_rate_per_s": 3 / 10,
        # Full batches of two in order of arrival: (3, 2) and (1, 5) take 4 + 6 s of a period of 4 x 10 / 3 s.
        "offered_load": (4 + 6) / (4 * 10 / 3),
        "overloaded": False,
        "wall_time_s": result.summary["wall_time_s"],
    }
    values = {key: value for key, value in result.summary.items() if key in expected}

    assert values == pytest.approx(expected)


def test_what_the_tables_hold(result) -> None:  # type: ignore[no-untyped-def]
    requests, batches = result.requests, result.batches

    assert batches["size"].tolist() == [1, 2, 1]
    assert batches["start_s"].tolist() == [0, 4, 10]
    assert batches["finish_s"].tolist() == [4, 7, 16]
    assert batches["longest_output_tokens"].tolist() == [3, 2, 5]
    assert batches["total_tokens"].tolist() == [4, 5, 6]
    assert requests["batch"].fillna(-1).tolist() == [0, 1, 1, 2, -1]
    assert requests["status"].tolist() == ["completed"] * 4 + ["predicted_need_exceeds_memory"]
    assert requests["finish_s"].isna().tolist() == [False] * 4 + [True]


def test_warm_up_leaves_out_the_first_requests(make_trace) -> None:  # type: ignore[no-untyped-def]
    trace = make_trace([0.0, 1.0, 2.0, 10.0], [3, 2, 1, 5])
    run = {"scheduler": "static_fifo", "num_gpus": 1, "scheduler.fixed_batch_size": 2, **LAW}

    by_share = simulate(trace, **run, **{"warm_up.share_pct": 50}).summary
    by_time = simulate(trace, **run, **{"warm_up.time_s": 2.0}).summary

    assert by_share["measured_requests"] == by_time["measured_requests"] == 2
    assert by_share["latency_mean_s"] == by_time["latency_mean_s"] == (5 + 6) / 2
    assert by_share["makespan_s"] == 14
    # Busy from 2 (the batch of 0-4) on: 2 + 3 + 6 of 14 s.
    assert by_share["gpu_utilization_pct"] == pytest.approx(100 * 11 / 14)


def test_one_token_requests_have_no_time_between_tokens(make_trace) -> None:  # type: ignore[no-untyped-def]
    summary = simulate(make_trace([0.0, 1.0], [1, 1]), **LAW).summary

    assert math.isnan(summary["tbt_mean_ms"])


def test_all_at_one_instant_is_overload(make_trace) -> None:  # type: ignore[no-untyped-def]
    result = simulate(make_trace([0.0] * 5, [1, 2, 3, 4, 5]), **LAW)

    assert result.summary["overloaded"]
    assert any("all requests arrive at one instant" in warning for warning in result.warnings)


def test_underprediction_overflows_memory_and_is_told(make_trace) -> None:  # type: ignore[no-untyped-def]
    result = simulate(
        make_trace([0.0] * 4, [60] * 4), predictor="constant", num_gpus=1,
        **{"predictor.value_tokens": 20, "scheduler.batch_size_max": 8}, **LAW,
    )  # fmt: skip

    # Four predicted needs of 21 fit into 100 tokens; their true need of 244 does not.
    assert result.batches["size"].tolist() == [4]
    assert result.summary["kv_overflow_pct"] == 100
    assert any("underpredicted" in warning for warning in result.warnings)


def test_weighted_quantiles_are_that_of_repeated_values() -> None:
    rng = np.random.default_rng(0)
    values, weight = rng.normal(size=50), rng.integers(0, 9, 50)

    for share in (0.01, 0.5, 0.9, 0.99):
        repeated = np.sort(np.repeat(values, weight))
        expected = repeated[math.ceil(share * len(repeated)) - 1]
        assert weighted_quantiles(values, weight.astype(float), [share]) == [expected]


def test_a_policy_that_does_not_carry_its_load_is_told() -> None:
    """Shortest bin first with partial batches starves long requests at loads that full batches carry."""
    uniform = {"kind": "uniform", "low_tokens": 1000, "high_tokens": 20_000}
    common = {
        "workload": "synthetic", "num_requests": 40_000, "num_gpus": 1, "k_bins": 4,
        "workload.timestamps": "real", "workload.output": uniform, "workload.arrivals.rate_per_s": 0.5,
        "gpu.law": {"length": "output", "alpha_ms": 0, "beta_ms": 1, "gamma": 0}, "gpu.kv_capacity_tokens": 10**6,
        "scheduler": "multi_bin_static", "scheduler.fill": "greedy",
    }  # fmt: skip

    starved = simulate(**common, **{"scheduler.selection": "shortest_bin"})
    served = simulate(**common, **{"scheduler.selection": "oldest_head"})

    assert starved.summary["offered_load"] < 1
    assert starved.summary["queue_climbing"]
    assert any(warning.startswith("growth: ") for warning in starved.warnings)
    assert not served.summary["queue_climbing"]


def test_a_short_run_is_told(make_trace) -> None:  # type: ignore[no-untyped-def]
    warnings = simulate(make_trace([0.0, 1.0], [1, 1]), **LAW).warnings

    assert "short run: 2 requests, so its p99 rests on the slowest 1" in warnings


def test_a_target_that_is_met_exactly_is_met(make_trace) -> None:  # type: ignore[no-untyped-def]
    trace = make_trace([0.0], [7])
    known = simulate(trace, scheduler="static_fifo")
    latency_s = known.summary["latency_max_s"]
    token_ms = float(known.outcome.batches["step_s"][0]) * 1000
    for late, sla in (
        (0.0, {"request_s": latency_s, "token_ms": token_ms}),
        (100.0, {"request_s": np.nextafter(latency_s, 0), "token_ms": np.nextafter(token_ms, 0)}),
    ):
        summary = simulate(trace, scheduler="static_fifo", sla=sla).summary
        assert summary["request_sla_violation_pct"] == late
        assert summary["token_sla_violation_pct"] == late
