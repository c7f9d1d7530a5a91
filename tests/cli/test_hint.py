"""What a run says at its end where it leaves open how many GPUs it takes."""

from __future__ import annotations

import pytest

from mbexp.cli.job import capacity_command, too_few


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
