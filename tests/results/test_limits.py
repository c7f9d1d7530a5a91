"""Limits of one request that are set or not, and targets: counted again from the requests of a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mbexp
from mbexp import UserError
from mbexp.config.keys import SlaConfig
from mbexp.results.targets import parse, read_targets

KEYS: dict[str, Any] = {"num_requests": 1500, "num_gpus": 1, "gpu": "roofline_h100", "scheduler": "static_fifo"}
KEYS |= {"workload": "synthetic", "workload.arrivals.rate_per_s": 20.0}


@pytest.mark.parametrize("execution", ["continuous", "run_to_completion"])
def test_an_unset_limit_binds_nobody_and_has_no_metric(execution: str) -> None:
    usual = mbexp.simulate(**KEYS, execution=execution)
    frame = usual.requests
    latency_s = frame["finish_s"] - frame["arrival_s"]
    limit_s = float(latency_s.median())

    free = mbexp.simulate(**KEYS, execution=execution, sla={"token_ms": None, "request_s": None})
    assert free.summary["goodput_pct"] == 100.0
    assert free.summary["goodput_requests_per_s"] == free.summary["throughput_requests_per_s"]
    assert np.isnan(free.summary["request_sla_violation_pct"])
    assert np.isnan(free.summary["token_sla_violation_pct"])
    for name in ("latency_p99_s", "ttft_p99_s", "tbt_p99_ms"):
        assert free.summary[name] == usual.summary[name]

    late = mbexp.simulate(**KEYS, execution=execution, sla={"token_ms": None, "request_s": limit_s})
    good_pct = 100 * float((latency_s <= limit_s).mean())
    assert late.summary["goodput_pct"] == pytest.approx(good_pct)
    assert late.summary["request_sla_violation_pct"] == pytest.approx(100 - good_pct)
    assert np.isnan(late.summary["token_sla_violation_pct"])

    ttft_s = frame["first_token_s"] - frame["arrival_s"]
    early = mbexp.simulate(**KEYS, execution=execution, sla={"token_ms": None, "request_s": None, "ttft_s": 0.05})
    assert early.summary["goodput_pct"] == pytest.approx(100 * float((ttft_s <= 0.05).mean()))


def test_rejected_requests_are_not_good_and_those_of_the_warm_up_do_not_count() -> None:
    keys = KEYS | {"execution": "continuous", "gpu.kv_capacity_tokens": 1200, "execution.kv": "paged"}
    keys |= {"execution.oversized_prompt": "reject"}
    keys |= {"warm_up.share_pct": 30.0, "sla.token_ms": None, "sla.request_s": 2.0}
    result = mbexp.simulate(**keys)
    frame = result.requests
    served = frame["finish_s"].notna().to_numpy()
    rejected = ~served
    assert 0 < rejected.sum() == result.summary["rejected_requests"]
    first = np.flatnonzero(served)[int(0.3 * served.sum())]  # the first request that is measured
    last_left_out = np.flatnonzero(served[:first])[-1]
    good = served & ((frame["finish_s"] - frame["arrival_s"]).to_numpy() <= 2.0)
    came = served[first:].sum() + rejected[last_left_out + 1 :].sum()
    assert result.summary["goodput_pct"] == pytest.approx(100 * good[first:].sum() / came)


@pytest.mark.parametrize("execution", ["continuous", "run_to_completion"])
def test_a_dynamic_limit_needs_the_limit_between_tokens(execution: str) -> None:
    keys = KEYS | {"scheduler": "dynamic_no_bins", "execution": execution, "num_requests": 10}
    with pytest.raises(UserError, match=r"sla\.token_ms=null: scheduler\.batch_size=dynamic needs a limit") as caught:
        mbexp.simulate(**keys, sla={"token_ms": None})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("sla", "said"),
    [
        (SlaConfig(targets=["request_sla_violation_pct<=5"], request_s=None), "sla.request_s=null"),
        (SlaConfig(targets=["token_sla_violation_pct<=5"], token_ms=None), "sla.token_ms=null"),
        (SlaConfig(targets=["goodput_pct>=99"], token_ms=None, request_s=None), "every request is good"),
        (SlaConfig(targets=["ttft_p98_s<=1"]), "near to it: ttft_p9"),
        (SlaConfig(targets=["zzzz<=1"]), "python -m mbexp.results.catalogue lists them"),
    ],
)
def test_a_target_that_no_run_can_be_judged_by_is_refused(sla: SlaConfig, said: str) -> None:
    with pytest.raises(UserError) as caught:
        read_targets(sla, "continuous")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 140


def test_goodput_is_a_target_and_excess_has_a_sign() -> None:
    (target,) = read_targets(SlaConfig(targets=["goodput_pct>=99"]), "run_to_completion")
    assert target.value({"goodput_pct": 98.0}) == 98.0
    assert target.excess(98.01) == pytest.approx(0.01)
    assert target.excess(99.99) == pytest.approx(-0.01)
    assert parse("ttft_p99_s<=2").excess(3.0) == pytest.approx(0.5)
    # A run stored before the metric was.
    older = {"measured_requests": 80, "rejected_requests": 20, "goodput_requests_per_s": 4.0, "makespan_s": 10.0}
    assert target.value(older) == pytest.approx(40.0)
