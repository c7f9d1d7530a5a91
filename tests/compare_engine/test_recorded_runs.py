"""The simulator against public runs of real engines, where they are at hand; targets were set before these tests."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest

from mbexp.cli.composed import composed
from mbexp.compare_engine.__main__ import ASSUMED
from mbexp.compare_engine.compare import Comparison, compare
from mbexp.compare_engine.readers import read_run
from mbexp.fit.host import Loads, kernel_tpot_ms
from mbexp.hardware import build_law
from mbexp.workload.published import PUBLISHED
from mbexp.workload.recorded import Options
from tests import SHARED

MEASURED = SHARED / "measured"
METRICS = ("ttft_s", "tpot_ms", "latency_s")
# TensorRT-LLM 1.3 on an H100 SXM, Llama-3.1-8B in 16 bits: kernel tables of aiconfigurator-core 0.12.0.
H100_TENSORRT_LLM = (
    "fixed_ms=1.62", "floor_ms=4.95", "sequence_ms=0.0108", "compute_ms=0.0103", "context_us=0.0433",
    "prefill_token_ms=0.0211", "prefill_square_ns=0.439", "prefill_extra_ms=0",
)  # fmt: skip


def at_hand(*parts: str) -> Path:
    path = MEASURED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path} is not at hand")
    return path


def recorded(card: str, *overrides: str) -> Comparison:
    run = read_run(str(at_hand("llmservingsim", "runs", card, "Llama-3.1-8B", "requests.jsonl")), Options())
    return compare(run, composed([*ASSUMED, *run.overrides, *overrides]))


def test_vllm_on_an_rtx_4090_is_predicted_without_tuning() -> None:
    comparison = recorded("RTX4090", "gpu=rtx4090_llama31_8b")
    for metric in METRICS:
        assert abs(comparison.error_pct(metric, "mean")) < 3, metric
        assert abs(comparison.error_pct(metric, "p99")) < 5, metric
    assert abs(comparison.error_pct("makespan_s", "run")) < 3
    # A scheduler that forgets an engine's limits would miss by much more: the memory binds in this run.
    roomy = recorded("RTX4090", "gpu=rtx4090_llama31_8b", "gpu.kv_capacity_tokens=400000")
    assert abs(roomy.error_pct("ttft_s", "mean")) > 20


def test_vllm_on_an_rtx_pro_6000_is_predicted_from_its_profile_alone() -> None:
    skew = at_hand("llmservingsim", "profiles", "RTXPRO6000", "meta-llama", "Llama-3.1-8B", "tp1", "skew.csv")
    with skew.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["regime"] == "pure" and row["n"] == "128"]
    # How much longer attention takes where the contexts of 128 sequences differ: the run has 128 at most.
    more = float(np.mean([float(row["t_skew_us"]) / float(row["t_mean_us"]) for row in rows]))
    law = composed(["gpu=rtxpro6000_llama31_8b", "num_gpus=1"]).gpu.law
    comparison = recorded(
        "RTXPRO6000",
        "gpu=rtxpro6000_llama31_8b",
        f"gpu.law.context_us={law.context_us * more}",
        f"gpu.law.mixed_context_us={law.mixed_context_us * more}",
    )
    for metric in METRICS:
        assert abs(comparison.error_pct(metric, "mean")) < 7, metric
        assert abs(comparison.error_pct(metric, "p99")) < 7, metric


@pytest.mark.parametrize("card", ["RTX4090", "RTXPRO6000"])
def test_a_run_that_the_download_fetches_is_the_one_at_hand(card: str) -> None:
    entries = {entry.name: entry for entry in PUBLISHED}
    for ending, name in (("", "requests.jsonl"), ("_meta", "meta.json")):
        path = at_hand("llmservingsim", "runs", card, "Llama-3.1-8B", name)
        entry = entries[f"vllm_{card.lower()}_llama31_8b{ending}"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256
        assert path.stat().st_size == entry.size_bytes


def test_tensorrt_llm_on_an_h100_in_closed_loops() -> None:
    with at_hand("aiconfigurator", "mbexp_vs_silicon_h100_llama31_8b.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    loads = Loads(
        *(np.array([float(row[name]) for row in rows]) for name in ("conc", "isl", "osl", "tpot_silicon")), ""
    )
    law = build_law(composed(["gpu=h100_llama31_8b", *(f"gpu.law.{key}" for key in H100_TENSORRT_LLM)]).gpu)
    error_pct = np.abs(kernel_tpot_ms(law, loads) / loads.tpot_ms - 1) * 100
    assert len(rows) == 42
    assert np.median(error_pct) < 2.5
