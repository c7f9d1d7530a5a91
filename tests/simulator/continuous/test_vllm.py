"""execution=vllm against a walk of vLLM v1's scheduler over plain lists, step for step."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest

from mbexp import UserError, configure, simulate
from mbexp.config.keys import Config
from mbexp.hardware.iteration import ClosedForm
from mbexp.modes.continuous import execution_rules
from tests.simulator.continuous.agreement import Case, iterations_of, run_closed_form
from tests.simulator.continuous.vllm_step import Engine, Sequence, serve

SECOND = ClosedForm(1.0, *[0.0] * 7)


def random_engine(seed: int, binding: bool) -> tuple[Engine, list[Sequence]]:
    """Return an engine with ample or binding memory, and what it will serve."""
    rng = np.random.default_rng(seed)
    block, seqs = int(rng.choice([1, 4, 16])), int(rng.integers(1, 9))
    longest = int(rng.choice([12, 40, 100]))
    rows = [
        (int(rng.integers(0, 60)), int(rng.integers(1, longest)), int(rng.integers(1, longest)))
        for _ in range(int(rng.integers(4, 40)))
    ]
    rows.sort()
    sequences = [Sequence(place, *row) for place, row in enumerate(rows)]
    largest = max(-(-(prompt + output) // block) for _, prompt, output in rows)
    blocks = 1 + (largest + int(rng.integers(0, largest + 1)) if binding else largest * seqs)
    engine = Engine(
        num_blocks=blocks,
        block_size=block,
        max_num_seqs=seqs,
        max_num_batched_tokens=seqs + int(rng.integers(0, 2 * longest)),
        reserve_full_isl=bool(rng.integers(2)),
        watermark=float(rng.choice([0.0, 0.0, 0.25])),
    )
    return engine, sequences


@cache
def preset() -> Config:
    """Return the configuration that names the preset, composed once."""
    return configure(execution="vllm")


def as_case(engine: Engine, sequences: list[Sequence]) -> Case:
    """Return the same for mbexp, in the rules that execution=vllm names."""
    arrivals = np.diff([0, *(sequence.arrival for sequence in sequences)]).astype(float)
    config = preset()
    execution = dataclasses.replace(
        config.execution,
        token_budget=engine.max_num_batched_tokens,
        block_tokens=engine.block_size,
        prefill_memory="tested" if engine.reserve_full_isl else "first_chunk",
        watermark_pct=100 * engine.watermark,
    )
    rules = execution_rules(execution, config.gpu)
    names = ("prefill", "token_budget", "admission", "kv", "block_tokens", "prefill_memory", "hold_last_token",
             "reserved_blocks", "watermark_pct", "preemption")  # fmt: skip
    return Case(
        [
            (gap, each.prompt, each.output, each.output, 0)
            for gap, each in zip(arrivals.tolist(), sequences, strict=True)
        ],
        SECOND,
        memory=engine.num_blocks * engine.block_size,
        scheduler={"batch_size": "fixed", "fixed_batch_size": engine.max_num_seqs},
        rules={name: getattr(rules, name) for name in names},
    )


@pytest.mark.parametrize("binding", [False, True])
def test_every_step_is_the_engines(binding):
    preempted = 0
    for seed in range(150):
        engine, sequences = random_engine(seed, binding)
        records = run_closed_form(as_case(engine, sequences))
        steps = serve(engine, sequences)
        found = [(decoding, prompt) for _, _, decoding, _, prompt in iterations_of(records)]
        assert [sum(tokens.values()) for tokens in steps] == [sum(step) for step in found], seed
        for name, column in (
            ("scheduled", records.start_s), ("first", records.first_token_s), ("finish", records.finish_s),
            ("preempted", records.preemptions),
        ):  # fmt: skip
            assert [getattr(sequence, name) for sequence in sequences] == column.tolist(), (seed, name)
        preempted += int(records.preemptions.sum())
    assert (preempted > 100) == binding


def test_the_preset_runs_with_its_cap():
    result = simulate(workload="synthetic", execution="vllm", scheduler="vllm", num_requests=400, num_gpus=1)
    assert result.summary["batch_size_max"] <= 1024
    assert 2048 < (result.batches.prompt_tokens + result.batches.decoding).max() <= 8192  # of a large card
    capacity = result.summary["kv_capacity_tokens"] // 16 - 1  # the null block
    assert result.outcome.gpus["held_max"].max() <= capacity


def test_requests_beyond_the_longest_context_are_counted():
    keys = {"workload": "synthetic", "execution": "vllm", "num_requests": 500}
    result = simulate(**keys, **{"execution.max_model_len_tokens": 800})
    too_long = result.trace.prompt_tokens + result.trace.output_tokens > 800
    assert result.summary["rejected_exceeds_max_model_len"] == result.summary["rejected_requests"] == too_long.sum() > 0
    assert any("exceed execution.max_model_len_tokens" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"execution.kv": "reserve"}, "execution.reserved_blocks=1: is a rule of blocks; use execution.kv=paged"),
        (
            {"execution.kv": "reserve", "execution.reserved_blocks": 0},
            "execution.hold_last_token=False: is a rule of blocks; use execution.kv=paged",
        ),
        ({"execution.admission": "any"}, "execution.prefill_memory=tested: needs execution.kv=paged"),
        ({"execution.prefill": "first"}, "execution.prefill_memory=tested: needs execution.kv=paged"),
        ({"gpu.kv_capacity_tokens": 31}, "execution.reserved_blocks=1: leaves nothing of the KV memory of 31 tokens"),
    ],
)
def test_rules_that_do_not_go_together_are_told(keys, told):
    with pytest.raises(UserError) as raised:
        simulate(workload="synthetic", execution="vllm", num_requests=10, **keys)
    assert str(raised.value).startswith(told)
    assert "\n" not in str(raised.value)
