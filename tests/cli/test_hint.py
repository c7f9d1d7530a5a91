"""What a run says at its end where it leaves open how many GPUs it takes."""

from __future__ import annotations

import pytest

from mbexp.cli.job import capacity_command, too_few
from mbexp.cli.words import quoted_targets
from mbexp.results.targets import parse


def test_the_command_keeps_the_words_of_the_run_but_its_number_of_gpus() -> None:
    words = ["scheduler=static_fifo", "num_gpus=8", "workload.path=my log.csv", "--config-dir", "mine"]
    assert (
        capacity_command(words, False)
        == "python -m mbexp.capacity scheduler=static_fifo 'workload.path=my log.csv' 'sla.targets=[goodput_pct>=95]'"
    )
    with_targets = capacity_command(["sla.targets=['ttft_p99_s<=1']", "gpu.count=2"], True)
    assert "goodput" not in with_targets
    assert "gpu.count" not in with_targets


@pytest.mark.parametrize(
    ("overloaded", "late_pct", "open_question"), [(True, 0.0, True), (False, 5.1, True), (False, 5.0, False)]
)
def test_it_is_said_of_overload_and_of_missed_targets(overloaded: bool, late_pct: float, open_question: bool) -> None:
    assert too_few({"overloaded": overloaded, "request_sla_violation_pct": late_pct}) is open_question


def test_targets_decide_where_there_are_any() -> None:
    targets = [parse("ttft_p99_s<=1"), parse("goodput_pct>=99")]
    summary = {"overloaded": False, "ttft_p99_s": 1.0, "goodput_pct": 99.0, "request_sla_violation_pct": 50.0}
    assert not too_few(summary, targets)
    assert too_few(summary | {"goodput_pct": 98.9}, targets)
    assert too_few(summary | {"ttft_p99_s": None}, targets)
    assert too_few(summary | {"overloaded": True}, targets)


@pytest.mark.parametrize(
    ("word", "read"),
    [
        ("sla.targets=[ttft_p99_s<=1, tbt_p99_ms<=50]", "sla.targets=['ttft_p99_s<=1','tbt_p99_ms<=50']"),
        ("+sla.targets=[goodput_pct>=99]", "+sla.targets=['goodput_pct>=99']"),
        ('sla.targets=["ttft_p99_s<=1"]', 'sla.targets=["ttft_p99_s<=1"]'),
        ("gpu=a100,h100", "gpu=a100,h100"),
    ],
)
def test_targets_need_no_quotes_inside(word: str, read: str) -> None:
    assert quoted_targets(word) == read
