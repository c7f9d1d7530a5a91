"""Presets for the files of other tools: a file in the form that each writes is read by its name alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mbexp import UserError, load_trace
from mbexp.workload import cache
from mbexp.workload.trace import Trace


@pytest.fixture(autouse=True)
def no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "cache_dir", lambda: None)


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def aiperf(start_ns: int, prompt: int | None, output: int | None, phase: str = "profiling") -> dict[str, Any]:
    lengths = {"input_sequence_length": prompt, "output_sequence_length": output}
    metrics = {name: {"value": value, "unit": "tokens"} for name, value in lengths.items() if value is not None}
    return {
        "metadata": {"request_start_ns": start_ns, "benchmark_phase": phase, "was_cancelled": output is None},
        "metrics": {"time_to_first_token": {"value": 45.5, "unit": "ms"}, **metrics},
        "error": None,
    }


START_NS = 1_784_176_216_000_000_000
FILES = {
    "vidur": "arrived_at,num_prefill_tokens,num_decode_tokens\n5.0,10,3\n5.25,20,4\n7.5,30,5\n",
    "servegen": "request_id,timestamp,input_tokens,output_tokens\n0,5.0,10,3\n1,5.25,20,4\n2,7.5,30,5\n",
    "llmservingsim": lines(
        {"input_toks": 10, "output_toks": 3, "arrival_time_ns": 5_000_000_000},
        {"input_toks": 20, "output_toks": 4, "arrival_time_ns": 5_250_000_000},
        {"input_toks": 30, "output_toks": 5, "arrival_time_ns": 7_500_000_000},
    ),
    "ragpulse": lines(
        *(
            {"timestamp": at, "input_length": i, "output_length": o, "hash_ids": {"sys": [1]}, "session_id": s}
            for at, i, o, s in (("5.0", 10, 3, "a"), ("5.25", 20, 4, "b"), ("7.5", 30, 5, "a"))
        )
    ),
    "qwen_bailian": lines(
        *(
            {"chat_id": c, "parent_chat_id": -1, "timestamp": at, "input_length": i, "output_length": o, "turn": 1,
             "hash_ids": [1, 2]}
            for c, (at, i, o) in enumerate(((5.0, 10, 3), (5.25, 20, 4), (7.5, 30, 5)))
        )
    ),
    "aiperf": lines(
        aiperf(START_NS - 10**9, 7, 7, "warmup"),
        aiperf(START_NS - 5 * 10**8, 8, None),  # cancelled
        aiperf(START_NS, 10, 3),
        aiperf(START_NS + 250_000_000, 20, 4),
        aiperf(START_NS + 2_500_000_000, 30, 5),
    ),
    "vllm_bench": json.dumps(
        {"date": "20260301", "completed": 3, "input_lens": [9, 10, 20, 30], "output_lens": [0, 3, 4, 5],
         "ttfts": [0, 0.1, 0.1, 0.1], "itls": [[], [0.1], [0.1], [0.1]], "errors": ["timeout", "", "", ""],
         "start_times": [104.0, 105.0, 105.25, 107.5]}
    ),
    "lmbench": (
        "prompt_tokens,generation_tokens,ttft,generation_time,user_id,question_id,launch_time,finish_time\n"
        "10,3,0.1,1.0,4,0,1784176216.0,1784176217.1\n20,4,0.1,1.0,5,0,1784176216.25,1784176217.5\n"
        "30,5,0.1,1.0,4,1,1784176218.5,1784176219.6\n"
    ),
    "inference_perf": json.dumps(
        [{"start_time": at, "end_time": at + 1, "info": {"input_tokens": i, "output_tokens": o,
          "output_token_times": [at + 0.5]}} for at, i, o in ((5.0, 10, 3), (5.25, 20, 4), (7.5, 30, 5))]
    ),
    "recorded": json.dumps(
        {"benchmarks": [{"requests": {"errored": [{}], "successful": [
            {"info": {"timings": {"request_start": at, "first_token_iteration": at + 0.1,
                                  "last_token_iteration": at + 0.5}},
             "input_metrics": {"text_tokens": i}, "output_metrics": {"text_tokens": o}}
            for at, i, o in ((107.5, 30, 5), (105.0, 10, 3), (105.25, 20, 4))
        ]}}]}
    ),
}  # fmt: skip


def genai_perf(*benchmarks: list[tuple[float, int]]) -> str:
    """Experiments of requests: when each was sent, and how many responses came."""
    return json.dumps({"experiments": [
        {"requests": [
            {"timestamp": START_NS + int(1e9 * at), "response_timestamps": [START_NS + int(1e9 * (at + 0.1 * k + 0.1))
                                                                            for k in range(responses)]}
            for at, responses in requests
        ]} for requests in benchmarks
    ]})  # fmt: skip


def load(tmp_path: Path, name: str, content: str, **keys: Any) -> Trace:
    path = tmp_path / "file"
    path.write_text(content)
    return load_trace(name, path=str(path), **keys)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_by_the_name_of_its_tool(name: str, tmp_path: Path) -> None:
    trace = load(tmp_path, name, FILES[name])

    assert trace.arrival_s.tolist() == pytest.approx([0.0, 0.25, 2.5], abs=1e-6)
    assert trace.prompt_tokens.tolist() == [10, 20, 30]
    assert trace.output_tokens.tolist() == [3, 4, 5]


def test_calls_that_failed_are_counted(tmp_path: Path) -> None:
    cancelled = load(tmp_path, "aiperf", FILES["aiperf"])
    assert cancelled.dropped == {"not_asked_for": 1, "no_token_count": 1}
    failed = load(tmp_path, "vllm_bench", FILES["vllm_bench"])
    assert failed.dropped == {"zero_output_tokens": 1}


def test_failed_calls_can_be_refused(tmp_path: Path) -> None:
    for name in ("aiperf", "vllm_bench"):
        with pytest.raises(UserError, match=r"workload.failed=refuse: .*file has 1 row without tokens"):
            load(tmp_path, name, FILES[name], failed="refuse")
    assert len(load(tmp_path, "vidur", FILES["vidur"], failed="refuse")) == 3


def test_sessions_are_kept(tmp_path: Path) -> None:
    assert load(tmp_path, "ragpulse", FILES["ragpulse"]).labels("session_id").tolist() == ["a", "b", "a"]
    assert load(tmp_path, "qwen_bailian", FILES["qwen_bailian"]).extra["parent_chat_id"].tolist() == [-1, -1, -1]


def test_lists_of_unlike_length_are_named(tmp_path: Path) -> None:
    content = json.loads(FILES["vllm_bench"])
    content["output_lens"].pop()
    with pytest.raises(UserError, match="'output_lens' has 3 entries, 'start_times' 4"):
        load(tmp_path, "vllm_bench", json.dumps(content))
    content = json.loads(FILES["vllm_bench"])
    del content["start_times"]
    with pytest.raises(UserError, match="has no column 'start_times'"):
        load(tmp_path, "vllm_bench", json.dumps(content))


def test_lengths_of_a_file_at_a_rate_of_ones_own(tmp_path: Path) -> None:
    arrivals = {"kind": "constant", "rate_per_s": 4.0}
    trace = load(tmp_path, "vidur", FILES["vidur"], timestamps="generated", arrivals=arrivals)
    assert trace.arrival_s.tolist() == [0.0, 0.25, 0.5]
    assert list(zip(trace.prompt_tokens, trace.output_tokens, strict=True)) == [(10, 3), (20, 4), (30, 5)]


def test_sharegpt_keeps_what_vllms_benchmark_keeps(tmp_path: Path) -> None:
    def talk(*characters: int) -> dict[str, Any]:
        return {"id": "x", "conversations": [{"from": "human", "value": "a" * count} for count in characters]}

    talks = [talk(40, 80, 12), talk(40), talk(15, 80), talk(12, 80), talk(4096, 4096), talk(4100, 40), talk(4096, 4104)]
    trace = load(tmp_path, "sharegpt", json.dumps(talks), arrivals={"kind": "constant", "rate_per_s": 2.0})

    assert list(zip(trace.prompt_tokens, trace.output_tokens, strict=True)) == [(10, 20), (4, 20), (1024, 1024)]
    assert trace.arrival_s.tolist() == [0.0, 0.5, 1.0]
    assert trace.dropped == {"not_asked_for": 4}
    assert trace.notes[0] == "lengths are estimated: 4 characters of text are taken for a token"
    with pytest.raises(UserError, match="record 1: has no list 'conversations'"):
        load(tmp_path, "sharegpt", '[{"id": 1}]')
    with pytest.raises(UserError, match="record 1: a turn of 'conversations' has no text 'value'"):
        load(tmp_path, "sharegpt", '[{"conversations": [{"value": "abcd"}, 3]}]')


def test_genai_perf_needs_the_length_of_prompts(tmp_path: Path) -> None:
    """Its export holds when requests were sent and when tokens came; prompts were made to one length."""
    content = genai_perf([(0.0, 3), (0.25, 4), (1.0, 0), (2.5, 5)])
    trace = load(tmp_path, "genai_perf", content, prompt={"value_tokens": 550})

    assert trace.arrival_s.tolist() == pytest.approx([0.0, 0.25, 2.5], abs=1e-6)
    assert trace.prompt_tokens.tolist() == [550] * 3
    assert trace.output_tokens.tolist() == [3, 4, 5]
    assert any("1 request is left out, without a response;" in note for note in trace.notes)
    with pytest.raises(UserError, match=r"give them with workload.prompt.value_tokens=N"):
        load(tmp_path, "genai_perf", content)


def test_one_of_several_benchmarks_is_chosen(tmp_path: Path) -> None:
    content, prompt = genai_perf([(0.0, 3)], [(0.0, 7), (1.0, 8)]), {"value_tokens": 5}
    chosen = load(tmp_path, "recorded", content, prompt=prompt, where={"benchmark": 2})

    assert chosen.output_tokens.tolist() == [7, 8]
    with pytest.raises(UserError, match=r"has 2 experiments; choose one with workload.where.benchmark=1 to 2"):
        load(tmp_path, "recorded", content, prompt=prompt)
    with pytest.raises(UserError, match=r"workload.where.model=a: workload=recorded knows benchmark=NUMBER alone"):
        load(tmp_path, "recorded", content, prompt=prompt, where={"model": "a"})
    with pytest.raises(UserError, match="no format that is read"):
        load(tmp_path, "recorded", '{"a": 1}')
    with pytest.raises(UserError, match="workload=csv reads tables, by their columns"):
        load(tmp_path, "recorded", "a,b\n1,2\n")


def test_sessions_of_aiperf_wait_for_answers(tmp_path: Path) -> None:
    turns = [
        {"session_id": "a", "timestamp": 5000, "input_length": 10, "output_length": 3},
        {"session_id": "b", "timestamp": 5250, "input_length": 20, "output_length": 4, "hash_ids": [1]},
        {"session_id": "a", "delay": 2000, "input_length": 7, "output_length": 5},
        {"session_id": "b", "timestamp": 9250, "input_length": 6, "output_length": 1},
        {"timestamp": 9500, "input_length": 8, "output_length": 2},
    ]
    trace = load(tmp_path, "aiperf_sessions", lines(*turns))
    assert trace.closed is not None
    assert trace.arrival_s.tolist() == [0.0, 0.25, 2.0, 4.25, 4.5]
    assert trace.closed.parent.tolist() == [-1, -1, 0, 1, -1]
    assert trace.closed.think_s.tolist() == [0.0, 0.0, 2.0, 4.0, 0.0]
    assert trace.prompt_tokens.tolist() == [10, 20, 10 + 3 + 7, 20 + 4 + 6, 8]
    whole = load(tmp_path, "aiperf_sessions", lines(*turns), sessions={"history": "included"})
    assert whole.prompt_tokens.tolist() == [10, 20, 7, 6, 8]
    assert load(tmp_path, "aiperf_sessions", lines(*turns), sessions={"arrivals": "recorded"}).closed is None


@pytest.mark.parametrize(
    ("turn", "told"),
    [
        ({"session_id": "a", "input_length": 7, "output_length": 5}, "a later turn has neither 'delay' nor"),
        ({"session_id": "b", "input_length": 7, "output_length": 5}, "the first turn of a session has no 'timestamp'"),
        ({"session_id": "a", "timestamp": 4, "input_length": 7, "output_length": 5}, "before the one that it follows"),
        (
            {"session_id": "a", "delay": -1, "input_length": 7, "output_length": 5},
            "'delay' is '-1', not a number of ms",
        ),
        (
            {"session_id": "a", "delay": 1, "input_length": 7.5, "output_length": 5},
            "'input_length' is '7.5', not a numb",
        ),
    ],
)
def test_mistakes_in_sessions_of_aiperf(turn: dict[str, Any], told: str, tmp_path: Path) -> None:
    first = {"session_id": "a", "timestamp": 5000, "input_length": 10, "output_length": 3}
    with pytest.raises(UserError, match=f"line 2: .*{told}"):
        load(tmp_path, "aiperf_sessions", lines(first, turn))
