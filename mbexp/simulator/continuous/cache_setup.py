"""What a prefix cache is made of before a run: its sizes, its spans and paths, and what it does not go with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.compiled.least_tree import leaves_of
from mbexp.errors import UserError
from mbexp.simulator.continuous.extended import (
    AFFINITY,
    BELADY,
    DYNAMO,
    ENTRY,
    EVICTABLE,
    LFU,
    LLM_D,
    LRU,
    NO_CACHE,
    NO_ROUTER,
    SGLANG,
)
from mbexp.simulator.continuous.layout import NOBODY
from mbexp.workload.prefixes import ROOT, Prefixes

ROUTERS = {
    "none": NO_ROUTER,
    "prefix_dynamo": DYNAMO,
    "prefix_sglang": SGLANG,
    "prefix_llm_d": LLM_D,
    "session_affinity": AFFINITY,
}
POLICIES = {"none": NO_CACHE, "lru": LRU, "lfu": LFU, "belady": BELADY}
CACHE_BYTES_MAX = 8e9
NEVER = -1  # in place of the place of a next use


CacheRules = Any  # `mbexp.simulator.continuous.setup.ContinuousRules`, which asks this module


def refuse_cache(rules: CacheRules) -> None:
    """Refuse what does not go with a prefix cache."""
    if rules.prefix_cache == "none" and rules.router.startswith("prefix_"):
        raise UserError(
            f"execution.assignment={rules.router}: looks for cached prefixes; use execution.prefix_cache=lru, or "
            "another rule"
        )
    where = f"execution.prefix_cache={rules.prefix_cache}"
    if rules.prefix_cache == "none":
        if rules.prefix_cache_blocks is not None:
            raise UserError(
                f"execution.prefix_cache_blocks={rules.prefix_cache_blocks}: has no effect with "
                "execution.prefix_cache=none; use lru, lfu or belady"
            )
        return
    if rules.prefill == "alone" or rules.output_reserve != "none":
        key = "prefill" if rules.prefill == "alone" else "output_reserve"
        raise UserError(f"{where}: does not go with execution.{key}={getattr(rules, key)}; leave out one of them")
    if rules.prefix_cache_blocks is None:
        if rules.prefix_cache_of != "gpu":
            raise UserError(
                f"execution.prefix_cache_of={rules.prefix_cache_of}: needs execution.prefix_cache_blocks; the "
                "memory of a GPU is its own"
            )
        wants = {"kv": "paged", "preemption": "recompute"}
        if rules.prefill == "chunked":
            wants["admission"] = "budget"
        for key, value in wants.items():
            if getattr(rules, key) != value:
                raise UserError(
                    f"{where}: in the KV memory it needs execution.{key}={value}; or give it a size of its own with "
                    "execution.prefix_cache_blocks"
                )


def cache_sizes(prefixes: Prefixes, rules: CacheRules, num_gpus: int, units: int) -> dict[str, Any]:
    """Return the fields of the record of a run that say how large a cache is and how it works."""
    in_memory = rules.prefix_cache_blocks is None
    if in_memory and prefixes.block_tokens != rules.block_tokens:
        raise UserError(
            f"execution.block_tokens={rules.block_tokens}: the trace names blocks of {prefixes.block_tokens} tokens, "
            f"and those of the KV memory must be as large; use {prefixes.block_tokens}, or a cache of its own with "
            "execution.prefix_cache_blocks"
        )
    kept = units if rules.prefix_cache_blocks is None else rules.prefix_cache_blocks
    pools = 1 if rules.prefix_cache_of == "all" else num_gpus
    spans = len(prefixes.parent)
    # Every span has a block, so that no path has more spans than blocks.
    entries = max(1, min(spans, kept + int(prefixes.before.max(initial=0)) + 2))
    # As many buckets as entries to expect: of spans of mean length. Few are fast, since they stay in the processor.
    mean_blocks = max(1.0, float(prefixes.blocks.mean())) if spans else 1.0
    buckets = 1 << int(np.ceil(np.log2(2 + 2 * min(entries, kept / mean_blocks))))
    if pools * (entries * (ENTRY.dtype.itemsize + EVICTABLE.dtype.itemsize) + buckets * 4) > CACHE_BYTES_MAX:
        raise UserError(
            f"execution.prefix_cache_blocks={rules.prefix_cache_blocks}: {pools} caches of {kept:,} blocks need too "
            "much memory here; lower it, or num_gpus"
        )
    belady = rules.prefix_cache == "belady"
    looks = rules.router.startswith("prefix_")  # a router at caches
    return {
        "num_held_spans": spans if looks else 0,
        "num_holders": pools * entries if looks else 0,
        "num_route_nodes": 2 * leaves_of(num_gpus) if looks else 0,
        "prefix_cache": POLICIES[rules.prefix_cache],
        "in_memory": in_memory,
        "from_the_front": not in_memory and rules.prefix_cache == "lru",
        "answers_known": prefixes.answers_known,
        "num_paths": len(prefixes.prompt_span),
        "num_spans": spans,
        "num_uses": int(_lengths(prefixes).sum()) if belady else 0,
        "num_pools": pools,
        "num_entries": entries,
        "num_all_entries": pools * entries,
        "cache_buckets": buckets,
        "pool_blocks": 0 if in_memory else kept,
        "prefix_tokens": prefixes.block_tokens,
    }


def fill_cache(state: SimpleNamespace, prefixes: Prefixes, rules: CacheRules) -> None:
    """Write the tree and the paths into the arrays of a run."""
    for name in ("parent", "blocks", "before"):
        state.spans[name] = getattr(prefixes, name)
    state.spans["entry"] = NOBODY
    for name in ("prompt_span", "context_span", "prompt_blocks"):
        state.paths[name] = getattr(prefixes, name)
    state.paths["first_use"] = 0
    node = leaves_of(len(state.gpus))
    below = np.arange(node, node + len(state.gpus)) if len(state.routes) else np.zeros(0, np.int64)
    while len(below) and below[0] > 0:  # no GPU has a load yet
        for name in ("least", "most", "least_kv"):
            state.routes[name][below] = 0
        below = np.unique(below >> 1)
    if rules.prefix_cache == "belady":
        lengths = _lengths(prefixes)
        state.paths["first_use"] = np.cumsum(lengths) - lengths
        state.next_uses[:] = _next_uses(prefixes)


def _depths(prefixes: Prefixes) -> npt.NDArray[np.int64]:
    """Return how many spans each path of the tree has, that to each span."""
    depth = np.ones(len(prefixes.parent), np.int64)
    up = prefixes.parent.astype(np.int64)
    while np.any(up != ROOT):  # twice as far up each time
        below = up != ROOT
        depth[below] += depth[up[below]]
        up[below] = up[up[below]]
    return depth


def _lengths(prefixes: Prefixes) -> npt.NDArray[np.int64]:
    """Return how many spans the path of each request has, its answer included."""
    ends = prefixes.context_span
    return np.where(ends == ROOT, 0, _depths(prefixes)[np.maximum(ends, 0)] if len(prefixes.parent) else 0)


def _next_uses(prefixes: Prefixes) -> npt.NDArray[np.int32]:
    """Return for each span of each path, from its end to the root, which prompt passes through it next."""
    following = np.full(len(prefixes.parent), NEVER, np.int32)
    parts: list[list[int]] = []
    for place in range(len(prefixes.prompt_span) - 1, -1, -1):
        parts.append([int(following[span]) for span in prefixes.path(prefixes.context_span[place])[::-1]])
        following[prefixes.path(prefixes.prompt_span[place])] = place
    parts.reverse()
    return np.array([use for part in parts for use in part], np.int32)
