"""Prefix caching: the loop against the reference that keeps every block by itself, in memory and beside it."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from mbexp.hardware.iteration import ClosedForm
from mbexp.workload.prefixes import HashBlocks, from_contents, from_hashes
from mbexp.workload.turns import Contents
from tests.simulator.continuous.agreement import Case, difference, run_closed_form

CASES = int(os.environ.get("MBEXP_REFERENCE_CASES", "300"))
TICK_S = 2.0**-8


def prefix_case(seed: int, beside: bool) -> Case:
    """A random case with a cache; prompts share blocks as conversations do, or as hashes name them."""
    rng = np.random.default_rng(seed)
    count, block = int(rng.integers(5, 50)), int(rng.choice([1, 2, 4]))
    by_turns = bool(rng.integers(2))
    prompt, output = rng.integers(1, 24, count), rng.integers(1, 12, count)
    parents = [-1] * count
    if by_turns:
        parents = [int(rng.integers(max(-1, place - 8), place)) for place in range(count)]
        for place, parent in enumerate(parents):
            if parent >= 0 and prompt[parent] + output[parent] < 90:
                prompt[place] = prompt[parent] + output[parent] + rng.integers(1, 8)
            else:
                parents[place] = -1
        system = np.where(np.array(parents) < 0, rng.integers(-1, 2, count), -1)
        lengths = rng.integers(1, 9, 2)
        contents = Contents(
            np.array(parents, np.int32), system.astype(np.int32),
            np.where(system >= 0, lengths[np.maximum(system, 0)], 0).astype(np.int32),
        )  # fmt: skip
        prefixes = from_contents(contents, prompt.astype(np.int32), output.astype(np.int32), block)
    else:
        counts = -(-prompt // block)
        ids = [np.cumsum(rng.integers(0, 2, each)) * 100 + np.arange(each) for each in counts]
        first = np.cumsum(counts) - counts
        hashes = HashBlocks(first, counts.astype(np.int32), np.concatenate(ids), block)
        prefixes = from_hashes(hashes, prompt.astype(np.int32), output.astype(np.int32))
    rules = {
        "prefill": str(rng.choice(["first", "chunked"])),
        "kv": "paged",
        "block_tokens": block,
        "prefill_max_tokens": None if rng.integers(2) else int(rng.integers(10, 60)),
        "hold_last_token": bool(rng.integers(2)),
        "reserved_blocks": int(rng.integers(2)),
        "watermark_pct": float(rng.choice([0.0, 0.0, 10.0])),
        "prefix_cache": str(rng.choice(["lru", "lfu", "belady"])),
    }
    cap = int(rng.integers(1, 6))
    rules["token_budget"] = cap + int(rng.integers(0, 24))
    if rules["prefill"] == "chunked":
        rules["prefill_memory"] = str(rng.choice(["held", "tested", "first_chunk"]))
    if beside:
        rules |= {
            "prefix_cache_blocks": int(rng.integers(1, 60)),
            "prefix_cache_of": str(rng.choice(["gpu", "all"])),
            "preemption": str(rng.choice(["recompute", "swap"])),
        }
        if rng.integers(2):
            rules |= {"kv": "reserve", "prefill_memory": "held", "hold_last_token": True, "reserved_blocks": 0}
    prices = rng.random(9) * [0.01, 0.001, 0.01, 0.002, 1e-5, 1e-3, 1e-3, 1e-6, 0.01]
    prices[0] += 1e-3
    longest = int((prompt + output).max())
    gaps = rng.exponential(float(rng.choice([0.001, 0.02, 0.3])), count)
    case = Case(
        requests=[(float(gap), int(p), int(o), int(o), 0) for gap, p, o in zip(gaps, prompt, output, strict=True)],
        price=ClosedForm(*prices.tolist()),
        gpus=int(rng.integers(1, 4)),
        memory=longest + int(rng.integers(8, 120)),
        scheduler={"batch_size": "fixed", "fixed_batch_size": cap},
        rules=rules,
        assignment=str(rng.choice(["central", "join_shortest", "round_robin"])),
        seed=seed,
        prefixes=prefixes,
    )
    if case.gpus > 1 and rng.integers(2):
        router = str(rng.choice(["prefix_dynamo", "prefix_sglang", "prefix_llm_d", "session_affinity"]))
        case = dataclasses.replace(case, assignment="round_robin", rules={**case.rules, "router": router})
        if router == "session_affinity":
            case = dataclasses.replace(case, homes=rng.random(count).tolist())
    if by_turns and rng.integers(3):
        think = rng.exponential(0.1, count).tolist()
        case = dataclasses.replace(case, parents=parents, think=think)
    return case


@pytest.mark.parametrize("beside", [False, True])
def test_the_loop_and_the_reference_agree(beside):
    for seed in range(CASES):
        found = difference(prefix_case(seed, beside))
        assert found is None, f"seed {seed}: {found}"


@pytest.mark.parametrize("router", ["prefix_dynamo", "prefix_sglang", "prefix_llm_d"])
def test_routers_among_many_gpus_agree_with_a_look_at_each(router):
    for seed in range(CASES // 5):
        rng = np.random.default_rng([seed, 7])
        case = prefix_case(seed, bool(rng.integers(2)))
        few = seed % 2 == 0  # else so many that routers know who had a first span (`routers.CLASSED_GPUS`)
        gpus, bins = int(rng.integers(4, 40) if few else rng.integers(64, 130)), int(rng.integers(1, 3))
        requests = [(*row[:4], int(rng.integers(bins))) for row in case.requests]
        rules = {**case.rules, "router": router, "gpu_serves": "equal_share" if bins > 1 else "any_bin"}
        case = dataclasses.replace(
            case, gpus=gpus, bins=bins, requests=requests, rules=rules, assignment="round_robin", homes=[]
        )
        found = difference(case)
        assert found is None, f"seed {seed}: {found}"


@pytest.mark.parametrize("router", ["prefix_dynamo", "prefix_sglang", "prefix_llm_d"])
def test_routers_whose_gpus_share_first_spans_agree_with_a_look_at_each(router):
    """Many GPUs keep one of a few system prompts, and of those that never had it no block is expected."""
    for seed in range(4):
        rng = np.random.default_rng([seed, 8])
        count, block, groups = 250, 4, int(rng.integers(1, 12))
        group = rng.integers(groups, size=count)
        shared = rng.integers(1, 8, groups)  # blocks of each system prompt
        own = rng.integers(0, 5, count)  # and of what follows
        ids = [
            np.concatenate([1000 * (1 + g) + np.arange(shared[g]), 100_000 + 100 * place + np.arange(own[place])])
            for place, g in enumerate(group)
        ]
        counts = np.array([len(each) for each in ids])
        hashes = HashBlocks(np.cumsum(counts) - counts, counts.astype(np.int32), np.concatenate(ids), block)
        prompt, output = (counts * block).astype(np.int32), rng.integers(1, 12, count).astype(np.int32)
        gaps = rng.exponential(0.002, count)
        case = dataclasses.replace(
            prefix_case(seed, False),
            requests=[(float(gap), int(p), int(o), int(o), 0) for gap, p, o in zip(gaps, prompt, output, strict=True)],
            gpus=int(rng.integers(64, 100)),
            bins=1,
            memory=int((prompt + output).max()) + 120,
            rules={"prefill": "first", "kv": "paged", "block_tokens": block, "prefix_cache": "lru", "router": router},
            assignment="round_robin",
            prefixes=from_hashes(hashes, prompt, output),
            homes=[],
            parents=None,
            think=[],
        )
        found = difference(case)
        assert found is None, f"seed {seed}: {found}"


@pytest.mark.parametrize(("before", "away_after"), [(100, 65), (600, 151)])
def test_sglangs_router_leaves_a_cache_when_loads_differ_by_64_and_by_half(before, away_after):
    """`before` prompts of their own, half on each GPU, then equal ones: they stay while H - L <= 64 or H <= 1.5 L."""
    ids = [[1000 + place] for place in range(before)] + [[1, 2]] * 170
    counts = np.array([len(each) for each in ids])
    prompt, output = (4 * counts).astype(np.int32), np.full(len(ids), 3000, np.int32)
    hashes = HashBlocks(np.cumsum(counts) - counts, counts.astype(np.int32), np.concatenate(ids), 4)
    case = Case(
        requests=[(2.0**-9, int(tokens), 3000, 3000, 0) for tokens in prompt],
        price=ClosedForm(1e-3, *[0.0] * 7),
        gpus=2,
        memory=10**7,
        scheduler={"batch_size": "fixed", "fixed_batch_size": 1024},
        rules={
            "prefill": "first",
            "kv": "paged",
            "block_tokens": 4,
            "prefix_cache": "lru",
            "router": "prefix_sglang",
        },
        assignment="round_robin",
        prefixes=from_hashes(hashes, prompt, output),
    )
    gpu = run_closed_form(case).gpu
    assert np.bincount(gpu[:before]).tolist() == [before // 2, before // 2]
    assert gpu[before:].tolist().index(1) == away_after
