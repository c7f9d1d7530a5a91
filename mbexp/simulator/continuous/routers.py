"""Routers that know what GPUs have cached, or whose turn a request is (docs/semantics/assignment.md)."""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called, inlined
from mbexp.compiled.least_tree import NONE
from mbexp.compiled.variants import variant
from mbexp.simulator.continuous.blocks import evict, found_blocks
from mbexp.simulator.continuous.extended import (
    AFFINITY,
    DYNAMO,
    NO_ROUTER,
    PART,
    SGLANG,
    SPAN_CLASSES,
    class_least,
    class_least_kv,
    holder_at,
    holders_at,
    home_at,
    path_at,
    pool_at,
    route_at,
    routed_at,
    span_at,
)
from mbexp.simulator.continuous.layout import EMPTY, HELD, NOBODY, PREFILL, gpu_at
from mbexp.simulator.continuous.memory import fill_chunks, growth
from mbexp.simulator.continuous.route_tree import first_and_end, least_and_most, note_route
from mbexp.simulator.continuous.segment import look_ahead

CLASSED_GPUS = 64

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


@inlined
def _value(run, load, kv_tokens, found, blocks, low, high):
    """Return how well a GPU suits a request, more is better, from its load and the blocks of the prompt found on it.

    Less load, less KV and more blocks never suit worse, not by rounding either: of the best of several GPUs it makes a
    bound.
    """
    if run.router == DYNAMO:  # the cost, blocks to prefill and to decode less those found, with its sign turned
        return -float(load + 2 * blocks - found)
    if run.router == SGLANG:
        return float(found)
    queue = 1.0 if high == low else (high - load) / float(high - low)
    free = max(0.0, 1.0 - kv_tokens / float(run.memory_tokens))
    cached = found / float(blocks) if blocks > 0 else 0.0
    return QUEUE_WEIGHT * queue + KV_WEIGHT * free + PREFIX_WEIGHT * cached


@inlined
def _class_of(run, span):
    """Return the class of the first span of the path that ends with a span, NOBODY of an empty path.

    NOBODY, too, where a look at every GPU costs less than classes do, and where all GPUs share one cache.
    """
    if span == NOBODY or run.num_gpus < CLASSED_GPUS or run.num_pools == 1:
        return np.int64(NOBODY)
    while np.int64(span_at(run, span).parent) != NOBODY:
        span = np.int64(span_at(run, span).parent)
    return np.int64(span % SPAN_CLASSES)


@inlined
def _promised(run, node, bound, of_class, blocks, low, high):
    """Return how well the best GPU below a node can suit a request.

    Those that never had a request of its class, if there is one, keep no block of it. All others keep at most `bound`.
    """
    here = route_at(run, node)
    if of_class == NOBODY:
        return _value(run, here.least, here.least_kv, bound, blocks, low, high)
    promised = _value(run, here.least, here.least_kv, np.int64(0), blocks, low, high)
    least, least_kv = class_least(run, node, of_class).value, class_least_kv(run, node, of_class).value
    if least != NONE:
        promised = max(promised, _value(run, least, least_kv, bound, blocks, low, high))
    return promised


@called
def _better(run, gpu_index, span, blocks, low, high, now_s, chosen, most):
    """Look at a GPU; return the better of it and the one chosen, the lower of equals, and how well it suits."""
    routed_at(run, gpu_index).seen_by = run.joined
    leaf = route_at(run, run.num_leaves + gpu_index)
    value = _value(run, leaf.least, leaf.least_kv, _cached_now(run, gpu_index, span, now_s), blocks, low, high)
    if value > most or (value == most and gpu_index < chosen):
        return gpu_index, value
    return chosen, most


@called
def _best(run, span, blocks, first, end, low, high, now_s):
    """Return the GPU that suits a request best, the lowest of equals, and how well.

    Where few caches keep a span of the path, their GPUs are looked at, from the end of the path to the root. Of the
    others it is then known how many blocks they have at most, and the tree leads to those that could suit better.
    """
    chosen, most = np.int64(NOBODY), -np.inf
    bound, part = np.int64(0), span
    while part != NOBODY:
        if run.num_pools == 1 or np.int64(holders_at(run, part).count) ** 2 > run.num_gpus:
            bound = np.int64(span_at(run, part).before) + np.int64(span_at(run, part).blocks)
            break
        entry = np.int64(holders_at(run, part).first)
        while entry != NOBODY:
            gpu_index = entry // run.num_entries
            entry = np.int64(holder_at(run, entry).later)  # a look may evict
            if first <= gpu_index < end and routed_at(run, gpu_index).seen_by != run.joined:
                chosen, most = _better(run, gpu_index, span, blocks, low, high, now_s, chosen, most)
        part = np.int64(span_at(run, part).parent)
    of_class = _class_of(run, part)
    # First straight to the GPU that promises most, then from left to right to all that promise more than was found.
    node = np.int64(1) if end - first == run.num_gpus else np.int64(0)
    while 0 < node < run.num_leaves:
        node *= 2
        if _promised(run, node + 1, bound, of_class, blocks, low, high) > _promised(
            run, node, bound, of_class, blocks, low, high
        ):
            node += 1
    if node > 0 and routed_at(run, node - run.num_leaves).seen_by != run.joined:
        gpu_index = node - run.num_leaves
        chosen, most = _better(run, gpu_index, span, blocks, low, high, now_s, chosen, most)
    node = np.int64(1)
    while node > 0:
        promised = _promised(run, node, bound, of_class, blocks, low, high)
        goes_in = route_at(run, node).most != NOBODY and promised >= most
        if goes_in and (promised == most or end - first < run.num_gpus):
            lowest, behind = first_and_end(run, node)
            goes_in = lowest < end and behind > first and (promised > most or lowest < chosen)
        if goes_in and node < run.num_leaves:
            node *= 2
            continue
        gpu_index = node - run.num_leaves
        if goes_in and routed_at(run, gpu_index).seen_by != run.joined:
            chosen, most = _better(run, gpu_index, span, blocks, low, high, now_s, chosen, most)
        while node & 1:
            node >>= 1
        node += node > 0
    return chosen, most


@called
def _least_loaded(run, first, end, low):
    """Return the lowest GPU of a share whose load is the least, `low`."""
    node = np.int64(1)
    while True:
        inside = route_at(run, node).least <= low
        if inside and end - first < run.num_gpus:
            lowest, behind = first_and_end(run, node)
            inside = lowest < end and behind > first
        if inside and node >= run.num_leaves:
            return node - run.num_leaves
        if inside:
            node *= 2
            continue
        while node & 1:
            node >>= 1
        node += 1


@called
def _by_caches(run, path, first, end, now_s):
    """Return the GPU that one of the three routers that know caches gives a request to."""
    span, blocks = np.int64(path.prompt_span), np.int64(path.prompt_blocks)
    low, high = least_and_most(run, first, end)
    if run.router != SGLANG:
        return _best(run, span, blocks, first, end, low, high, now_s)[0]
    # The longest cached prefix, unless it is short, or loads differ too much.
    if high - low > BALANCE_REQUESTS and high > BALANCE_RATIO * low:
        return _least_loaded(run, first, end, low)
    chosen, found = _best(run, span, blocks, first, end, low, high, now_s)
    return chosen if found > 0 and found > MATCH_SHARE * blocks else _least_loaded(run, first, end, low)


@called
def _route(run, item, place, first, end, now_s):
    """Return the GPU that a router gives an arriving request to, NOBODY where a rule of assignment does."""
    if run.router == NO_ROUTER:
        return NOBODY
    if run.router == AFFINITY:
        return first + int(home_at(run, place).value * (end - first))
    path = path_at(run, place)
    chosen = _by_caches(run, path, first, end, now_s)
    of_class = _class_of(run, np.int64(path.context_span))
    if of_class != NOBODY:
        routed_at(run, chosen).classes |= 1 << of_class
    if run.router == DYNAMO:
        routed_at(run, chosen).to_compute += np.int64(path.prompt_blocks)
        note_route(run, chosen)
    return chosen


@inlined
def _no_route(run, item, place, first, end, now_s):
    """Return that a rule of assignment decides."""
    return NOBODY


routed = variant(PART, _route, _no_route)
