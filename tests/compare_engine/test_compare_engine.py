"""Records of real engines: every format gives the same requests; slips are named; the table is plain arithmetic."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbexp.compare_engine.__main__ import main
from mbexp.compare_engine.compare import Timeline, table
from mbexp.compare_engine.readers import read_run
from mbexp.errors import UserError
from mbexp.workload.recorded import Options
from tests import SHARED

# Arrival, first and last token (s of one clock), prompt and output tokens; the second arrives before the first.
REQUESTS = [(100.5, 100.75, 102.0, 7, 6), (100.0, 100.25, 101.25, 11, 5), (101.0, 101.5, 101.5, 3, 1)]
PROMPTS = 7
RUNS = SHARED / "measured" / "llmservingsim" / "runs"


def llmservingsim() -> str:
    """Engine clock 60 s behind, and the second request queued only 0.125 s after its arrival."""
    lines = []
    for number, (arrival, first, last, prompt, output) in enumerate(REQUESTS):
        late = 0.0 if number == 0 else 0.125
        lines.append({"input_toks": prompt, "output_toks": output, "arrival_time": arrival,
                      "queued_ts": arrival + late - 60, "first_token_ts": first - 60,
                      "last_token_ts": last - 60})  # fmt: skip
    return "\n".join(json.dumps(line) for line in lines)


def vllm() -> str:
    rows = [*REQUESTS, (100.2, 0.0, 0.0, 5, 0)]
    gaps = [[] if output < 2 else [(last - first) / (output - 1)] * (output - 1) for _, first, last, _, output in rows]
    document = {
        "input_lens": [row[3] for row in rows],
        "output_lens": [row[4] for row in rows],
        "ttfts": [row[1] - row[0] for row in rows],
        "itls": gaps,
        "start_times": [row[0] for row in rows],
        "errors": ["", "", "", "refused"],
    }
    return json.dumps(document)


def aiperf() -> str:
    lines = []
    for phase, rows in (("warmup", REQUESTS[:1]), ("profiling", REQUESTS)):
        for arrival, first, last, prompt, output in rows:
            about = {"request_start_ns": int(arrival * 1e9), "request_end_ns": int(last * 1e9),
                     "benchmark_phase": phase, "was_cancelled": False}  # fmt: skip
            values = {"time_to_first_token": {"value": 1e3 * (first - arrival), "unit": "ms"},
                      "input_sequence_length": {"value": prompt, "unit": "tokens"},
                      "output_sequence_length": {"value": output, "unit": "tokens"}}  # fmt: skip
            lines.append({"metadata": about, "metrics": values})
    return "\n".join(json.dumps(line) for line in lines)


def genai_perf() -> str:
    requests = [
        {"timestamp": int(arrival * 1e9),
         "response_timestamps": [int(each * 1e9) for each in np.linspace(first, last, output)]}
        for arrival, first, last, _, output in REQUESTS
    ]  # fmt: skip
    return json.dumps({"experiments": [{"requests": requests}]})


def guidellm() -> str:
    requests = [
        {"info": {"timings": {"request_start": arrival, "first_token_iteration": first, "last_token_iteration": last}},
         "input_metrics": {"text_tokens": prompt}, "output_metrics": {"text_tokens": output}}
        for arrival, first, last, prompt, output in REQUESTS
    ]  # fmt: skip
    return json.dumps({"benchmarks": [{"requests": {"successful": requests, "errored": [{}], "incomplete": []}}]})


def columns_of_instants() -> str:
    rows = [f"{prompt},{output},{arrival},{first},{last}" for arrival, first, last, prompt, output in REQUESTS]
    return "\n".join(["prompt_tokens,output_tokens,arrival_s,first_token_s,last_token_s", *rows])


def columns_since_arrival() -> str:
    rows = [
        f"{1e3 * (last - arrival)},{1e3 * (first - arrival)},{int(1e9 * arrival)},{output},{prompt}"
        for arrival, first, last, prompt, output in REQUESTS
    ]
    return "\n".join(["latency_ms,ttft_ms,arrival_ns,generation_tokens,input_tokens", *rows])


FORMATS = {
    "llmservingsim": llmservingsim,
    "vllm": vllm,
    "aiperf": aiperf,
    "genai-perf": genai_perf,
    "guidellm": guidellm,
    "CSV": columns_of_instants,
    "CSV since arrival": columns_since_arrival,
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_requests(name: str, tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.write_text(FORMATS[name](), encoding="utf-8")
    run = read_run(str(path), Options(prompt_tokens=PROMPTS))
    expected = np.array(sorted(REQUESTS))
    np.testing.assert_allclose(run.arrival_s, expected[:, 0] - 100.0, atol=1e-6)
    np.testing.assert_allclose(run.first_token_s, expected[:, 1] - 100.0, atol=1e-6)
    np.testing.assert_allclose(run.last_token_s, expected[:, 2] - 100.0, atol=1e-6)
    prompts = np.full(3, PROMPTS) if name == "genai-perf" else expected[:, 3]
    np.testing.assert_array_equal(run.prompt_tokens, prompts)
    np.testing.assert_array_equal(run.output_tokens, expected[:, 4])
    left_out = {"vllm", "aiperf", "guidellm"}
    assert any("1 request is left out" in note for note in run.notes) == (name in left_out)


def written(change: Callable[[list[dict[str, Any]]], None]) -> str:
    lines = [json.loads(line) for line in llmservingsim().splitlines()]
    change(lines)
    return "\n".join(json.dumps(line) for line in lines)


SLIPS = {
    "last before first": (
        written(lambda lines: lines[1].update(last_token_ts=0.0)),
        "line 2: the last token comes before the first",
    ),
    "missing field": (written(lambda lines: lines[2].pop("queued_ts")), "line 3: no queued_ts"),
    "text": (written(lambda lines: lines[2].update(input_toks="many")), "line 3: input_toks='many' is not a number"),
    "no tokens": (written(lambda lines: lines[0].update(output_toks=0)), "line 1: output_tokens is not a whole number"),
    "not JSON": (llmservingsim() + "\n{", "line 4: is not JSON"),
    "milliseconds as seconds": (
        "prompt_tokens,output_tokens,arrival,ttft,latency\n5,11,0,50,550\n5,11,1,50,500000",
        "too large for an engine by about 1,000",
    ),
    "seconds as milliseconds": (
        "prompt_tokens,output_tokens,arrival_ms,ttft_ms,latency_ms\n5,11,0,0.05,0.55\n5,11,1,0.05,0.45",
        "too small for an engine by about 1,000",
    ),
    "first token before arrival": (
        "prompt_tokens,output_tokens,arrival_s,first_token_s,last_token_s\n5,11,10,9,11",
        "line 2: the first token comes before the arrival",
    ),
    "missing column": ("prompt_tokens,output_tokens,arrival_s,ttft_s\n5,11,10,9", "no column last_token_s"),
    "no lengths": (genai_perf(), "--prompt-tokens"),
    "unknown": ('{"a": 1}', "no format that is read"),
}


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_is_one_line(name: str, tmp_path: Path) -> None:
    text, said = SLIPS[name]
    path = tmp_path / "record"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as raised:
        read_run(str(path), Options())
    assert said in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_which_of_several_benchmarks_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.json"
    document = json.loads(guidellm())
    path.write_text(json.dumps({"benchmarks": document["benchmarks"] * 2}), encoding="utf-8")
    with pytest.raises(UserError, match="has 2 benchmarks; choose one with --benchmark=1 to 2"):
        read_run(str(path), Options())
    assert len(read_run(str(path), Options(benchmark=2))) == 3


def test_the_table_is_arithmetic() -> None:
    engine = Timeline(
        np.array([0.0, 1.0]), np.array([1.0, 3.0]), np.array([2.0, 3.0]), np.array([5, 5]), np.array([3, 1])
    )
    ours = Timeline(
        np.array([0.0, 1.0]), np.array([1.5, 3.0]), np.array([3.0, 3.5]), np.array([5, 5]), np.array([3, 1])
    )
    found = {(row.metric, row.statistic): (row.engine, row.mbexp, row.error_pct) for row in table(engine, ours)}
    assert found["ttft_s", "mean"] == pytest.approx((1.5, 1.75, 100 / 6))
    assert found["tpot_ms", "p50"] == pytest.approx((500.0, 750.0, 50.0))  # the request of one token has none
    assert found["latency_s", "mean"] == pytest.approx((2.0, 2.75, 37.5))
    assert found["makespan_s", "run"] == pytest.approx((3.0, 3.5, 100 / 6))
    assert found["throughput_output_tokens_per_s", "run"] == pytest.approx((4 / 3, 4 / 3.5, -100 / 7))


def test_a_simulated_run_compared_with_itself_has_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "record.csv"
    record.write_text(columns_of_instants(), encoding="utf-8")
    asked = ["gpu=roofline_h100", "scheduler.fixed_batch_size=4"]
    main([str(record), *asked, "--out", str(tmp_path / "first")])
    with (tmp_path / "first" / "requests.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    again = tmp_path / "again.csv"
    lines = [
        ",".join(row[name] for name in ("arrival_s", "prompt_tokens", "output_tokens", "mbexp_first_token_s",
                                        "mbexp_last_token_s"))
        for row in rows
    ]  # fmt: skip
    again.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens,first_token_s,last_token_s", *lines]))
    main([str(again), *asked, "--out", str(tmp_path / "second")])
    with (tmp_path / "second" / "comparison.csv").open(encoding="utf-8", newline="") as file:
        table_rows = list(csv.DictReader(file))
    assert list(table_rows[0]) == ["metric", "statistic", "engine", "mbexp", "error_pct"]
    assert len(table_rows) == 18
    assert all(abs(float(row["error_pct"])) < 1e-6 for row in table_rows)
    assert (tmp_path / "second" / "comparison.png").stat().st_size > 10_000
    assert "0.0 %" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["meta.json", "requests.meta.json"])
def test_limits_beside_the_record_are_taken_and_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").write_text(llmservingsim(), encoding="utf-8")
    about = {"engine_kwargs": {"max_num_seqs": 128, "max_num_batched_tokens": 4096},
             "kv_cache": {"num_gpu_blocks": 100, "block_size": 16}}  # fmt: skip
    (tmp_path / name).write_text(json.dumps(about), encoding="utf-8")
    run = read_run(str(tmp_path / "requests.jsonl"), Options())
    assert set(run.overrides) == {
        "scheduler.fixed_batch_size=128",
        "execution.token_budget=4096",
        "execution.block_tokens=16",
        "gpu.kv_capacity_tokens=1600",
    }
    assert any(name in note for note in run.notes)


@pytest.mark.parametrize("asked", [[], ["gpu=roofline_h100", "execution=run_to_completion"]])
def test_what_cannot_be_compared_is_one_line(asked: list[str], tmp_path: Path) -> None:
    record = tmp_path / "record.csv"
    record.write_text(columns_of_instants(), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"^mbexp\.compare_engine: "):
        main([str(record), *asked, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
