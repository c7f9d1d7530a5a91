"""Continuous batching: rules and laws that break their promise end a run in one line; what a warm-up counts."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from mbexp import UserError, simulate
from mbexp.config.keys import SlaConfig
from mbexp.config.scheduler_keys import SchedulerConfig
from mbexp.hardware.iteration import ClosedForm
from mbexp.policy.build import build_policy
from mbexp.simulator.continuous.serve import ContinuousRules, continuous
from tests.simulator.continuous.agreement import priced

RULES = """
from mbexp.rules import assignment, batch_limit, bin_selection


@bin_selection
def nobody(now_s, queues, memory, parameters):
    return 99


@bin_selection
def nobody_later(now_s, queues, memory, parameters):
    return queues.ready[0] if now_s < 1.0 else -1


@batch_limit
def none(interval, bounds, state, parameters):
    return 0


@batch_limit
def none_later(interval, bounds, state, parameters):
    return 4 if interval.is_first else 0


@assignment
def beyond(gpus, request, memory, parameters):
    return gpus.end


@assignment
def lowest(gpus, request, memory, parameters):
    return gpus.first
"""
NOT_WAITING = "scheduler.selection: the rule named a queue in which no request waits"
BELOW_ONE = "scheduler.batch_size: the rule returned a limit below 1"
ELSEWHERE = "execution.assignment: the rule named a GPU that does not serve the request's bin"


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of rules, importable from the folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, "bad_rules", raising=False)
    Path("bad_rules.py").write_text(RULES)
    return "bad_rules"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"scheduler.selection": "nobody"}, NOT_WAITING),
        ({"scheduler.selection": "nobody_later"}, NOT_WAITING),
        ({"scheduler.selection": "nobody", "execution.assignment": "lowest"}, NOT_WAITING),
        ({"scheduler.selection": "nobody_later", "execution.assignment": "lowest"}, NOT_WAITING),
        ({"scheduler.batch_size": "none"}, BELOW_ONE),
        ({"scheduler.batch_size": "none_later"}, BELOW_ONE),
        ({"execution.assignment": "beyond"}, ELSEWHERE),
        ({"execution.assignment": "beyond", "execution.gpu_serves": "equal_share"}, ELSEWHERE),
    ],
)
def test_a_rule_that_breaks_its_promise_ends_the_run_in_one_line(rules, make_trace, keys, message):
    own = {"nobody", "nobody_later", "none", "none_later", "beyond", "lowest"}
    keys = {key: f"{rules}.{value}" if value in own else value for key, value in keys.items()}
    trace = make_trace([0.0, 0.1, 0.2, 1.5, 2.0, 2.1], [100, 40, 60, 3, 100, 50])
    settings = {"execution": "continuous", "execution.interval_steps": 2, "gpu": "linear_p2", "k_bins": 2}
    with pytest.raises(UserError, match=message) as caught:
        simulate(trace, num_gpus=2, **settings, **keys)
    assert "\n" not in str(caught.value)


def run(price: ClosedForm, arrival_s: list[float], output: list[int], count_from: int = 0):
    policy = build_policy(SchedulerConfig(), SlaConfig(), 10**6, in_batches=False)
    lengths = np.ones(len(output), np.int32), np.array(output, np.int32), np.array(output, np.int32)
    queue = np.zeros(len(output), np.uint16)
    times_s = np.array(arrival_s)
    rules = ContinuousRules()
    return continuous(
        times_s, *lengths, queue, 1, 1, 10**6, priced(price), policy, rules, log_segments=100, count_from=count_from
    )


@pytest.mark.parametrize(
    ("fixed_s", "message"),
    [
        (float("inf"), r"gpu\.law: the price of an iteration is negative or infinite"),
        (float("nan"), "under the latency law test a decode step takes no time"),
        (-0.01, "under the latency law test a decode step takes no time"),
        (0.0, "under the latency law test a decode step takes no time"),
    ],
)
def test_a_price_that_is_no_time_ends_the_run(fixed_s, message):
    with pytest.raises(UserError, match=message):
        run(ClosedForm(fixed_s, *[0.0] * 7), [0.0], [5])


def test_a_prefill_that_takes_negative_time_ends_the_run():
    price = ClosedForm(0.01, *[0.0] * 4, prefill_token_s=0.0, prefill_sequence_s=0.0, prefill_square_s=-1.0)
    with pytest.raises(UserError, match=r"gpu\.law: the price of an iteration is negative or infinite"):
        run(price, [0.0], [5])


def test_a_warm_up_counts_from_the_arrival_of_the_first_request_measured():
    """By hand: an iteration takes a second; the third request comes at 4.5 s, its prefill stalls the first at 5 s."""
    price = ClosedForm(1.0, *[0.0] * 7)
    whole, warm = (run(price, [0.0, 0.0, 4.5, 20.0], [6, 3, 2, 4], first) for first in (0, 2))
    assert warm.finish_s.tolist() == whole.finish_s.tolist() == [7.0, 3.0, 7.0, 24.0]
    assert whole.gaps.count == whole.gaps.counts.sum() == 5 + 2 + 1 + 3
    assert whole.gaps.sum_s == 6.0 + 2.0 + 1.0 + 3.0
    assert whole.gpus["busy_before_s"].tolist() == [0.0]
    # The GPU's last event before is the end of the second request at 3 s: tokens at 4, 5 and 7 s, one and three more.
    assert warm.gaps.count == warm.gaps.counts.sum() == 3 + 1 + 3
    assert warm.gaps.sum_s == 4.0 + 1.0 + 3.0
    assert warm.gaps.max_s == 2.0
    assert warm.gpus["busy_before_s"].tolist() == [4.5]
