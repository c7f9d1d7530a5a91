"""The simulator against public runs of real engines, where they are at hand; targets were set before these tests."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest

from mbexp.cli.composed import composed
from mbexp.compare_engine.__main__ import ASSUMED
from mbexp.compare_engine.closed import closed_loop_tpot_ms, loop_config, loop_tpot_ms
from mbexp.compare_engine.compare import Comparison, compare
from mbexp.compare_engine.readers import read_run
from mbexp.errors import UserError
from mbexp.fit.host import kernel_tpot_ms
from mbexp.fit.loads import Loads
from mbexp.fit.step_tables import Asked, read_skew, read_steps
from mbexp.fit.steps import fit_steps
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
    comparison = recorded("RTXPRO6000", "gpu=rtxpro6000_llama31_8b")
    for metric in METRICS:
        assert abs(comparison.error_pct(metric, "mean")) < 7, metric
        assert abs(comparison.error_pct(metric, "p99")) < 7, metric


def test_the_rtx_pro_6000_counts_the_skew_of_its_profile() -> None:
    folder = at_hand("llmservingsim", "profiles", "RTXPRO6000", "meta-llama", "Llama-3.1-8B", "tp1")
    more = read_skew(str(folder), 128)  # the run has 128 sequences at most
    law = composed(["gpu=rtxpro6000_llama31_8b", "num_gpus=1"]).gpu.law
    recipe = fit_steps(read_steps(str(folder), "llmservingsim", Asked(layers=32))).keys
    assert more == pytest.approx(1.052, abs=1e-3)
    assert law.context_us == pytest.approx(more * 0.0927, rel=1e-3)  # of the recipe, as published by others
    assert law.context_us == pytest.approx(more * recipe["context_us"], rel=0.1)
    with pytest.raises(UserError, match=r"--skew-sequences=100: .* has 2, "):
        read_skew(str(folder), 100)


@pytest.mark.parametrize("card", ["RTX4090", "RTXPRO6000"])
def test_a_run_that_the_download_fetches_is_the_one_at_hand(card: str) -> None:
    entries = {entry.name: entry for entry in PUBLISHED}
    for ending, name in (("", "requests.jsonl"), ("_meta", "meta.json")):
        path = at_hand("llmservingsim", "runs", card, "Llama-3.1-8B", name)
        entry = entries[f"vllm_{card.lower()}_llama31_8b{ending}"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256
        assert path.stat().st_size == entry.size_bytes


@pytest.fixture(scope="module")
def h100_loops() -> tuple[Loads, np.ndarray]:
    """The published closed loops, and their simulation under the engine's rules, untuned."""
    with at_hand("aiconfigurator", "mbexp_vs_silicon_h100_llama31_8b.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    loads = Loads(
        *(np.array([float(row[name]) for row in rows]) for name in ("conc", "isl", "osl", "tpot_silicon")), ""
    )
    words = ["gpu=h100_llama31_8b", "execution=tensorrt_llm", "scheduler=tensorrt_llm"]
    config = loop_config([*words, *(f"gpu.law.{key}" for key in H100_TENSORRT_LLM)])
    columns = zip(loads.concurrency, loads.prompt_tokens, loads.output_tokens, strict=True)
    return loads, np.array([loop_tpot_ms(config, *map(int, row)) for row in columns])


def test_tensorrt_llm_on_an_h100_in_simulated_closed_loops(h100_loops: tuple[Loads, np.ndarray]) -> None:
    loads, simulated_ms = h100_loops
    error_pct = np.abs(simulated_ms / loads.tpot_ms - 1) * 100
    assert len(error_pct) == 42
    assert np.median(error_pct) < 2.5
    # A law of another card misses by far: an RTX 4090's steps take more than twice as long.
    words = ["gpu=rtx4090_llama31_8b", "execution=tensorrt_llm", "scheduler=tensorrt_llm"]
    assert closed_loop_tpot_ms(words, 8, 1024, 128) > 1.5 * loads.tpot_ms[loads.concurrency == 8].min()


def test_the_formula_of_a_steady_loop_is_near_the_simulation(h100_loops: tuple[Loads, np.ndarray]) -> None:
    """The fit of host terms takes it in place of a simulation."""
    loads, simulated_ms = h100_loops
    law = build_law(composed(["gpu=h100_llama31_8b", *(f"gpu.law.{key}" for key in H100_TENSORRT_LLM)]).gpu)
    formula_ms = kernel_tpot_ms(law, loads)
    assert np.median(np.abs(formula_ms / loads.tpot_ms - 1)) < 0.025
    assert np.median(np.abs(formula_ms / simulated_ms - 1)) < 0.05


def test_a_closed_loop_of_one_user_is_its_own_steps() -> None:
    """One user alone: every step decodes his request, at contexts of 101 to 109 tokens."""
    words = ["gpu=h100_llama31_8b", "execution=vllm", "scheduler=vllm"]
    law = build_law(composed([*words, "num_gpus=1"]).gpu)
    by_hand_ms = np.mean([1e3 * law.decode_step_s(1, 100 + k) for k in range(1, 10)])
    assert closed_loop_tpot_ms(words, 1, 100, 10) == pytest.approx(by_hand_ms)
    with pytest.raises(UserError, match="output_tokens=1: a time per token needs two tokens or more"):
        closed_loop_tpot_ms(words, 1, 100, 1)
