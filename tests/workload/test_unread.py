"""Keys of a workload that nothing reads are refused in one line, and those that something reads are not."""

from __future__ import annotations

import pytest

import mbexp
from mbexp import UserError, load_trace


@pytest.mark.parametrize(
    ("kind", "keys", "told"),
    [
        ("csv", {"prompt.value_tokens": 7}, "workload.prompt.value_tokens=7: has no effect with workload=csv; "),
        ("csv", {"output.kind": "uniform"}, "workload.output.kind=uniform: has no effect with workload=csv; "),
        ("csv", {"sessions.turns.value": 3}, "workload.sessions.turns.value=3: has no effect with workload=csv; "),
        ("azure", {"prompt.value_tokens": 7}, "workload.prompt.value_tokens=7: has no effect with workload=azure; "),
        ("sharegpt", {"columns.prompt": "x"}, "workload.columns.prompt=x: has no effect with workload=sharegpt; "),
        ("recorded", {"prompt.low_tokens": 7}, "workload.prompt.low_tokens=7: has no effect with workload=recorded; "),
        ("burstgpt_like", {"path": "x.csv"}, "workload.path=x.csv: has no effect with workload=burstgpt_like; "),
        ("burstgpt_like", {"failed": "refuse"}, "workload.failed=refuse: has no effect with workload=burstgpt_like; "),
        ("synthetic", {"sessions.session": "user"}, "workload.sessions.session=user: has no effect with workload=syn"),
        ("sessions", {"sessions.history": "added"}, "workload.sessions.history=added: has no effect with workload=se"),
    ],
)
def test_a_key_that_nothing_reads_is_refused(kind, keys, told):
    with pytest.raises(UserError) as raised:
        load_trace(kind, num_requests=4, **keys)
    assert str(raised.value).startswith(told)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"rate_scaling": 3}, "workload.rate_scaling=3: without meaning under workload.timestamps=real; "),
        ({"window.start_s": 1}, "workload.window.start_s=1: without meaning under workload.window.kind=rows; "),
        ({"window.duration_s": 1}, "workload.window.duration_s=1: without meaning under workload.window.kind=rows; "),
        ({"window.kind": "busiest", "window.start_row": 7}, "workload.window.start_row=7: without meaning under "),
        ({"arrivals.cv": 3}, "workload.arrivals.cv=3: without meaning under workload.arrivals.kind=poisson; "),
        ({"arrivals.think_time_s": 2}, "workload.arrivals.think_time_s=2: without meaning under workload.arrivals."),
    ],
)
def test_a_key_that_another_leaves_without_meaning_is_named(keys, told):
    assert any(note.startswith(told) for note in load_trace("synthetic", num_requests=4, **keys).notes)
    plain = load_trace("synthetic", num_requests=4).notes
    assert not any("without meaning" in note for note in plain)


def test_keys_that_are_read_are_not_refused(tmp_path):
    """Of each kind the keys that its own page names: they change the requests, or how they come."""
    plain = load_trace("synthetic", num_requests=4)
    same = load_trace("synthetic", num_requests=4, **{"prompt.kind": "constant", "prompt.value_tokens": 7})
    assert same.prompt_tokens.tolist() == [7] * 4
    gamma = load_trace("synthetic", num_requests=4, **{"arrivals.kind": "gamma", "arrivals.cv": 3})
    assert gamma.arrival_s.tolist() != plain.arrival_s.tolist()
    turns = load_trace("sessions", num_requests=4, **{"sessions.system_prompts": 1, "sessions.system.value_tokens": 9})
    assert len(turns) == 4
    file = tmp_path / "own.csv"
    file.write_text("t,p,o\n0,10,5\n3,20,6\n")
    named = {"columns.arrival": "t", "columns.prompt": "p", "columns.output": "o"}
    scaled = load_trace("csv", path=str(file), timestamps="scaled", rate_scaling=3, **named)
    assert scaled.arrival_s.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"workload": "synthetic", "predictor": "column", "predictor.column": "guess"},
            r"^predictor\.column=guess: the trace has no further column of this name",
        ),
        (
            {"workload": "recorded", "predictor": "column", "predictor.column": "guess"},
            r"^predictor\.column=guess: workload=recorded keeps no further columns$",
        ),
        (
            {"workload": "aiperf_sessions", "workload.class_column": "tenant",
             "workload.classes": {"chat": {"ttft_s": 1.0, "share_pct": None}}},
            r"^workload\.class_column=tenant: workload=aiperf_sessions keeps no further columns$",
        ),
        (
            {"workload": "recorded", "workload.columns.extra": ["guess"]},
            r"^workload\.columns\.extra=\['guess'\]: workload=recorded keeps no further columns$",
        ),
    ],
)  # fmt: skip
def test_a_column_that_is_not_there_is_refused_under_the_key_that_asks_for_it(tmp_path, values, message):
    if values["workload"] != "synthetic":
        (tmp_path / "log.jsonl").write_text('{"input_length": 1, "output_length": 1}\n')
        values = {**values, "workload.path": str(tmp_path / "log.jsonl")}
    with pytest.raises(UserError, match=message):
        mbexp.simulate(**values, num_requests=5)
