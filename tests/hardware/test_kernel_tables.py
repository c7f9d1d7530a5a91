"""Laws from kernel tables: the fit of a stand-in with known terms, the cache, what is refused, the real package."""

from __future__ import annotations

import importlib.metadata
import json
import math

import numpy as np
import pytest

import mbexp
from mbexp.config import kernel_tables
from mbexp.config.compose import configure
from mbexp.errors import UserError
from mbexp.hardware import build_law, kv_capacity_tokens
from mbexp.hardware.kernel_fit import grid, random_points

LLAMA = "meta-llama/Meta-Llama-3.1-8B"
# Seconds, in the terms of docs/semantics/laws.md.
FIXED, FLOOR, SEQUENCE, COMPUTE, CONTEXT, TOKEN, SQUARE, EXTRA = 2e-3, 5e-3, 1e-5, 1.5e-5, 4e-8, 2e-5, 5e-10, 1e-3
EXPERTS, IDLE = 9e-3, 1 - 8 / 128


class Engine:
    """Answers with the closed form, in ms, through the names of the package's handle."""

    def __init__(self, experts: bool) -> None:
        self.experts = experts

    def products(self, b: int, n: int) -> float:
        if self.experts:
            return EXPERTS * (1 - IDLE ** (b + n)) + TOKEN * n + COMPUTE * b
        return max(FLOOR, COMPUTE * b + TOKEN * n)

    def decode_step_latency(self, batch: int, isl: int, osl: int) -> float:
        context = isl + osl // 2
        return 1e3 * (FIXED + SEQUENCE * batch + self.products(batch, 0) + CONTEXT * batch * context)

    def predict_prefill_latency(self, batch: int, isl: int, prefix: int) -> float:
        assert batch == 1
        square = SQUARE * (isl**2 - prefix**2)
        return 1e3 * (FIXED + EXTRA + self.products(0, isl - prefix) + square)

    def mixed_step_breakdown(self, tokens: int, batch: int, isl: int, osl: int) -> tuple[float, float, float, float]:
        shared = 1e3 * (FIXED + EXTRA + SEQUENCE * batch + self.products(batch, tokens))
        attention = 1e3 * CONTEXT * batch * (isl + osl // 2)
        return shared + attention, shared, 0.0, attention


class Package:
    """Stands in for `mbexp.config.kernel_tables.Facade`."""

    calls = 0
    missing = False

    def models(self):
        return {LLAMA, "Qwen/Qwen3-30B-A3B"}

    def supported(self):
        return [("h100_sxm", LLAMA, "vllm"), ("h200_sxm", LLAMA, "vllm"), ("h100_sxm", LLAMA, "trtllm")]

    def memory(self, model, engine, cards):
        if cards == 3:
            raise ValueError("num_heads 32 should be divisible by tp_size 3")
        share = 8 / 128 if "A3B" in model else 0.0
        return {
            "weight_bytes": 16.06e9,
            "kv_bytes_per_token": 131072.0,
            "quantisation": {"weights": "bfloat16", "KV": "bfloat16"},
            "active_share": share,
            "context_tokens": 131072,
        }

    def engine_version(self, system, engine):
        return {"vllm": "0.24.0" if system != "a100_sxm" else "0.14.0"}.get(engine, "1.3.0")

    def compile(self, model, system, engine, cards):
        type(self).calls += 1
        if self.missing:
            raise RuntimeError("perf database error: GEMM perf data missing for quant 'fp8' at /somewhere/else")
        return Engine("A3B" in model)


@pytest.fixture
def package(monkeypatch, tmp_path):
    """A stand-in installed, and a cache of the test's own."""

    class Own(Package):
        pass

    monkeypatch.setenv("MBEXP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel_tables, "package_version", lambda: "0.12.9")
    monkeypatch.setattr(kernel_tables, "facade", Own)
    monkeypatch.setattr("mbexp.hardware.kernel_fit.facade", Own)
    return Own


def chosen(**law):
    return configure(gpu="aiconfigurator", **{f"gpu.law.{key}": value for key, value in law.items()}).gpu


@pytest.mark.parametrize("model", [LLAMA, "Qwen/Qwen3-30B-A3B"])
def test_the_fit_finds_the_terms_that_the_tables_were_made_of(package, model):
    law, engine = build_law(chosen(model=model)), Engine("A3B" in model)
    # The law's own prices against the stand-in's answers, off the grid.
    for phase, b, x, n, before in random_points(np.random.default_rng(5)):
        if phase == "decode":
            assert law.decode_step_s(b, b * x) == pytest.approx(engine.decode_step_latency(b, x - 1, 2) / 1e3, rel=3e-3)
        elif phase == "prefill":
            mine = law.iteration_s(0, 0, n, float(n * (n + 2 * before)), 1)
            assert mine == pytest.approx(engine.predict_prefill_latency(1, n + before, before) / 1e3, rel=3e-3)
        else:
            mine = law.iteration_s(b, b * x, n, float(n * (n + 2 * before)), 1)
            truth = (
                FIXED + EXTRA + SEQUENCE * b + engine.products(b, n) + CONTEXT * b * x + SQUARE * n * (n + 2 * before)
            )
            assert mine == pytest.approx(truth, rel=3e-3)
    assert f"fit to {len(grid())} steps" in law.notes[1]


def test_a_law_is_asked_for_once_and_kept_by_version_and_arguments(package, monkeypatch):
    first = build_law(chosen(model=LLAMA))
    assert build_law(chosen(model=LLAMA)).provenance == first.provenance
    assert package.calls == 1
    build_law(chosen(model=LLAMA, tensor_parallel=2))
    assert package.calls == 2
    monkeypatch.setattr(kernel_tables, "package_version", lambda: "0.12.10")
    assert "aiconfigurator-core 0.12.10" in build_law(chosen(model=LLAMA)).provenance
    assert package.calls == 3


def test_a_damaged_copy_is_made_anew(package, tmp_path):
    first = build_law(chosen(model=LLAMA)).provenance
    copies = list((tmp_path / "cache" / "aiconfigurator").glob("*.json"))
    assert len(copies) == 2  # what the engine is, and its law
    for path in copies:
        path.write_text(json.dumps({"of": "another", "answer": {}})[:20])
    assert build_law(chosen(model=LLAMA)).provenance == first
    assert package.calls == 2


def test_capacity_and_label_are_those_of_the_engine(package):
    gpu = chosen(model=LLAMA, tensor_parallel=2)
    assert (gpu.name, gpu.memory_gb, gpu.usable_fraction) == ("h100_sxm_meta_llama_3_1_8b_vllm_tp2", 170.0, 0.92)
    blocks = math.floor((0.92 * 85e9 - 16.06e9 / 2 - 1.2e9) / (16 * 131072 / 2))
    assert kv_capacity_tokens(gpu) == 16 * (blocks - 1)
    # A share of what is free, and the share of an older version.
    free = 85e9 - 16.06e9 - 1.2e9
    tensorrt = chosen(model=LLAMA, engine="tensorrt_llm")
    assert kv_capacity_tokens(tensorrt) == 16 * (math.floor(0.9 * free / (16 * 131072)) - 1)
    assert chosen(model=LLAMA, system="a100_sxm").usable_fraction == 0.9


def test_a_value_that_is_set_stays(package):
    gpu = configure(gpu="aiconfigurator", **{"gpu.weights_gb": 8.0, "gpu.law.host_ms": 1.5}).gpu
    assert gpu.weights_gb == 8.0
    plain = build_law(chosen(model=LLAMA))
    assert build_law(gpu).decode_step_s(4, 4000) == pytest.approx(plain.decode_step_s(4, 4000) + 1.5e-3)


@pytest.mark.parametrize(
    ("law", "said"),
    [
        ({"system": "h100"}, "gpu.law.system=h100: no such choice (did you mean 'h100_sxm'?)"),
        ({"engine": "vlm"}, "gpu.law.engine=vlm: no such choice (did you mean 'vllm'?)"),
        ({"model": "meta-llama/Llama-3.1-8B"}, f"did you mean '{LLAMA}'?"),
        ({"tensor_parallel": 3}, "divisible by tp_size 3); the nearest to try is gpu.law.tensor_parallel=2"),
    ],
)
def test_what_is_unknown_is_one_line_with_the_nearest_choice(package, law, said):
    with pytest.raises(UserError) as error:
        chosen(**law)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("law", "nearest"),
    [
        ({"system": "h100_sxm", "engine": "sglang"}, "gpu.law.system=h100_sxm gpu.law.engine="),
        ({"system": "rtx_pro_6000_server"}, "gpu.law.system=h100_sxm gpu.law.engine=vllm"),
        ({"model": "Qwen/Qwen3-30B-A3B"}, "another gpu.law.tensor_parallel or model may have them"),
    ],
)
def test_tables_that_are_missing_are_found_at_the_first_query_and_named(package, law, nearest):
    package.missing = True
    with pytest.raises(UserError) as error:
        build_law(chosen(**law))
    assert "GEMM perf data missing for quant 'fp8')" in str(error.value)
    assert nearest in str(error.value)
    assert "/somewhere" not in str(error.value)


def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(UserError, match=r"aiconfigurator-core is not installed; pip install '\.\[aiconfigurator\]'"):
        configure(gpu="aiconfigurator")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.13.0")
    with pytest.raises(UserError, match=r"0\.13\.0 is installed, 0\.12\.\* is needed"):
        configure(gpu="aiconfigurator")


def test_the_package_gives_the_card_that_ships(monkeypatch, tmp_path):
    pytest.importorskip("aiconfigurator_core", exc_type=ImportError)
    monkeypatch.setenv("MBEXP_CACHE", str(tmp_path))
    gpu = chosen(model="meta-llama/Meta-Llama-3.1-70B", tensor_parallel=4)
    law, shipped = build_law(gpu), mbexp.configure(gpu="h100_llama31_70b_tp4").gpu
    assert "vllm 0.24.0 kernel tables of aiconfigurator-core 0.12" in law.provenance
    assert kv_capacity_tokens(gpu) == shipped.kv_capacity_tokens
    theirs = build_law(shipped)
    for b, x in ((1, 500), (64, 1000), (200, 4000)):
        assert law.decode_step_s(b, b * x) == pytest.approx(theirs.decode_step_s(b, b * x), rel=1e-3)
    assert law.prefill_s(1, 3000) == pytest.approx(theirs.prefill_s(1, 3000), rel=1e-3)
    assert "quantised as weights bfloat16, KV bfloat16" in law.notes[0]


def test_the_package_names_what_it_lacks(monkeypatch, tmp_path):
    pytest.importorskip("aiconfigurator_core", exc_type=ImportError)
    monkeypatch.setenv("MBEXP_CACHE", str(tmp_path))
    with pytest.raises(
        UserError, match=r"data missing for quant 'fp8_block'.*nearest with tables is gpu\.law\.system="
    ):
        build_law(chosen(system="l40s", model="deepseek-ai/DeepSeek-R1", tensor_parallel=8, engine="sglang"))
