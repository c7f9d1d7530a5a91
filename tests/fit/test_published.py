"""Published tables and results of benchmarks are imported by name: whole batches, and loads for the host's terms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mbexp.cli.composed import composed
from mbexp.errors import UserError
from mbexp.fit import FORMS, fit_form
from mbexp.fit.__main__ import main
from mbexp.fit.forms import SUM_OF_STEPS
from mbexp.fit.host import fit_host, kernel_tpot_ms
from mbexp.fit.imported import read_published
from mbexp.fit.loads import Loads, read_loads
from mbexp.fit.steps import StepPoints, fit_steps
from mbexp.hardware import build_law
from tests import SHARED

BENCH = SHARED / "measured" / "argonne_llm_inference_bench" / "All_results.csv"
H100 = ("Hardware=Nvidia H100 GPU", "Num of Hardware=1", "Framework=vLLM", "Model=meta-llama/Meta-Llama-3-8B")
HEADER = "Hardware,Num of Hardware,Framework,Model,Input Output Length,Batch Size,Latency,Throughput"


def table(path: Path, rows: list[tuple[object, ...]]) -> str:
    lines = [",".join(map(str, row)) for row in rows]
    path.write_text("\n".join([HEADER, *lines]), encoding="utf-8")
    return str(path)


def test_real_batches_reject_the_affine_law() -> None:
    """Of docs/gpu_laws.md: the original's form errs by 10.5 %, at worst by 50.5 %; the sum of steps fits."""
    if not BENCH.is_file():
        pytest.skip(f"{BENCH} is not at hand")
    points = read_published(str(BENCH), "llm-inference-bench", H100)
    assert len(points) == 20
    affine, steps = fit_form(FORMS["affine"], points).fitted, fit_form(SUM_OF_STEPS, points).fitted
    assert (affine.median_pct, affine.worst_pct) == pytest.approx((10.5, 50.5), abs=0.1)
    assert (steps.median_pct, steps.worst_pct) == pytest.approx((1.1, 5.7), abs=0.1)
    # The least squares of the three terms alone, unweighted by a robust loss, say the same of the form.
    b, n = points.batch_size, points.prompt_tokens
    columns = np.stack([n, 2 * b * n, 1.5 * b * n * n], axis=1) / points.seconds[:, None]
    found, *_ = np.linalg.lstsq(columns, np.ones(20), rcond=None)
    assert np.median(np.abs(columns @ found - 1)) < 0.02


def test_the_sum_of_steps_is_found_again(tmp_path: Path) -> None:
    rows = [
        ("H", 1, "vLLM", "M", n, b, n * 8e-3 + 2 * b * n * 4e-5 + 1.5 * b * n * n * 6e-8, 1)
        for b in (1, 8, 64)
        for n in (128, 512, 2048)
    ]
    points = read_published(table(tmp_path / "t.csv", rows), "llm-inference-bench")
    values = fit_form(SUM_OF_STEPS, points).values
    assert list(values.values()) == pytest.approx([8.0, 0.04, 0.06], rel=1e-3)
    assert fit_form(FORMS["affine"], points).fitted.worst_pct > 20


def test_rows_of_several_kinds_are_asked_for(tmp_path: Path) -> None:
    rows = [(card, 1, "vLLM", "M", n, b, n * b, 1) for card in ("A", "B") for b in (1, 2) for n in (128, 256)]
    file = table(tmp_path / "t.csv", rows)
    short = table(tmp_path / "short.csv", [row if row[4] == 128 else (*row[:6], 1, 1) for row in rows])
    for arguments, told in (
        ((file, "llm-inference-bench"), "has several Hardware; choose one with --where 'Hardware=...': A, B"),
        ((file, "llm-inference-bench", ["Hardware=C"]), "--where Hardware=C: no such choice"),
        ((file, "llm-inference-bench", ["Card=A"]), "--where Card=A: must be COLUMN=VALUE"),
        ((file, "llm-inference"), "--from=llm-inference: no such choice"),
        ((str(tmp_path / "no.csv"), "llm-inference-bench"), "no.csv: no such file"),
        ((short, "llm-inference-bench", ["Hardware=A"]), "runs stopped early"),
    ):
        with pytest.raises(UserError) as raised:
            read_published(*arguments)
        assert told in str(raised.value)
        assert "\n" not in str(raised.value)


def test_a_fit_says_which_model_it_assumes(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    grid = [f"{b},{n},{0.01 * n * (1 + 0.1 * b)}" for b in (1, 2, 4) for n in (128, 256, 512)]
    Path("grid.csv").write_text("\n".join(["batch_size,max_seq_len,mean_latency_sec", *grid]), encoding="utf-8")
    main(["grid.csv"])
    assert "model: qwen3_1_7b is assumed, for its weights and KV cache" in capsys.readouterr().out
    main(["grid.csv", "--model", "llama31_8b", "--overwrite"])
    assert "is assumed" not in capsys.readouterr().out
    rows = [("H", 1, "vLLM", "M", n, b, n * (1 + 0.1 * b), 1) for b in (1, 2, 8) for n in (128, 256, 512)]
    file = table(tmp_path / "t.csv", rows)
    with pytest.raises(SystemExit, match=r"^mbexp.fit: --model: is needed with --from"):
        main([file, "--from", "llm-inference-bench"])
    with pytest.raises(SystemExit, match=r"^mbexp.fit: --where Hardware=H: is of a published table"):
        main(["grid.csv", "--where", "Hardware=H"])
    main([file, "--from", "llm-inference-bench", "--model", "llama31_8b"])
    assert "sum of steps" in capsys.readouterr().out
    assert not list(tmp_path.glob("outputs/fits/t/gpu/*steps*"))  # shown, and no law


VLLM = {"max_concurrency": 8, "completed": 80, "total_input_tokens": 80_000, "total_output_tokens": 16_000,
        "mean_tpot_ms": 9.5, "mean_ttft_ms": 60.0}  # fmt: skip
GENAI = {"inter_token_latency": {"unit": "ms", "avg": 12.0}, "time_to_first_token": {"unit": "ms", "avg": 90.0},
         "input_sequence_length": {"avg": 1000.0}, "output_sequence_length": {"avg": 200.0},
         "input_config": {"perf_analyzer": {"stimulus": {"concurrency": 32}}}}  # fmt: skip


def result(path: Path, values: object) -> str:
    path.write_text(json.dumps(values), encoding="utf-8")
    return str(path)


def test_results_of_benchmarks_are_loads(tmp_path: Path) -> None:
    csv = tmp_path / "more.csv"
    csv.write_text("concurrency,prompt_tokens,output_tokens,tpot_ms\n64,1000,200,20\n", encoding="utf-8")
    loads = read_loads([result(tmp_path / "v.json", VLLM), result(tmp_path / "g.json", GENAI), str(csv)])
    assert loads.concurrency.tolist() == [8, 32, 64]
    assert loads.prompt_tokens.tolist() == [1000] * 3
    assert loads.output_tokens.tolist() == [200] * 3
    assert loads.tpot_ms.tolist() == [9.5, 12.0, 20.0]
    assert loads.ttft_ms is not None
    assert loads.ttft_ms[:2].tolist() == [60.0, 90.0]
    assert np.isnan(loads.ttft_ms[2])
    in_us = GENAI | {"inter_token_latency": {"unit": "us", "avg": 12_000.0}}
    assert read_loads([result(tmp_path / "u.json", in_us), str(csv)]).tpot_ms[0] == 12.0


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([1], "must hold an object of keys"),
        ({"itls": []}, "has neither mean_tpot_ms (vllm bench serve) nor inter_token_latency"),
        (VLLM | {"max_concurrency": None}, "has no max_concurrency: host terms need closed loops"),
        (VLLM | {"completed": 0}, "completed=0: no request was completed"),
        (VLLM | {"mean_tpot_ms": -1}, "tpot_ms=-1: must be a number above 0"),
        (VLLM | {"mean_tpot_ms": 0.0095}, "r.json: the median time per token is 9.5e-06 s, too small for an engine by"),
        (VLLM | {"mean_tpot_ms": 9500}, "r.json: the median time per token is 9.5 s, too large for an engine by about"),
        (GENAI | {"input_config": {}}, "its input_config has no concurrency"),
        (GENAI | {"inter_token_latency": {"unit": "ticks", "avg": 1}}, "inter_token_latency.unit=ticks: must be one"),
        (GENAI | {"output_sequence_length": {}}, "has no output_sequence_length.avg"),
    ],
)
def test_a_slip_in_a_result_is_one_line(values: object, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        read_loads([result(tmp_path / "r.json", values), result(tmp_path / "v.json", VLLM)])
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_one_concurrency_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two or more concurrencies are needed"):
        read_loads([result(tmp_path / "v.json", VLLM)])


def test_the_time_of_a_request_is_found_from_one_user_alone() -> None:
    law = build_law(composed(["gpu=h100_llama31_8b", "num_gpus=1"]).gpu)
    few = Loads(np.array([1.0, 16.0]), np.full(2, 500.0), np.full(2, 200.0), np.ones(2), "")
    kernels_ms = kernel_tpot_ms(law, few)
    measured = kernels_ms + 1.5 + 0.04 * few.concurrency
    ttft_ms = np.array([1e3 * law.prefill_s(1, 500) + 1.5 + 9.0, 400.0])
    fit = fit_host(law, Loads(*(getattr(few, name) for name in ("concurrency", "prompt_tokens", "output_tokens")),
                              measured, "", ttft_ms))  # fmt: skip
    assert fit.request_overhead_ms == pytest.approx(9.0)
    assert (fit.host_ms, fit.host_us_per_sequence) == pytest.approx((1.5, 40.0))
    crowded = Loads(few.concurrency + 1, few.prompt_tokens, few.output_tokens, measured, "", ttft_ms)
    assert fit_host(law, crowded).request_overhead_ms is None  # with others, users wait for each other


def test_experts_and_the_time_of_mixed_steps_are_found_again() -> None:
    share = 0.0625
    decode = [(b, b * x, 0, 0) for b in (1, 4, 16, 64, 256) for x in (128, 1024, 4096)]
    prefill = [(0, 0, n, n * n) for n in (256, 512, 1024, 4096)]
    mixed = [(b, b * x, 512, 512**2) for b in (4, 32, 128) for x in (256, 2048)]
    b, context, n, squares = np.array([*decode, *prefill, *mixed], float).T
    ms = 3.0 + 0.02 * b + 5e-5 * context + 0.01 * n + 2e-7 * squares + 12.0 * (1 - (1 - share) ** (b + n))
    ms += (n > 0) * 0.7 + ((n > 0) & (b > 0)) * (1.25 + 4e-5 * context)
    keys = fit_steps(StepPoints(b, context, n, squares, ms / 1e3, "exact"), share).keys
    expected = {"fixed_ms": 3.0, "sequence_ms": 0.02, "context_us": 0.05, "prefill_token_ms": 0.01,
                "prefill_square_ns": 0.2, "experts_ms": 12.0, "prefill_extra_ms": 0.7, "mixed_extra_ms": 1.25,
                "mixed_context_us": 0.04, "experts_active_share": share}  # fmt: skip
    assert keys == pytest.approx(expected, rel=1e-4)
    dense = fit_steps(StepPoints(b, context, n, squares, ms / 1e3, "exact"))
    assert dense.phases["decode"][1] > 5  # without the experts' term, as of published mixtures of experts
