"""Metrics by class against a count over the rows of requests; targets of a class."""

from __future__ import annotations

import numpy as np
import pytest

import mbexp
from mbexp.config.keys import SlaConfig
from mbexp.config.workload_keys import ClassConfig
from mbexp.errors import UserError
from mbexp.results.catalogue import find_column
from mbexp.results.targets import Target, read_targets
from mbexp.results.terminal import report
from mbexp.workload.trace import Trace

CLASSES = {"chat": {"ttft_s": 2.0, "request_s": 3.0}, "batch": {"request_s": 30.0, "weight": 2.0, "priority": 1}}


@pytest.fixture(scope="module")
def trace() -> Trace:
    random = np.random.default_rng(7)
    count = 400
    return Trace(
        np.cumsum(random.exponential(0.4, count)),
        random.integers(1, 300, count),
        random.integers(1, 200, count),
        extra={"tenant": random.integers(0, 2, count)},
        categories={"tenant": ("chat", "batch")},
    )


@pytest.fixture(scope="module")
def result(trace: Trace) -> mbexp.Result:
    keys = {"workload.classes": CLASSES, "workload.class_column": "tenant", "scheduler.order": "priority"}
    return mbexp.simulate(trace, scheduler="static_fifo", num_gpus=1, **keys)


def test_metrics_of_a_class_are_those_of_its_rows(result: mbexp.Result) -> None:
    rows, summary = result.requests, result.summary
    good = {}
    for name, one in CLASSES.items():
        mine = rows[rows["tenant"] == name]
        latency_s, ttft_s = mine["finish_s"] - mine["arrival_s"], mine["first_token_s"] - mine["arrival_s"]
        wait_s = mine["start_s"] - mine["arrival_s"]
        assert summary[f"measured_requests@{name}"] == len(mine)
        assert summary[f"latency_mean_s@{name}"] == pytest.approx(latency_s.mean())
        assert summary[f"ttft_p99_s@{name}"] == pytest.approx(ttft_s.quantile(0.99))
        assert summary[f"queue_delay_max_s@{name}"] == wait_s.max()
        late = latency_s > one["request_s"]
        assert summary[f"request_sla_violation_pct@{name}"] == pytest.approx(100 * late.mean())
        starved = 100 * (wait_s > 10 * wait_s.median()).mean()
        assert summary[f"starved_pct@{name}"] == pytest.approx(starved)
        good[name] = ~late & (ttft_s <= one.get("ttft_s", np.inf))
        rate = good[name].sum() / (mine["finish_s"].max() - mine["arrival_s"].min())
        assert summary[f"goodput_requests_per_s@{name}"] == pytest.approx(rate)
    assert 0 < summary["request_sla_violation_pct"] < 100
    together = sum(each.sum() for each in good.values()) / summary["makespan_s"]
    assert summary["goodput_requests_per_s"] == pytest.approx(together)


def test_a_class_has_a_line_in_the_terminal(result: mbexp.Result) -> None:
    (line,) = [line for line in report(result) if line.strip().startswith("chat ")]
    assert f"{result.summary['latency_mean_s@chat']:.3g} s mean" in line


def test_priority_makes_the_first_class_wait_less(result: mbexp.Result) -> None:
    assert result.summary["queue_delay_mean_s@chat"] < 0.7 * result.summary["queue_delay_mean_s@batch"]


def test_jain_index_of_what_was_served_while_requests_came(result: mbexp.Result) -> None:
    rows = result.requests
    done = rows[rows["finish_s"] <= rows["arrival_s"].max()]
    tokens = (done["prompt_tokens"] + 2 * done["output_tokens"]).groupby(done["tenant"].astype(str)).sum()
    chat, batch = float(tokens["chat"]), float(tokens["batch"]) / 2
    assert result.summary["jain_index"] == pytest.approx((chat + batch) ** 2 / (2 * (chat**2 + batch**2)))


def test_shares_are_drawn_with_a_stream_of_their_own() -> None:
    classes = {"chat": {"share_pct": 75, "ttft_s": 1}, "batch": {"share_pct": 25, "request_s": 60}}
    keys = {"workload": "synthetic", "num_requests": 2000, "scheduler": "static_fifo"}
    with_classes = mbexp.simulate(**keys, **{"workload.classes": classes}).summary
    without = mbexp.simulate(**keys).summary
    assert with_classes["latency_p99_s"] == without["latency_p99_s"]
    assert with_classes["measured_requests@chat"] == pytest.approx(1500, abs=4 * np.sqrt(2000 * 0.75 * 0.25))


def targets_of(text: str, *classes: str) -> list[Target]:
    """A target as it is read where there are classes of these names."""
    return read_targets(SlaConfig(targets=[text]), "continuous", {name: ClassConfig(ttft_s=1.0) for name in classes})


def test_a_class_may_have_targets_of_its_own() -> None:
    (target,) = targets_of("ttft_p99_s@chat<=1", "chat", "batch")
    assert target.value({"ttft_p99_s": 3.0, "ttft_p99_s@chat": 0.5}) == 0.5
    (good,) = targets_of("goodput_pct@chat>=90", "chat")
    assert good.value({"goodput_pct": 95.0, "goodput_pct@chat": 80.0}) == 80.0
    row = find_column("ttft_p99_s@chat")
    assert row is not None
    assert (row.key, row.unit, row.better) == ("ttft_p99_s@chat", "s", "lower")


@pytest.mark.parametrize(
    ("text", "classes", "message"),
    [
        ("ttft_p99_s@chta<=1", ["chat"], r"class=chta: .*did you mean 'chat'"),
        ("ttft_p99_s@chat<=1", [], r"there are no classes; set workload\.classes"),
        ("tbt_p99_ms@chat<=9", ["chat"], "tbt_p99_ms is not known by class"),
    ],
)
def test_a_wrong_target_of_a_class_is_one_line(text: str, classes: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        targets_of(text, *classes)
