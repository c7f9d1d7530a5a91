"""Blocks that prompts share: the tree against a dictionary, and hit rates in trace order against plain caches."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mbexp import UserError, load_trace, simulate
from mbexp.workload.hit_rates import block_ids, trace_hits
from mbexp.workload.prefixes import HashBlocks, from_contents, from_hashes
from mbexp.workload.shared import hits_in_order, shared_prefixes
from mbexp.workload.turns import Contents
from tests import ROOT

MOONCAKE = ROOT.parent / "shared" / "traces" / "mooncake_conversation_trace.jsonl"
CAPACITIES = (1000, 10_000, 30_000, 50_000, 100_000, None)
LRU_HITS = (0.0445, 0.2112, 0.3257, 0.3546, 0.3637, 0.3664)  # worked out by others, to four digits
ONE_GPU = {"execution": "continuous", "num_gpus": 1, "output.batches": False}


def random_hashes(seed: int, chained: bool) -> tuple[HashBlocks, np.ndarray, np.ndarray, list[list[int]]]:
    rng = np.random.default_rng(seed)
    lists = []
    for _ in range(40):
        steps = rng.integers(0, 2, int(rng.integers(0, 9)))
        lists.append((np.cumsum(steps) + 50 * np.arange(len(steps))).tolist() if chained else steps.tolist())
    if chained:  # a name for a block with all before it
        known: dict[tuple[int, ...], int] = {}
        lists = [[known.setdefault(tuple(ids[: at + 1]), len(known)) for at in range(len(ids))] for ids in lists]
    count = np.array([len(ids) for ids in lists], np.int32)
    flat = np.array([block for ids in lists for block in ids], np.int64)
    prompt = np.maximum(count * 4 - rng.integers(0, 4, len(count)), 1).astype(np.int32)
    output = rng.integers(1, 20, len(count)).astype(np.int32)
    return HashBlocks(np.cumsum(count) - count, count, flat, 4), prompt, output, lists


@pytest.mark.parametrize("chained", [True, False])
def test_blocks_are_alike_only_behind_alike_blocks(chained):
    for seed in range(30):
        hashes, prompt, output, lists = random_hashes(seed, chained)
        tree = from_hashes(hashes, prompt, output)
        found = list(block_ids(tree))
        names: dict[tuple[int, ...], int] = {}
        for ids, blocks in zip(lists, found, strict=True):
            assert len(ids) == len(blocks)
            for at, block in enumerate(blocks):
                assert names.setdefault(tuple(ids[: at + 1]), block) == block
        assert len(set(names.values())) == len(names)
        assert np.array_equal(tree.prompt_blocks, [len(ids) for ids in lists])
        for place, end in enumerate(tree.context_span):
            blocks = sum(tree.blocks[span] for span in tree.path(end))
            assert blocks == max(len(lists[place]), (prompt[place] + output[place] - 1) // 4)


def test_turns_share_full_blocks_with_what_was_said():
    # Two conversations with one system prompt of 10 tokens, blocks of 4; the third request follows the first.
    contents = Contents(np.array([-1, -1, 0, 0], np.int32), np.zeros(4, np.int32), np.array([10, 10, 10, 10], np.int32))
    prompt, output = np.array([13, 11, 25, 23], np.int32), np.array([8, 3, 4, 9], np.int32)
    blocks = list(block_ids(from_contents(contents, prompt, output, 4)))
    assert [len(each) for each in blocks] == [3, 2, 6, 5]
    assert blocks[0][:2] == blocks[1][:2]
    assert blocks[2][:5] == blocks[3][:5]  # 13 + 8 - 1 tokens are computed
    assert blocks[2][:3] == blocks[0]
    assert blocks[2][5] not in {block for each in (blocks[0], blocks[1], blocks[3]) for block in each}


def dictionary_and_list(prompts: list[list[int]], capacity: int) -> tuple[int, int]:
    """Hits of any block, and of blocks behind hits alone, of the plainest LRU."""
    order: list[int] = []
    any_hits = prefix_hits = 0
    for prompt in prompts:
        unbroken = True
        for block in prompt:
            if block in order:
                any_hits += 1
                prefix_hits += unbroken
                order.remove(block)
            else:
                unbroken = False
            order.append(block)
            if len(order) > capacity:
                order.pop(0)
    return any_hits, prefix_hits


def test_lru_is_that_of_a_dictionary_and_a_list_and_any_hit_is_behind_hits():
    for seed in range(10):
        hashes, prompt, output, _ = random_hashes(seed, True)
        tree = from_hashes(hashes, prompt, output)
        prompts = list(block_ids(tree))
        before = -1
        for capacity in (8, 12, 20, 40, 1000):
            hits = trace_hits(tree, capacity).hit_blocks
            assert (hits, hits) == dictionary_and_list(prompts, capacity)
            assert hits >= before  # LRU is a stack: more room never finds less
            before = hits
            bound = trace_hits(tree, capacity, "belady").hit_blocks
            assert bound >= max(hits, trace_hits(tree, capacity, "lfu").hit_blocks)
        every = trace_hits(tree)
        assert every.hit_blocks == every.blocks - every.distinct_blocks


def brute_force_most_hits(prompts: list[list[int]], capacity: int) -> int:
    """The most blocks that any choice of what to keep can find, by going through all of them."""
    states = {frozenset(): 0}
    for prompt in prompts:
        after: dict[frozenset, int] = {}
        for kept, hits in states.items():
            found = hits + sum(block in kept for block in prompt)
            pool = sorted(kept | set(prompt))
            for mask in range(1 << len(pool)):
                chosen = frozenset(block for at, block in enumerate(pool) if mask >> at & 1)
                if len(chosen) <= capacity:
                    after[chosen] = max(after.get(chosen, -1), found)
        states = after
    return max(states.values())


def test_no_choice_finds_more_than_belady():
    rng = np.random.default_rng(0)
    for _ in range(6):
        lists = [[0, *(1 + rng.integers(0, 2, 1)).tolist()] if rng.integers(2) else [3] for _ in range(7)]
        count = np.array([len(ids) for ids in lists], np.int32)
        flat = np.array([block for ids in lists for block in ids], np.int64)
        hashes = HashBlocks(np.cumsum(count) - count, count, flat, 4)
        tree = from_hashes(hashes, count * 4, np.ones_like(count))
        assert trace_hits(tree, 2, "belady").hit_blocks == brute_force_most_hits(list(block_ids(tree)), 2)


@pytest.mark.skipif(not MOONCAKE.exists(), reason="the Mooncake trace is not here")
def test_lru_on_the_mooncake_conversation_trace():
    trace = load_trace("mooncake", None, path=str(MOONCAKE))
    tree = shared_prefixes(trace)
    hits = [trace_hits(tree, capacity) for capacity in CAPACITIES]
    assert (hits[0].requests, hits[0].blocks, hits[0].distinct_blocks) == (12_031, 288_500, 182_790)
    assert tuple(round(each.hit_rate, 4) for each in hits) == LRU_HITS


@pytest.mark.skipif(not MOONCAKE.exists(), reason="the Mooncake trace is not here")
@pytest.mark.parametrize("capacity", [pytest.param(each, marks=pytest.mark.slow) for each in CAPACITIES[1:]] + [1000])
def test_a_run_in_which_no_requests_overlap_finds_as_many(capacity):
    keys = {"workload": "mooncake", "workload.path": str(MOONCAKE), "num_requests": None}
    slow = {"workload.timestamps": "scaled", "workload.rate_scaling": 1e-6, "workload.spread_ties_s": 3.0}
    cache = {"execution.prefix_cache": "lru", "execution.prefix_cache_blocks": capacity or 300_000}
    summary = simulate(**keys, **slow, **cache, **ONE_GPU, **{"execution.oversized_prompt": "reject"}).summary
    assert summary["completed_requests"] == 12_031
    assert round(summary["prefix_hit_blocks_pct"] / 100, 4) == LRU_HITS[CAPACITIES.index(capacity)]


@pytest.mark.parametrize("policy", ["lru", "lfu", "belady"])
def test_a_run_of_conversations_one_by_one_finds_as_many_of_their_prompts(policy):
    trace = load_trace("sessions", 300, arrivals={"kind": "at_once"}, sessions={"system_prompts": 3}, seed=3)
    lone = trace.blocks
    assert lone is None
    hits = hits_in_order(trace, None, policy)
    keys = {"execution.prefix_cache": policy, "execution.prefix_cache_blocks": 10**6, "gpu.memory_gb": 80}
    result = simulate(trace, scheduler="static_fifo", **{"scheduler.fixed_batch_size": 1}, **keys, **ONE_GPU)
    # A cache without end finds every block that came before; answers too, which the order of the trace leaves out.
    assert result.summary["prefix_hit_blocks_pct"] >= 100 * hits.hit_rate - 1e-9
    assert result.summary["prefix_evicted_blocks"] == 0


def test_a_trace_names_the_blocks_of_its_prompts(tmp_path):
    rows = [(0, 1000, [1, 2]), (1000, 1500, [1, 2, 3]), (2000, 2000, [1, 2]), (3000, 400, [9, 8])]
    path = tmp_path / "part.jsonl"
    lines = [{"timestamp": t, "input_length": i, "output_length": 5, "hash_ids": ids} for t, i, ids in rows]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    trace = load_trace("mooncake", None, path=str(path))
    assert trace.changed == {"hash_ids_short": 1, "hash_ids_long": 1}
    assert trace.blocks.count.tolist() == [2, 3, 2, 1]
    assert hits_in_order(trace).hit_blocks == 4
    part = load_trace("mooncake", 2, path=str(path), window={"kind": "rows", "start_row": 1})
    assert [list(part.blocks.ids[f : f + c]) for f, c in zip(part.blocks.first, part.blocks.count, strict=True)] == [
        [1, 2, 3], [1, 2]
    ]  # fmt: skip
    path.write_text(json.dumps({**lines[0], "hash_ids": "1,2"}) + "\n")
    with pytest.raises(UserError, match="line 1: 'hash_ids' is '1,2', not a list of whole numbers"):
        load_trace("mooncake", None, path=str(path))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"workload": "synthetic", "execution.prefix_cache": "lru"}, "the trace does not say what its prompts share"),
        ({"execution.prefix_cache": "lru", "execution.kv": "reserve"}, "it needs execution.kv=paged"),
        ({"execution.prefix_cache": "lru", "execution.preemption": "swap"}, "it needs execution.preemption=recompute"),
        ({"execution.prefix_cache_blocks": 5}, "has no effect with execution.prefix_cache=none"),
        ({"execution.prefix_cache": "lru", "execution.prefix_cache_of": "all"}, "needs execution.prefix_cache_blocks"),
        ({"execution.prefix_cache": "mru"}, "execution.prefix_cache=mru"),
    ],
)
def test_mistakes_are_told_in_one_line(keys, told):
    usual = {"workload": "sessions", "execution.kv": "paged", "num_requests": 50}
    with pytest.raises(UserError) as raised:
        simulate(**{**ONE_GPU, **usual, **keys})
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_blocks_of_another_size_are_refused(tmp_path):
    path = tmp_path / "part.jsonl"
    path.write_text('{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}\n' * 3)
    keys = {"workload": "mooncake", "workload.path": str(path), "execution.prefix_cache": "lru", **ONE_GPU}
    with pytest.raises(UserError, match=r"execution\.block_tokens=16: the trace names blocks of 512 tokens"):
        simulate(**keys, num_requests=None, **{"execution.kv": "paged"})
    result = simulate(**keys, num_requests=None, **{"execution.kv": "paged", "execution.block_tokens": 512})
    assert not any("shared prefixes" in text for text in result.warnings)
    without = simulate(**{**keys, "execution.prefix_cache": "none"}, num_requests=None)
    assert any(text.startswith("shared prefixes of the trace do not count") for text in without.warnings)
    found = result.summary
    assert found["prefix_hit_blocks_pct"] == pytest.approx(100 * 4 / 6)
    assert found["prefix_hit_tokens_pct"] == pytest.approx(100 * 2 * 512 / 1800)
    assert found["prefix_hit_requests_pct"] == pytest.approx(200 / 3)
