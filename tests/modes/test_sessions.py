"""Conversations in both modes: turns wait for answers; the machine-repair model, bounds, Little's law, open replays."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from mbexp import Trace, UserError, configure, load_trace, simulate
from mbexp.results.statistics import batch_means_interval
from mbexp.results.store import run_key
from mbexp.theory import queueing
from mbexp.validate.setups import constant_time, one_queue
from tests.modes.test_closed_loop import IN_BATCHES, instants

CHAT = {
    "workload": "sessions",
    "workload.sessions.think.mean_s": 2.0,
    "workload.arrivals.rate_per_s": 0.2,
    "output.batches": False,
}
ONE_TOKEN = {
    "workload.prompt": {"kind": "constant", "value_tokens": 1},
    "workload.output": {"kind": "exponential", "mean_tokens": 1000},
    "workload.sessions.system_prompts": 0,
}
SMALL = {"workload.prompt.mean_tokens": 20.0, "workload.output": {"kind": "exponential", "mean_tokens": 20.0}}
SPARSE = {**SMALL, "workload.sessions.system_prompts": 0}
SERVERS = {
    "run_to_completion": {**one_queue(4, gpus=2), "scheduler.fill": "greedy"},
    "continuous": {"execution": "continuous", "gpu": "rtx4080_qwen3_1_7b", "num_gpus": 2},
}


def in_trace_order(result, column):
    values = np.empty(len(result.trace))
    values[result.outcome.accepted] = column
    return values


@pytest.mark.parametrize("mode", SERVERS)
def test_a_turn_comes_its_think_time_after_the_last_answer(mode):
    result = simulate(**CHAT, **SPARSE, **SERVERS[mode], num_requests=600)
    arrival_s, _, finish_s = (in_trace_order(result, column) for column in instants(result))
    turns = result.trace.closed
    caused = turns.parent >= 0
    assert caused.sum() > 300
    assert np.array_equal(arrival_s[caused], finish_s[turns.parent[caused]] + turns.think_s[caused])
    assert np.array_equal(arrival_s[~caused], turns.own_s[~caused])
    assert np.all(np.diff(result.outcome.arrival_s) >= 0)
    table = result.requests
    assert np.array_equal(table.arrival_s, arrival_s)
    assert np.array_equal(table.prompt_tokens, result.trace.prompt_tokens)
    # A prompt is all that was said before, and what is new.
    prompt, output = result.trace.prompt_tokens.astype(int), result.trace.output_tokens
    new = prompt[caused] - prompt[turns.parent[caused]] - output[turns.parent[caused]]
    assert new.min() >= 1


@pytest.mark.parametrize("mode", SERVERS)
def test_a_closed_run_replayed_from_its_own_arrivals_is_the_same_run(mode):
    closed = simulate(**CHAT, **SPARSE, **SERVERS[mode], num_requests=400)
    records = closed.outcome
    trace = Trace(records.arrival_s, records.prompt_tokens, records.output_tokens)
    replayed = simulate(trace, **SERVERS[mode], **{"output.batches": False})
    for one, other in zip(instants(closed), instants(replayed), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("count", [3, 10])
def test_users_who_hold_conversations_are_the_machine_repair_model(count):
    loop = {
        "workload.arrivals": {"kind": "closed", "users": count, "think_time_s": 5.0, "think_kind": "exponential"},
        "workload.sessions.think": {"kind": "exponential", "mean_s": 5.0},
    }
    result = simulate(**{**CHAT, **ONE_TOKEN, **loop}, **IN_BATCHES, num_requests=60_000, seed=2)
    arrival_s, _, finish_s = instants(result)
    model = queueing.machine_repair(count, 5.0, 1.0, 2)
    interval = batch_means_interval((finish_s - arrival_s)[6000:50_000], confidence=0.99)
    assert interval.half_width < 0.05 * model.latency
    assert abs(interval.mean - model.latency) <= interval.half_width
    # Users end their last conversations at different times, so that the end of the run is left out.
    assert 44_000 / (arrival_s[49_999] - arrival_s[5999]) == pytest.approx(model.throughput, rel=0.02)
    # Little's law: until the last arrival every user waits for an answer or thinks.
    turns, end_s = result.trace.closed, arrival_s[-1]
    finished = in_trace_order(result, finish_s)
    arrived = in_trace_order(result, arrival_s)
    waits_s = (np.minimum(finished, end_s) - np.minimum(arrived, end_s)).sum()
    caused = turns.parent >= 0
    thinks_s = (np.minimum(arrived[caused], end_s) - np.minimum(finished[turns.parent[caused]], end_s)).sum()
    unended = np.setdiff1d(np.arange(len(finished)), turns.parent[caused])
    idle_s = (end_s - np.minimum(finished[unended], end_s)).sum()  # users whose last conversation is over
    assert waits_s + thinks_s + idle_s == pytest.approx(count * end_s, rel=1e-12)


@pytest.mark.parametrize(("count", "think_s"), [(2, 4.0), (10, 4.0), (20, 4.0)])
def test_constant_times_reach_the_asymptotic_bounds(count, think_s):
    loop = {
        "workload.arrivals": {"kind": "closed", "users": count, "think_time_s": think_s},
        "workload.sessions.think": {"kind": "constant", "mean_s": think_s},
        "workload.sessions.turns": {"kind": "constant", "value": 400 // count},  # one conversation each
    }
    keys = {**one_queue(1, gpus=2), **constant_time()}
    arrival_s, _, finish_s = instants(simulate(**{**CHAT, **ONE_TOKEN, **loop}, **keys, num_requests=400))
    latency_s = (finish_s - arrival_s)[200:300]
    assert latency_s.mean() == pytest.approx(max(1.0, count / 2 - think_s), abs=1e-9)
    bound = queueing.most_throughput(count, think_s, 1.0, 2)
    for number in (100, 200, 400):
        assert number <= bound * finish_s[number - 1] + count


def test_conversations_change_the_trace_and_the_key():
    waits, comes = (load_trace("sessions", 50, sessions={"arrivals": each}) for each in ("answered", "recorded"))
    assert waits.sha256 != comes.sha256
    assert comes.closed is None
    keys = {each: run_key(configure(**{**CHAT, "workload.sessions.turns.mean": each}), "a") for each in (2.0, 3.0)}
    assert len(set(keys.values())) == 2


def test_a_rejected_turn_is_answered_when_it_comes():
    keys = {**CHAT, **SPARSE, "gpu.kv_capacity_tokens": 400, "num_gpus": 1}
    result = simulate(**keys, num_requests=400)
    turns, table = result.trace.closed, result.requests
    kept = (table.status == "completed").to_numpy()
    assert 20 < (~kept).sum() < 380
    first_kept = [place for place in np.flatnonzero(kept) if turns.parent[place] >= 0 and not kept[turns.parent[place]]]
    for place in first_kept:
        before, think_s = turns.parent[place], turns.think_s[place]
        while before >= 0 and not kept[before]:
            think_s, at = think_s + (turns.think_s[before] if turns.parent[before] >= 0 else 0.0), before
            before = turns.parent[before]
        start_s = table.finish_s[before] if before >= 0 else turns.own_s[at]
        assert table.arrival_s[place] == pytest.approx(start_s + think_s, rel=1e-12)


def rows_file(tmp_path, name, rows):
    path = tmp_path / name
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return str(path)


def test_a_file_whose_turns_name_the_one_before(tmp_path):
    # chat, parent, when, in, out: as Qwen-Bailian has them; one parent is missing, one later, one prompt cut short
    said = [
        (7, -1, 0, 10, 5),
        (8, 7, 4, 30, 5),
        (9, 8, 9, 12, 3),
        (5, 99, 10, 8, 2),
        (6, 4, 11, 8, 2),
        (4, -1, 12, 9, 3),
    ]
    rows = [
        {"chat_id": c, "parent_chat_id": p, "timestamp": t, "input_length": i, "output_length": o, "turn": 1}
        for c, p, t, i, o in said
    ]
    keys = {
        "workload": "qwen_bailian",
        "workload.path": rows_file(tmp_path, "chats.jsonl", rows),
        "workload.sessions.arrivals": "answered",
        "num_requests": 6,
    }
    result = simulate(**keys, **SERVERS["run_to_completion"])
    turns = result.trace.closed
    assert turns.parent.tolist() == [-1, 0, 1, -1, -1, -1]
    assert turns.think_s[:3].tolist() == [0, 4, 5]
    assert result.trace.contents.origin.tolist() == [-1, 0, -1, -1, -1, -1]
    assert result.trace.changed == {"parent_missing": 1, "parent_later": 1, "history_cut": 1}
    assert any("think times are the recorded gaps" in note for note in result.trace.notes)


def test_burstgpt_has_sessions_and_how_long_answers_took(tmp_path):
    lines = ["Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type"]
    lines += ["0.0,1,2.5,GPT-4,10,5,15,Conversation log", "1.0,,1.0,GPT-4,9,9,18,API log"]
    lines += ["10.0,1,3.0,GPT-4,20,5,25,Conversation log", "12.0,1,3.0,GPT-4,40,5,45,Conversation log"]
    path = tmp_path / "part.csv"
    path.write_text("\n".join(lines) + "\n")
    keys = {"path": str(path), "timestamps": "real", "spread_ties_s": 0.0, "num_requests": None}
    trace = load_trace("burstgpt", sessions={"arrivals": "answered"}, **keys)
    assert trace.closed.parent.tolist() == [-1, -1, 0, 2]
    assert trace.closed.think_s.tolist() == [0.0, 0.0, 7.5, 0.0]
    assert trace.changed["answer_outlasts_gap"] == 1
    plain = load_trace("burstgpt", **keys)
    assert plain.closed is None
    assert plain.changed == {}
    added = load_trace("burstgpt", sessions={"arrivals": "answered", "history": "added"}, **keys)
    assert added.prompt_tokens.tolist() == [10, 9, 10 + 5 + 20, 35 + 5 + 40]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            {"workload": "burstgpt_like", "workload.sessions.arrivals": "answered"},
            "workload.sessions.arrivals=answered: workload=burstgpt_like does not say which requests are turns",
        ),
        ({**CHAT, "workload.sessions.turns.mean": None}, "workload.sessions.turns.mean=null"),
        ({**CHAT, "workload.sessions.turns.mean": 0.5}, "workload.sessions.turns.mean=0.5: must be at least 1"),
        ({**CHAT, "num_requests": None}, "num_requests=null: workload=sessions has no end"),
        ({**CHAT, "workload.arrivals.kind": "closed"}, "workload.arrivals.users=null"),
        ({**CHAT, "warm_up.time_s": 5.0}, "warm_up.time_s=5: when requests of a closed loop arrive"),
        ({**CHAT, "workload.prompt": {"kind": "constant", "value_tokens": 2**30}}, "a conversation grows to"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(keys, told):
    with pytest.raises(UserError) as raised:
        simulate(**{"num_requests": 200, **keys})
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_turns_of_accepted_requests_keep_their_causes():
    turns = load_trace("sessions", 300).closed
    same = turns.of(np.arange(300, dtype=np.int32))
    for name in (field.name for field in dataclasses.fields(turns)):
        assert np.array_equal(getattr(same, name), getattr(turns, name))
