"""Examples small enough to check by hand, and saturated tables known exactly."""

from __future__ import annotations

import numpy as np
import pytest

from mbexp import simulate
from mbexp.workload.trace import Trace

# Seconds are tokens: T = L, whatever the batch.
ONE_SECOND_A_TOKEN = {
    "gpu.law": {"kind": "affine", "length": "output", "alpha_ms": 0, "beta_ms": 1000, "gamma": 0},
    "gpu.kv_capacity_tokens": 10**9,
}
THOUSANDTHS = {
    "gpu.law": {"kind": "affine", "length": "output", "alpha_ms": 0, "beta_ms": 1, "gamma": 0},
    "gpu.kv_capacity_tokens": 2**31 - 1,
}


def test_p1_toy_example(make_trace) -> None:  # type: ignore[no-untyped-def]
    """P1, section I: service times 1, 5, 2, 6 in batches of two take 11 s in one queue and 8 s in two bins."""
    trace = make_trace([0.0] * 4, [1, 5, 2, 6])
    static = {"scheduler": "multi_bin_static", "num_gpus": 1, "scheduler.fixed_batch_size": 2}

    one = simulate(trace, **static, bins="none", **ONE_SECOND_A_TOKEN)
    two = simulate(trace, **static, k_bins=2, **ONE_SECOND_A_TOKEN)

    assert one.summary["makespan_s"] == 11
    assert two.summary["makespan_s"] == 8


def test_the_originals_example_of_composition(make_trace) -> None:  # type: ignore[no-untyped-def]
    """A batch of 1, 100, 2, 3 takes 100 s; a bin of 1, 2, 3, 5 takes 5 s: throughput 0.04 against 0.8."""
    static = {"scheduler": "static_fifo", "num_gpus": 1, "scheduler.fixed_batch_size": 4}

    mixed = simulate(make_trace([0.0] * 4, [1, 100, 2, 3]), **static, **ONE_SECOND_A_TOKEN)
    alike = simulate(make_trace([0.0] * 4, [1, 2, 3, 5]), **static, **ONE_SECOND_A_TOKEN)

    assert mixed.summary["throughput_requests_per_s"] == 0.04
    assert alike.summary["throughput_requests_per_s"] == 0.8


def test_bins_keep_the_long_request_apart(make_trace) -> None:  # type: ignore[no-untyped-def]
    result = simulate(
        make_trace([0.0] * 4, [1, 100, 2, 3]), scheduler="multi_bin_static", bins="explicit", num_gpus=2,
        **{"scheduler.fixed_batch_size": 4}, **ONE_SECOND_A_TOKEN,
    )  # fmt: skip

    assert result.requests["finish_s"].tolist() == [3, 100, 3, 3]


@pytest.mark.parametrize(("k", "throughput"), [(1, 0.4472), (2, 0.5636), (4, 0.6479), (8, 0.7003), (16, 0.7298)])
def test_saturated_throughput_of_uniform_lengths(k: int, throughput: float) -> None:
    """U[1, 20] s, B = 8: B / E[longest of a batch] = 8 / (10.5 + 19 * 7 / (2 k 9))."""
    n = 400_000
    lengths = np.random.default_rng(5).uniform(1000, 20_000, n)
    trace = Trace(np.zeros(n), np.ones(n, np.int32), np.rint(lengths).astype(np.int32), "test")

    result = simulate(trace, scheduler="multi_bin_static", k_bins=k, num_gpus=1, **THOUSANDTHS)

    # One standard error of the mean of 50,000 batch times is 0.06 to 0.15 %.
    assert result.summary["throughput_requests_per_s"] == pytest.approx(throughput, rel=0.004)


@pytest.mark.parametrize(("servers", "rate", "wait"), [(1, 0.8, 4.0), (4, 3.2, 0.745541)])
def test_waits_of_single_requests_are_those_of_erlang(servers: int, rate: float, wait: float) -> None:
    """M/M/1 and M/M/4 with mean service 1 s: batches of one whose time is exponential."""
    result = simulate(
        scheduler="static_fifo", workload="synthetic", num_requests=2_000_000, num_gpus=servers, seed=11,
        **{
            "scheduler.fixed_batch_size": 1,
            "workload.arrivals": {"kind": "poisson", "rate_per_s": rate},
            "workload.timestamps": "real",
            "workload.output": {"kind": "constant", "value_tokens": 1},
            "gpu.noise.kind": "exponential",
            "warm_up.share_pct": 5,
        },
        **ONE_SECOND_A_TOKEN,
    )  # fmt: skip

    assert result.summary["queue_delay_mean_s"] == pytest.approx(wait, rel=0.03)
    assert result.summary["offered_load"] == pytest.approx(rate / servers, rel=0.005)
