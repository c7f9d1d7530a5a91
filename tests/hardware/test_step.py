"""The law of a step: whole batches against its own iterations one by one, and what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbexp.config.compose import configure
from mbexp.config.gpu_keys import GpuConfig, LawConfig
from mbexp.errors import UserError
from mbexp.hardware import build_law, kv_capacity_tokens

NUMBERS = {
    "fixed_ms": 2.3,
    "floor_ms": 4.0,
    "sequence_ms": 0.011,
    "compute_ms": 0.2,  # above the floor from 20 sequences on
    "context_us": 0.042,
    "prefill_token_ms": 0.0193,
    "prefill_square_ns": 0.4,
    "prefill_extra_ms": 0.76,
    "mixed_context_us": 0.04,
    "host_ms": 0.35,
    "host_us_per_sequence": 33.0,
}
EXPERTS = {"floor_ms": 0.0, "experts_ms": 7.0, "experts_active_share": 0.0625}


def law_of(**numbers):
    return build_law(GpuConfig(law=LawConfig(kind="step", **{**NUMBERS, **numbers})))


def seconds(numbers, b, context, tokens, squares):
    """The formula of docs/semantics/laws.md, in the units of the keys."""
    ms = numbers["fixed_ms"] + numbers["host_ms"] + b * (numbers["sequence_ms"] + numbers["host_us_per_sequence"] / 1e3)
    ms += max(numbers["floor_ms"], b * numbers["compute_ms"] + tokens * numbers["prefill_token_ms"])
    ms += context * numbers["context_us"] / 1e3 + squares * numbers["prefill_square_ns"] / 1e6
    if tokens:
        ms += numbers["prefill_extra_ms"] + context * numbers["mixed_context_us"] / 1e3
    if "experts_ms" in numbers:
        ms += numbers["experts_ms"] * (1 - (1 - numbers["experts_active_share"]) ** (b + tokens))
    return ms / 1e3


@pytest.mark.parametrize("more", [{}, EXPERTS], ids=["dense", "experts"])
@given(b=st.integers(1, 60), prompt=st.integers(1, 3000), output=st.integers(1, 60))
def test_a_batch_is_one_prefill_and_its_decode_steps(more, b, prompt, output):
    numbers = {**NUMBERS, **more}
    law = law_of(**more)
    prefill_s = seconds(numbers, 0, 0, b * prompt, b * prompt**2)
    steps_s = [seconds(numbers, b, b * (prompt + k), 0, 0) for k in range(1, output)]
    service_s, first_s, step_s = law.service(b, prompt, output)
    assert first_s == pytest.approx(prefill_s, rel=1e-12)
    assert service_s == pytest.approx(prefill_s + math.fsum(steps_s), rel=1e-12)
    mean_s = math.fsum(steps_s) / len(steps_s) if steps_s else seconds(numbers, b, b * (prompt + 1), 0, 0)
    assert step_s == pytest.approx(mean_s, rel=1e-12)


@pytest.mark.parametrize("more", [{}, EXPERTS], ids=["dense", "experts"])
@given(
    b=st.integers(0, 300),
    mean=st.integers(1, 9000),
    chunks=st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 900)), max_size=3),
)
def test_an_iteration_is_the_formula(more, b, mean, chunks):
    tokens = sum(n for _, n in chunks)
    squares = sum((x + n) ** 2 - x**2 for x, n in chunks)
    found = law_of(**more).iteration_s(b, b * mean, tokens, squares, len(chunks))
    assert found == pytest.approx(seconds({**NUMBERS, **more}, b, b * mean, tokens, squares), rel=1e-12)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "step"}, r"gpu\.law\.kind=step: a decode step would take no time; set gpu\.law\.fixed_ms"),
        ({"kind": "step", "fixed_ms": 1.0, "length": "output"}, r"gpu\.law\.length=output: a step prices prompt"),
        ({"kind": "step", "experts_ms": 1.0}, r"experts_active_share=0: experts_ms needs the share"),
    ],
)
def test_what_cannot_be_priced_is_one_line(keys, message):
    with pytest.raises(UserError, match=message) as error:
        build_law(GpuConfig(law=LawConfig(**keys)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"gpu.law.model": "llama31_9b"}, "gpu.law.model=llama31_9b: no such choice (did you mean 'llama31_8b'?); "),
        ({"gpu.law.card": "h1000"}, "gpu.law.card=h1000: no such choice (did you mean 'h100'?); "),
        ({"gpu.kv_capacity_tokens": 0}, "gpu.kv_capacity_tokens=0: must be at least 1"),
        ({"gpu.kv_capacity_tokens": None, "gpu.memory_gb": 10}, "gpu.memory_gb=10: no room for the KV cache: "),
        ({"gpu.law.request_overhead_ms": -1}, "gpu.law.request_overhead_ms=-1.0: must be at least 0"),
        ({"gpu.law.model": "/nowhere/config.json"}, "gpu.law.model=/nowhere/config.json: cannot be read (No such file"),
    ],
)
def test_a_wrong_engine_is_one_line(keys: dict[str, object], told: str) -> None:
    with pytest.raises(UserError) as raised:
        kv_capacity_tokens(configure(**{"gpu": "h100_llama31_8b", "execution": "continuous", **keys}).gpu)
    assert str(raised.value).startswith(told)
    assert "\n" not in str(raised.value)
