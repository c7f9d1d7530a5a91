"""Wrong orders and classes: one line each, that names the key."""

from __future__ import annotations

from typing import Any

import pytest

import mbexp
from mbexp.errors import UserError

CHAT = {"chat": {"share_pct": 100, "ttft_s": 1}}

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"scheduler.order": "sfj"}, r"scheduler\.order=sfj: .*did you mean 'sjf'"),
    ({"scheduler.order": "sjf", "scheduler.order_by": "length"}, r"scheduler\.order_by=length: "),
    (
        {"scheduler.order": "sjf", "predictor": "constant"},
        r"scheduler\.order=sjf: sorts by predicted outputs, and predictor",
    ),
    ({"scheduler.order": "sjf_ageing", "scheduler.parameters": {"ageing": 1.0}}, r"scheduler\.parameters\.ageing: "),
    ({"scheduler.order": "vtc", "workload.classes": CHAT}, r"scheduler\.order=vtc: counts .* use execution=continuous"),
    (
        {"scheduler.order": "vtc", "execution": "continuous"},
        r"scheduler\.order=vtc: is a rule for classes; set workload\.classes",
    ),
    (
        {"scheduler.order": "srpt", "predictor": "constant"},
        r"scheduler\.order=srpt: sorts by predicted outputs, and predictor",
    ),
    ({"scheduler": "srpt"}, r"scheduler\.preempt=true: batches run to completion; use execution=continuous"),
    (
        {"scheduler": "srpt", "execution": "continuous", "execution.assignment": "central"},
        r"scheduler\.preempt=true: .* use execution\.assignment=join_shortest",
    ),
    (
        {"scheduler": "srpt", "execution": "continuous", "scheduler.queue": "per_bin"},
        r"scheduler\.preempt=true: .* use scheduler\.queue=fifo",
    ),
    (
        {"scheduler": "srpt", "execution": "sglang"},
        r"scheduler\.preempt=true: does not go with execution\.output_reserve=ratio",
    ),
    (
        {"scheduler": "hrrn", "execution": "continuous", "scheduler.preempt": True},
        r"scheduler\.preempt=true: keys of scheduler\.order=hrrn change",
    ),
    (
        {"scheduler": "static_fifo", "execution": "continuous", "scheduler.preempt": True},
        r"scheduler\.preempt=true: scheduler\.order=fifo displaces nobody",
    ),
    ({"scheduler.wait": "any"}, r"scheduler\.wait=any: .*any_type"),
    ({"scheduler": "wait"}, r"scheduler\.wait=any_type: scheduler\.fill says .* use execution=continuous"),
    (
        {"scheduler": "wait", "execution": "continuous", "scheduler.batch_size": "dynamic", "sla.token_ms": 50},
        r"scheduler\.wait=any_type: shares out a limit that stays; use scheduler\.batch_size=fixed, not dynamic",
    ),
    (
        {"scheduler": "wait", "execution": "continuous", "execution.assignment": "central"},
        r"scheduler\.wait=any_type: .* use execution\.assignment=join_shortest",
    ),
    (
        {"scheduler": "wait", "execution": "sglang"},
        r"scheduler\.wait=any_type: does not go with execution\.output_reserve=ratio",
    ),
    (
        {"scheduler": "wait", "execution": "continuous", "workload.arrivals": {"kind": "closed", "users": 3}},
        r"scheduler\.wait=any_type: waits for requests to come, and here these wait for answers",
    ),
    (
        {"scheduler": "wait", "execution": "vllm", "execution.prefix_cache": "lru", "workload": "sessions"}
        | {"workload.sessions.arrivals": "recorded"},
        r"scheduler\.wait=any_type: does not go with a prefix cache; use execution\.prefix_cache=none",
    ),
    ({"scheduler.queue": "per_class"}, r"scheduler\.queue=per_class: there are no classes; set workload\.classes"),
    ({"scheduler.order": "priority"}, r"scheduler\.order=priority: is a rule for classes; set workload\.classes"),
    ({"workload.classes": {"chat": {"share_pct": 100}}}, r"workload\.classes\.chat: has no limit"),
    (
        {"workload.classes": {"chat": {"share_pct": 100, "ttft_s": 1, "weight": 0}}},
        r"classes\.chat\.weight=0\.0: must be above 0",
    ),
    ({"workload.classes": {"chat": {"share_pct": 40, "ttft_s": 1}}}, r"workload\.classes: the shares add up to 40 %"),
    ({"workload.classes": {"chat": {"ttft_s": 1}}}, r"workload\.classes\.chat: has no share_pct"),
    (
        {"workload.classes": {"chat": {"share_pct": 100, "ttft": 1}}},
        r"classes\.chat\.ttft=1: unknown key \(did you mean",
    ),
    ({"workload.class_column": "tenant"}, r"workload\.class_column=tenant: names no class"),
    (
        {"workload.class_column": "tenant", "workload.classes": CHAT},
        r"class_column=tenant: the trace has no further column",
    ),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_a_wrong_order_or_class_is_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        mbexp.simulate(**{"workload": "synthetic", "num_requests": 5, "scheduler": "static_fifo", **values})
    assert "\n" not in str(raised.value)
