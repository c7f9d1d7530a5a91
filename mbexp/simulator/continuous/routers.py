"""Routers that know what GPUs have cached, or whose turn a request is (docs/semantics/assignment.md)."""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called, inlined
from mbexp.compiled.variants import variant
from mbexp.simulator.continuous.blocks import evict, found_blocks
from mbexp.simulator.continuous.extended import (
    AFFINITY,
    DYNAMO,
    LLM_D,
    NO_ROUTER,
    PART,
    SGLANG,
    home_at,
    path_at,
    pool_at,
    routed_at,
)
from mbexp.simulator.continuous.layout import (
    EMPTY,
    GIVEN_KV,
    GIVEN_REQUESTS,
    HELD,
    NOBODY,
    PREFILL,
    given_at,
    gpu_at,
    queue_set_at,
)
from mbexp.simulator.continuous.memory import fill_chunks, growth
from mbexp.simulator.continuous.segment import look_ahead

# The constants of the routers, as they ship.
BALANCE_REQUESTS, BALANCE_RATIO, MATCH_SHARE = 64, 1.5, 0.3  # SGLang's command line
QUEUE_WEIGHT, KV_WEIGHT, PREFIX_WEIGHT = 2.0, 2.0, 3.0  # llm-d's chart


@called
def _cached_now(run, gpu_index, span, now_s):
    """Return how many blocks of a prompt a GPU has kept at an instant."""
    pool = gpu_index if run.num_pools > 1 else np.int64(0)
    found = found_blocks(run, pool, span)
    gpu = gpu_at(run, gpu_index)
    if found == 0 or not run.in_memory or gpu.kind == EMPTY or gpu.kind == PREFILL or gpu.at_boundary:
        return found
    # Iterations of its segment that have ended may have taken blocks.
    look_ahead(gpu, now_s, True)
    passed = int(gpu.boundary) - 1 - gpu.done
    if passed <= 0:
        return found
    more = growth(run, gpu, passed) if gpu.decoding > 0 else 0
    if run.prefill_memory != HELD:
        more += fill_chunks(run, gpu, gpu.chunk_tokens * passed)[1]
    if pool_at(run, pool).blocks <= run.capacity - gpu.held - more:
        return found
    evict(run, pool, run.capacity - gpu.held - more)
    return found_blocks(run, pool, span)


@called
def _least_given(run, first, end):
    """Return the GPU of a share with fewest unfinished requests, the lowest of equals."""
    chosen = first
    for gpu_index in range(first + 1, end):
        if given_at(run, GIVEN_REQUESTS, gpu_index).value < given_at(run, GIVEN_REQUESTS, chosen).value:
            chosen = gpu_index
    return chosen


@inlined
def _by_cost(run, span, blocks, first, end, now_s):
    """Return the GPU with the least blocks to prefill and to decode, less those cached: Dynamo's cost."""
    chosen, least = first, np.int64(2**62)
    for gpu_index in range(first, end):
        load = routed_at(run, gpu_index)
        cost = max(load.to_compute + blocks - _cached_now(run, gpu_index, span, now_s), 0) + load.computed + blocks
        if cost < least:
            chosen, least = gpu_index, cost
    return chosen


@inlined
def _by_thresholds(run, span, blocks, first, end, now_s):
    """Return the GPU with the longest cached prefix unless it is short, or loads differ too much: SGLang's rule."""
    least = _least_given(run, first, end)
    low = given_at(run, GIVEN_REQUESTS, least).value
    high = low
    for gpu_index in range(first, end):
        high = max(high, given_at(run, GIVEN_REQUESTS, gpu_index).value)
    if high - low > BALANCE_REQUESTS and high > BALANCE_RATIO * low:
        return least
    chosen, most = least, 0
    for gpu_index in range(first, end):
        found = _cached_now(run, gpu_index, span, now_s)
        if found > most:
            chosen, most = gpu_index, found
    return chosen if most > MATCH_SHARE * blocks else least


@inlined
def _by_scores(run, span, blocks, first, end, now_s):
    """Return the GPU with the highest weighted sum of its queue, its free KV memory and its cached share: llm-d's."""
    low = high = queue_set_at(run, first).waiting
    for gpu_index in range(first, end):
        low = min(low, queue_set_at(run, gpu_index).waiting)
        high = max(high, queue_set_at(run, gpu_index).waiting)
    chosen, most = first, -1.0
    for gpu_index in range(first, end):
        queue = 1.0 if high == low else (high - queue_set_at(run, gpu_index).waiting) / float(high - low)
        free = max(0.0, 1.0 - given_at(run, GIVEN_KV, gpu_index).value / float(run.memory_tokens))
        cached = _cached_now(run, gpu_index, span, now_s) / float(blocks) if blocks > 0 else 0.0
        score = QUEUE_WEIGHT * queue + KV_WEIGHT * free + PREFIX_WEIGHT * cached
        if score > most:
            chosen, most = gpu_index, score
    return chosen


@called
def _route(run, item, place, first, end, now_s):
    """Return the GPU that a router gives an arriving request to, NOBODY where a rule of assignment does."""
    if run.router == NO_ROUTER:
        return NOBODY
    if run.router == AFFINITY:
        return first + int(home_at(run, place).value * (end - first))
    path = path_at(run, place)
    span, blocks = np.int64(path.prompt_span), np.int64(path.prompt_blocks)
    chosen = NOBODY
    if run.router == DYNAMO:
        chosen = _by_cost(run, span, blocks, first, end, now_s)
        routed_at(run, chosen).to_compute += blocks
    elif run.router == SGLANG:
        chosen = _by_thresholds(run, span, blocks, first, end, now_s)
    elif run.router == LLM_D:
        chosen = _by_scores(run, span, blocks, first, end, now_s)
    return chosen


@inlined
def _no_route(run, item, place, first, end, now_s):
    """Return that a rule of assignment decides."""
    return NOBODY


routed = variant(PART, _route, _no_route)
