"""The search, the verdicts and the targets, each against what can be counted by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mbexp import UserError
from mbexp.capacity.judge import FAIL, PASS, UNDECIDED, judge
from mbexp.capacity.search import least
from mbexp.config.keys import SlaConfig
from mbexp.results.targets import read_targets


@pytest.mark.parametrize("answer", [1, 2, 3, 17, 64, 99, 100])
def test_the_end_is_the_same_from_any_start(answer: int) -> None:
    for start in range(1, 101):
        found = least(lambda n: PASS if n >= answer else FAIL, start, 1, 100)
        assert found is not None
        assert (found.low, found.high, found.monotone) == (answer, answer, True)


def test_undecided_numbers_make_a_range() -> None:
    for start in range(1, 30):
        found = least(lambda n: FAIL if n < 7 else UNDECIDED if n < 10 else PASS, start, 1, 29)
        assert found is not None
        assert (found.low, found.high) == (7, 10)


def test_nothing_is_enough_and_one_more_may_fail() -> None:
    assert least(lambda n: FAIL, 5, 1, 10) is None
    found = least(lambda n: PASS if n == 5 or n > 8 else FAIL, 5, 1, 20)
    assert found is not None
    assert (found.high, found.monotone) == (5, False)


def _summaries(*ttft_s: float, overloaded: bool = False) -> list[dict[str, Any]]:
    return [{"ttft_p99_s": each, "overloaded": overloaded, "queue_climbing": False} for each in ttft_s]


def test_verdicts_follow_the_one_sided_interval() -> None:
    targets = read_targets(SlaConfig(targets=["ttft_p99_s<=1"]), "continuous")
    # Of 0.8, 0.9, 1.0 the mean is 0.9 and the standard error 0.1 / sqrt(3); t(0.95, 2) = 2.92 gives 0.169.
    verdict, judged = judge(targets, _summaries(0.8, 0.9, 1.0), 0.05, True)
    assert verdict == UNDECIDED
    assert judged[0].half_width == pytest.approx(2.91999 * 0.1 / math.sqrt(3), rel=1e-5)
    assert judge(targets, _summaries(0.7, 0.8, 0.9), 0.05, True)[0] == PASS
    assert judge(targets, _summaries(1.1, 1.2, 1.3), 0.05, True)[0] == FAIL
    assert judge(targets, _summaries(0.7, 0.8, 0.9, overloaded=True), 0.05, True)[0] == FAIL


def test_one_observation_has_no_interval() -> None:
    targets = read_targets(SlaConfig(targets=["ttft_p99_s<=1"]), "continuous")
    verdict, judged = judge(targets, _summaries(0.9, 0.9), 0.05, False)
    assert verdict == PASS
    assert math.isnan(judged[0].half_width)
    assert "±" not in str(judged[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ttft_p98_s<=1", "ttft_p9"),
        ("ttft_p99_s<1", "must be metric<=bound"),
        ("ttft_p99_s>=1", "lower is better"),
        ("ttft_p99_s<=-1", "impossible"),
        ("goodput_pct>=101", "impossible"),
        ("goodput_pct>=0", "zero GPUs meet it"),
        ("ttft_p99_s<=0", "impossible, no run can meet it"),
        ("request_sla_violation_pct<=100", "zero GPUs meet it"),
        ("ttft_p99_s<=inf", "finite"),
    ],
)
def test_wrong_targets_end_in_one_line(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        read_targets(SlaConfig(targets=[text]), "continuous")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
