"""execution=sglang and execution=tensorrt_llm against walks of those engines' schedulers over plain lists."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest

from mbexp import UserError, configure, simulate
from mbexp.config.keys import Config
from mbexp.hardware.iteration import ClosedForm
from mbexp.modes.continuous import execution_rules
from tests.simulator.continuous import sglang_step, tensorrt_llm_step
from tests.simulator.continuous.agreement import Case, iterations_of, run_closed_form

SECOND = ClosedForm(1.0, *[0.0] * 7)
RULES = ("prefill", "token_budget", "admission", "kv", "block_tokens", "prefill_memory", "hold_last_token",
         "reserved_blocks", "watermark_pct", "preemption", "output_reserve", "conservativeness")  # fmt: skip


def drawn(seed: int) -> tuple[np.random.Generator, list[tuple[int, int, int]]]:
    """Return a generator, and requests: arrival, prompt, output."""
    rng = np.random.default_rng(seed)
    longest = int(rng.choice([6, 30, 100]))
    rows = [
        (int(rng.integers(0, 80)), int(rng.integers(1, longest)), int(rng.integers(1, longest)))
        for _ in range(int(rng.integers(4, 40)))
    ]
    return rng, sorted(rows)


@cache
def preset(execution: str) -> Config:
    """Return the configuration that names a preset, composed once."""
    return configure(execution=execution)


def as_case(rows: list[tuple[int, int, int, int]], memory: int, size: int, execution: str, **keys: Any) -> Case:
    """Return requests (arrival, prompt, output, predicted) for mbexp, in the rules that a preset names."""
    config = preset(execution)
    rules = execution_rules(dataclasses.replace(config.execution, **keys), config.gpu)
    gaps = np.diff([0, *(row[0] for row in rows)]).astype(float).tolist()
    return Case(
        [(gap, *row[1:], 0) for gap, row in zip(gaps, rows, strict=True)],
        SECOND,
        memory=memory,
        scheduler={"batch_size": "fixed", "fixed_batch_size": size},
        rules={name: getattr(rules, name) for name in RULES},
        assignment="join_shortest",
    )


def compare(case: Case, steps: list[tuple[int, int]], served: list[Any], lost: str, seed: int) -> int:
    """Hold every step and every request to the engine's; return how often requests lost their place."""
    records = run_closed_form(case)
    found = [(decoding, prompt) for _, _, decoding, _, prompt in iterations_of(records)]
    assert found == steps, seed
    for name, column in (
        ("scheduled", records.start_s), ("first", records.first_token_s), ("finish", records.finish_s),
        (lost, records.preemptions),
    ):  # fmt: skip
        assert [getattr(each, name) for each in served] == column.tolist(), (seed, name)
    return int(records.preemptions.sum())


@pytest.mark.parametrize("binding", [False, True])
def test_every_batch_is_sglangs(binding):
    retracted = 0
    for seed in range(200):
        rng, rows = drawn(seed)
        if binding:
            rows = [(arrival // 4, *lengths) for arrival, *lengths in rows]
        page = int(rng.choice([1, 1, 4]))
        allowed = [output if rng.random() < 0.5 else int(rng.integers(output, 3 * output + 1)) for *_, output in rows]
        largest = max(prompt + output for _, prompt, output in rows)
        pool = (int(largest * rng.uniform(1.2, 3.0)) if binding else 100 * largest) + 4 * page
        size, chunk = int(rng.integers(3, 13) if binding else rng.integers(1, 9)), int(rng.integers(1, 2 * largest))
        conservativeness = float(rng.choice([0.0, 0.0, 0.1, 1.0, 2.0]))
        reqs = [sglang_step.Req(place, *row, most) for place, (row, most) in enumerate(zip(rows, allowed, strict=True))]
        steps = sglang_step.serve(sglang_step.Engine(pool, page, size, chunk, conservativeness), reqs)
        case = as_case(
            [(*row, most) for row, most in zip(rows, allowed, strict=True)],
            pool,
            size,
            execution="sglang",
            token_budget=chunk,
            block_tokens=page,
            conservativeness=conservativeness,
        )
        retracted += compare(case, steps, reqs, "retracted", seed)
    assert (retracted > 25) == binding


@pytest.mark.parametrize("policy", ["GUARANTEED_NO_EVICT", "MAX_UTILIZATION"])
def test_every_step_is_tensorrt_llms(policy):
    paused = 0
    for seed in range(200):
        rng, rows = drawn(seed)
        block = int(rng.choice([1, 4, 32]))
        largest = max(-(-(prompt + output) // block) for _, prompt, output in rows)
        blocks, size = largest + int(rng.integers(0, 2 * largest)), int(rng.integers(1, 9))
        tokens = size + max(prompt + output for _, prompt, output in rows) + int(rng.integers(0, 50))
        requests = [tensorrt_llm_step.Request(place, *row) for place, row in enumerate(rows)]
        no_evict = policy == "GUARANTEED_NO_EVICT"
        engine = tensorrt_llm_step.Engine(blocks, block, size, tokens, no_evict)
        steps = tensorrt_llm_step.serve(engine, requests)
        other = {} if no_evict else {"output_reserve": "none", "prefill_memory": "first_chunk"}
        keys = {"token_budget": tokens, "block_tokens": block, **other}
        case = as_case([(*row, row[2]) for row in rows], blocks * block, size, execution="tensorrt_llm", **keys)
        paused += compare(case, steps, requests, "paused", seed)
    assert paused == 0 if no_evict else paused > 100


@pytest.mark.parametrize("engine", ["sglang", "tensorrt_llm"])
def test_a_preset_runs_with_its_cap_and_says_its_limits(engine):
    keys = {"workload": "synthetic", "num_requests": 300, "num_gpus": 2, "bins": "none"}
    result = simulate(execution=engine, scheduler=engine, **keys)
    assert result.summary["completed_requests"] == 300
    assert result.config.execution.token_budget == 8192
    assert any("execution.token_budget=8192 and scheduler.fixed_batch_size=2048" in each for each in result.warnings)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"execution": "sglang", "execution.prefill": "chunked"}, "execution.output_reserve=ratio: needs execution."),
        ({"execution": "sglang", "execution.kv": "reserve"}, "execution.hold_last_token=False: is a rule of blocks"),
        ({"execution": "sglang", "execution.kv": "reserve", "execution.hold_last_token": True},
         "execution.output_reserve=ratio: is a rule of blocks"),
        ({"execution": "tensorrt_llm", "execution.token_budget": 40, "scheduler.fixed_batch_size": 8},
         "execution.token_budget=40: the longest prompt of"),
        ({"execution": "continuous", "scheduler": "vllm"}, "scheduler.fixed_batch_size=null: is the default of an"),
        ({"execution": "continuous", "execution.token_budget": None}, "execution.token_budget=null: is the default"),
    ],
)  # fmt: skip
def test_rules_that_do_not_go_together_are_told(keys, told):
    chosen = {"scheduler": "static_fifo", **keys}
    with pytest.raises(UserError) as raised:
        simulate(workload="synthetic", num_requests=10, **chosen)
    assert str(raised.value).startswith(told)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("gpu", "vllm", "sglang"),
    [
        ("h100_llama31_8b", (8192, 1024), 8192),
        ("a100_llama31_8b", (2048, 256), 8192),
        ("l40s_llama31_8b", (2048, 256), 4096),
        ("rtx4090_llama31_8b", (2048, 256), 2048),
        ("h100_llama31_70b_tp4", (8192, 1024), 8192),
        ("a100_llama31_70b_tp4", (2048, 256), 8192),
        ("b200_llama31_8b", (8192, 1024), 16384),
        ("roofline_a100_80gb", (2048, 256), 8192),
        ("roofline_h100", (8192, 1024), 8192),
    ],
)
def test_limits_follow_the_card(gpu, vllm, sglang):
    """vLLM: 70 GiB or more and no A100; SGLang: by memory; of an engine of several cards, the memory of one."""
    config = configure(execution="vllm", scheduler="vllm", gpu=gpu)
    assert (config.execution.token_budget, config.scheduler.fixed_batch_size) == vllm
    assert configure(execution="sglang", scheduler="sglang", gpu=gpu).execution.token_budget == sglang


def test_a_capacity_that_sweeps_cards_takes_the_limits_of_each():
    from mbexp.capacity.command import compose

    words = ["execution=vllm", "scheduler=vllm", "gpu=h100_llama31_8b,a100_llama31_8b", "workload=synthetic"]
    found = [(p.config.execution.token_budget, p.config.scheduler.fixed_batch_size) for p in compose(words)]
    assert found == [(8192, 1024), (2048, 256)]
