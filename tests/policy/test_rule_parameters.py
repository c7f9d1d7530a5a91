"""Rules of the user's own: parameters by name and by place, one limit in both modes, every slot."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import numpy as np
import pytest

import mbexp.rules
from mbexp import UserError, simulate
from mbexp.config.choices import rule_names
from mbexp.policy.slots import SLOTS

RULES = """
from mbexp.rules import assignment, batch_fill, batch_limit, bin_selection


@bin_selection(first=0.0, second=7.0)
def by_name(now_s, queues, memory, parameters):
    return queues.ready[int(parameters.second) % queues.ready_count]


@bin_selection
def by_place(now_s, queues, memory, numbers):
    return queues.ready[int(numbers[1]) % queues.ready_count]


@batch_limit(most=5.0)
def capped(interval, bounds, state, parameters):
    return int(min(parameters.most, bounds.size_max))


@batch_limit
def counting(interval, bounds, state, parameters):
    if not interval.is_first:
        state[0] += interval.finished
    return 1 + int(state[0])


@batch_fill(wait_s=0.25)
def delayed(queue, parameters):
    return min(queue.filling_arrival_s, queue.head_arrival_s + parameters.wait_s)


@assignment(gpu=1.0)
def pinned(gpus, request, memory, parameters):
    return gpus.first + int(parameters.gpu)
"""


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of rules in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, "named_rules", raising=False)
    Path("named_rules.py").write_text(RULES)
    return "named_rules"


def bins_served(trace, **keys):  # type: ignore[no-untyped-def]
    settings = {"num_gpus": 1, "k_bins": 3, "gpu.kv_capacity_tokens": 10**6}
    return simulate(trace, **settings, **keys).batches["bin"].tolist()


def test_parameters_are_read_by_name_and_by_place(rules, make_trace):  # type: ignore[no-untyped-def]
    trace = make_trace([0.0] * 6, [1, 2, 100, 101, 900, 901])
    selection = "scheduler.selection"
    assert bins_served(trace, **{selection: f"{rules}.by_name"}) == [1, 2, 0]  # 7 of 3, then of 2 ready queues
    for given in ({"second": 2}, [0, 2]):
        named = bins_served(trace, **{selection: f"{rules}.by_name", "scheduler.parameters": given})
        assert named == [2, 0, 1]
    assert bins_served(trace, **{selection: f"{rules}.by_place", "scheduler.parameters": [0, 2]}) == [2, 0, 1]


def test_one_limit_serves_both_modes(rules, make_trace):  # type: ignore[no-untyped-def]
    trace = make_trace([0.0] * 60, [20] * 60)
    keys = {"scheduler": "dynamic_no_bins", "scheduler.batch_size": f"{rules}.capped", "num_gpus": 1}
    for most in (3, 5):
        whole = simulate(trace, **keys, **{"scheduler.parameters": {"most": most}})
        assert whole.batches["size"].tolist() == [most] * (60 // most)
        continuous = {"execution": "continuous", "gpu": "linear_p2", "execution.interval_steps": 4}
        steps = simulate(trace, **keys, **continuous, **{"scheduler.parameters": {"most": most}})
        assert steps.summary["batch_size_max"] == most


def test_a_limit_sees_what_finished_in_both_modes(rules, make_trace):  # type: ignore[no-untyped-def]
    keys = {"scheduler": "dynamic_no_bins", "scheduler.batch_size": f"{rules}.counting", "num_gpus": 1}
    trace = make_trace([0.0] * 15, [6] * 15)
    # One more for every request that has finished: 1, 1 + 1, 1 + 3, 1 + 7.
    assert simulate(trace, **keys).batches["size"].tolist() == [1, 2, 4, 8]
    continuous = {"execution": "continuous", "gpu": "linear_p2", "execution.interval_steps": 5}
    requests = simulate(trace, **keys, **continuous).requests
    assert np.unique(requests["start_s"], return_counts=True)[1].tolist() == [1, 2, 4, 8]


def test_a_fill_and_an_assignment_read_theirs(rules, make_trace):  # type: ignore[no-untyped-def]
    trace = make_trace([0.0, 0.1, 0.3, 9.0], [1, 1, 1, 1])
    keys = {"scheduler": "static_fifo", "scheduler.fill": f"{rules}.delayed", "num_gpus": 1}
    assert simulate(trace, **keys).batches["start_s"].tolist()[0] == 0.25
    later = simulate(trace, **keys, **{"scheduler.parameters": {"wait_s": 0.5}})
    assert later.batches["start_s"].tolist()[0] == 0.5
    continuous = {"execution": "continuous", "execution.assignment": f"{rules}.pinned", "num_gpus": 4}
    for gpu in (0, 3):
        requests = simulate(trace, **continuous, **{"scheduler.parameters": {"gpu": gpu}}).requests
        assert requests["gpu"].tolist() == [gpu] * 4


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"scheduler.parameters": {"secnd": 1}}, "no rule has such a parameter (did you mean 'second'?)"),
        ({"scheduler.parameters": {"second": "x"}}, "scheduler.parameters.second=x: must be a number"),
        ({"scheduler.selection": "round_robin", "scheduler.parameters": [1]}, "only a rule of your own reads them"),
        ({"scheduler.selection": "named_rules.by_place"}, "reads 2 numbers and is given 0"),
    ],
)
def test_a_wrong_parameter_is_one_line(rules, make_trace, keys, message):  # type: ignore[no-untyped-def]
    with pytest.raises(UserError) as caught:
        simulate(make_trace([0.0], [1]), **{"scheduler.selection": f"{rules}.by_name", **keys})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("queues, memory, parameters):\n    return 0", "takes 4 arguments, not 3"),
        ("now_s, queues, memory, parameters):\n    return int(parameters.patence_s)", "did you mean 'patience_s'"),
    ],
)
def test_a_wrong_function_is_one_line(tmp_path, monkeypatch, make_trace, body, message):  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "wrong_rules", raising=False)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    Path("wrong_rules.py").write_text(
        f"from mbexp.rules import bin_selection\n\n\n@bin_selection(patience_s=1)\ndef wrong({body}\n"
    )
    with pytest.raises(UserError, match=message):
        simulate(make_trace([0.0], [1]), **{"scheduler.selection": "wrong_rules.wrong"})


def test_the_command_line_sets_and_sweeps_them(rules, command):  # type: ignore[no-untyped-def]
    Path("named_rules.py").write_text(RULES)
    small = (
        "workload=synthetic",
        "num_requests=20",
        "workload.timestamps=real",
        f"scheduler.selection={rules}.by_name",
    )
    assert command(*small, "scheduler.parameters.second=2")[0] == 0
    assert command(*small, "scheduler.parameters.1=2")[0] == 0
    code, _, errors = command(*small, "scheduler.parameters=[0,2]")
    assert (code, "scheduler.parameters.0=1.5" in errors) == (1, True)
    code, shown, _ = command("-m", *small, "scheduler.parameters.second=1,2,4", "hydra/launcher=basic")
    assert code == 0
    assert "3 runs" in shown


def test_every_slot_has_its_decorator_and_its_rules() -> None:
    for slot in SLOTS:
        assert callable(getattr(mbexp.rules, slot.decorator))
        assert len(slot.built_ins()) == len(rule_names(slot.module)) > 1
    assert inspect.getdoc(mbexp.rules.batch_fill)
