"""Prefix caching in the continuous event loop (docs/semantics/prefixes.md): what requests skip, use in place, leave.

Every function of this module is a variant: a run without a cache has the plain part alone.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called, inlined
from mbexp.compiled.variants import variant
from mbexp.simulator.continuous.blocks import (
    allow_before,
    allow_eviction,
    evict,
    find,
    forbid_eviction,
    found_and_used,
    make,
    place_of,
)
from mbexp.simulator.continuous.extended import (
    DYNAMO,
    NO_CACHE,
    PART,
    cached_at,
    entry_at,
    path_at,
    pool_at,
    routed_at,
    span_at,
)
from mbexp.simulator.continuous.layout import NOBODY, request_at
from mbexp.simulator.continuous.memory import held_by, held_in_prefill
from mbexp.simulator.continuous.route_tree import note_route


@inlined
def _pool_of(run, gpu):
    """Return the cache that a GPU looks into: its own, or the one of all."""
    return gpu.index if run.num_pools > 1 else np.int64(0)


@inlined
def _path_end(run, item, request):
    """Return the span with which the path of all that a request has to compute ends."""
    path = path_at(run, place_of(run, request))
    return np.int64(path.context_span if item.emitted > 0 else path.prompt_span)


@called
def _look_up(run, gpu, item, request):
    """Return what is found of a request's context on a GPU: blocks, those of them in use, and tokens to skip.

    All of a context is never skipped: of a prompt that is found to its end the last block is computed again.
    """
    if run.prefix_cache == NO_CACHE:
        return 0, 0, 0
    pool = _pool_of(run, gpu)
    end = _path_end(run, item, request)
    length = np.int64(item.prompt) + np.int64(item.emitted)
    found, in_use = found_and_used(run, pool, end, np.int64(2**62))
    most = (length + run.prefix_tokens - 1) // run.prefix_tokens
    if found > most:
        found, in_use = found_and_used(run, pool, end, most)
    skipped = min(found, (length - 1) // run.prefix_tokens) * run.prefix_tokens
    if not run.in_memory:
        return 0, 0, skipped
    item.age_group = found  # in prefill it is asked for by `held_in_prefill`; the beginning of decoding sets it anew
    return found, in_use, skipped


@called
def _use_found(run, gpu, item, request, found, skipped):
    """Let an admitted request use the blocks that it found, and count what it skips."""
    if run.prefix_cache == NO_CACHE:
        return
    cached = cached_at(run, request)
    run.skipped_tokens += skipped
    if cached.skipped == NOBODY:
        path = path_at(run, place_of(run, request))
        cached.skipped = skipped
        blocks = found
        if not run.in_memory:
            blocks, _ = found_and_used(run, _pool_of(run, gpu), np.int64(path.prompt_span), np.int64(2**62))
        run.looked_blocks += path.prompt_blocks
        run.found_blocks += blocks
        run.found_requests += blocks > 0
    if not run.in_memory:
        return
    cached.used = found
    pool = _pool_of(run, gpu)
    span = _path_end(run, item, request)
    while span != NOBODY:
        part = span_at(run, span)
        if part.before < found:
            entry = find(run, pool, span)
            kept = entry_at(run, entry)
            if kept.users == 0:
                forbid_eviction(run, pool, entry)
                pool_at(run, pool).blocks -= kept.kept
                gpu.held += kept.kept
            kept.users += 1
            kept.uses += 1
        span = np.int64(part.parent)


@called
def _share_prompt(run, gpu, request):
    """Let others find the blocks of a prompt whose last tokens the iteration at hand computes.

    They are the request's own no longer, but used in place by it.
    """
    if not run.in_memory:
        return
    cached, path = cached_at(run, request), path_at(run, place_of(run, request))
    if cached.used >= path.prompt_blocks:
        return
    pool = _pool_of(run, gpu)
    span = np.int64(path.prompt_span)
    while span != NOBODY:
        part = span_at(run, span)
        blocks = np.int64(part.blocks)
        if part.before + blocks <= cached.used:
            break  # from here to the root all is used in place
        mine = np.int64(cached.used) - np.int64(part.before)  # used in place already
        mine = max(min(mine, blocks), np.int64(0))
        entry = find(run, pool, span)
        if entry == NOBODY:
            entry = make(run, pool, span)
        kept = entry_at(run, entry)
        counted = np.int64(kept.kept) if kept.users > 0 else np.int64(0)
        if mine == 0:
            if kept.users == 0 and kept.kept > 0:
                forbid_eviction(run, pool, entry)
                pool_at(run, pool).blocks -= kept.kept
            kept.users += 1
            kept.uses += 1
        gpu.held += mine - counted
        kept.kept = blocks
        span = np.int64(part.parent)
    cached.used = path.prompt_blocks


@called
def _leave_blocks(run, gpu, request, hold, tokens):
    """Free what a request holds; of the blocks that `tokens` of its context fill, those nobody uses can be evicted.

    The last block of the path is put among those evicted first, the first block last.
    """
    item = request_at(run, request)
    cached, place = cached_at(run, request), place_of(run, request)
    path, pool = path_at(run, place), _pool_of(run, gpu)
    store = pool_at(run, pool)
    full = tokens // run.prefix_tokens
    if tokens >= item.prompt:
        full = max(full, np.int64(path.prompt_blocks))
    used = np.int64(cached.used)
    gpu.held -= hold - used
    span, depth = np.int64(path.context_span), 0
    while span != NOBODY:
        part = span_at(run, span)
        before = np.int64(part.before)
        own = min(max(full - before, 0), np.int64(part.blocks))
        in_place = before < used
        entry = find(run, pool, span) if own > 0 or in_place else NOBODY
        was = np.int64(entry_at(run, entry).kept) if entry != NOBODY else 0
        # Blocks that others left stay where they are, unless this request has more of the span.
        if own > was or in_place:
            if entry == NOBODY:
                entry = make(run, pool, span)
            kept = entry_at(run, entry)
            if in_place:
                kept.users -= 1
            kept.kept = max(was, own)
            if kept.users > 0:
                gpu.held += np.int64(kept.kept) - was
            else:
                if in_place:
                    gpu.held -= was
                elif was > 0:
                    forbid_eviction(run, pool, entry)
                    store.blocks -= was
                store.blocks += kept.kept
                run.stamp += 1
                allow_eviction(run, pool, entry, place, depth, run.stamp)
        span = np.int64(part.parent)
        depth += 1
    cached.used = 0
    evict(run, pool, run.capacity - gpu.held)


@called
def _keep_path(run, gpu, request, whole):
    """Keep the blocks of a prompt, with its answer if `whole`, as those used last, in a cache beside the memory.

    Under LRU they come in the order of the prompt, else the last block first.
    """
    place = place_of(run, request)
    path, pool = path_at(run, place), _pool_of(run, gpu)
    store = pool_at(run, pool)
    span, depth, behind = np.int64(path.context_span), 0, 0
    if not whole:
        while span != path.prompt_span:
            span = np.int64(span_at(run, span).parent)
            behind += 1
    first = span
    while span != NOBODY:
        depth += 1
        span = np.int64(span_at(run, span).parent)
    length = depth
    span, depth, later = first, 0, np.int64(NOBODY)
    while span != NOBODY:
        part = span_at(run, span)
        entry = find(run, pool, span)
        if entry == NOBODY:
            entry = make(run, pool, span)
        else:
            forbid_eviction(run, pool, entry)
        kept = entry_at(run, entry)
        store.blocks += np.int64(part.blocks) - np.int64(kept.kept)
        kept.kept = part.blocks
        kept.uses += 1
        if run.from_the_front:
            allow_before(run, pool, entry, later)
            later = entry
        else:
            allow_eviction(run, pool, entry, place, behind + depth, run.stamp + depth + 1)
        span = np.int64(part.parent)
        depth += 1
    run.stamp += length
    evict(run, pool, run.pool_blocks)


# What the loop calls, in a run with a cache and in one without.


@inlined
def _nothing_found(run, gpu, item, request):
    """Return that nothing is found."""
    return 0, 0, 0


@inlined
def _nothing_used(run, gpu, item, request, found, skipped):
    """Do nothing: there is no cache."""


@called
def _planned(run, gpu, request):
    """Let others find the prompt of a request whose prefill the iteration at hand ends."""
    if run.prefix_cache != NO_CACHE:
        _share_prompt(run, gpu, request)


@inlined
def _not_shared(run, gpu, request):
    """Do nothing: there is no cache."""


@called
def _planned_to_end(run, gpu, left):
    """Let others find the prompts in prefill: the iteration at hand ends all of them if tokens are left."""
    if run.prefix_cache != NO_CACHE and left > 0 and gpu.first_prefill != NOBODY:
        request = gpu.first_prefill
        while request != NOBODY:
            item = request_at(run, request)
            _share_prompt(run, gpu, request)
            request = np.int64(item.next)


@inlined
def _none_planned(run, gpu, left):
    """Do nothing: there is no cache."""


@called
def _computed(run, gpu, request):
    """Keep the prompt of a request whose prefill has ended."""
    if run.router == DYNAMO and request_at(run, request).emitted == 0:
        blocks = np.int64(path_at(run, place_of(run, request)).prompt_blocks)
        routed_at(run, gpu.index).to_compute -= blocks
        routed_at(run, gpu.index).computed += blocks  # in sum the same load
    if run.in_memory:
        _share_prompt(run, gpu, request)
    elif run.prefix_cache != NO_CACHE:
        _keep_path(run, gpu, request, False)


@called
def _free(run, gpu, request, item, emitted):
    """Free the memory of a request that has emitted so many tokens, the last of which is not computed yet."""
    hold = held_by(run, item, emitted)
    if run.in_memory:
        _leave_blocks(run, gpu, request, hold, np.int64(item.prompt) + emitted - 1)
    else:
        gpu.held -= hold


@inlined
def _free_plainly(run, gpu, request, item, emitted):
    """Free the memory of a request."""
    gpu.held -= held_by(run, item, emitted)


@called
def _free_prefill(run, gpu, request, item):
    """Free the memory of a request in prefill."""
    hold = held_in_prefill(run, item, item.computed)
    if run.in_memory:
        _leave_blocks(run, gpu, request, hold, np.int64(item.computed))
    else:
        gpu.held -= hold


@inlined
def _free_prefill_plainly(run, gpu, request, item):
    """Free the memory of a request in prefill."""
    gpu.held -= held_in_prefill(run, item, item.computed)


@called
def _keep_answer(run, gpu, request):
    """Keep the whole context of a request that is answered."""
    if run.router == DYNAMO:
        routed_at(run, gpu.index).computed -= np.int64(path_at(run, place_of(run, request)).prompt_blocks)
        note_route(run, gpu.index)
    if run.prefix_cache != NO_CACHE and not run.in_memory and run.answers_known:
        _keep_path(run, gpu, request, True)


@called
def _make_way(run, gpu):
    """Evict what the memory of a GPU has no room for beside what requests hold."""
    if run.in_memory:
        evict(run, _pool_of(run, gpu), run.capacity - gpu.held)


@inlined
def _no_way(run, gpu):
    """Do nothing: there is no cache."""


look_up = variant(PART, _look_up, _nothing_found)
use_found = variant(PART, _use_found, _nothing_used)
share_prompt = variant(PART, _planned, _not_shared)
share_prompts_that_end = variant(PART, _planned_to_end, _none_planned)
prompt_computed = variant(PART, _computed, _not_shared)
free = variant(PART, _free, _free_plainly)
free_prefill = variant(PART, _free_prefill, _free_prefill_plainly)
keep_answer = variant(PART, _keep_answer, _not_shared)
make_way = variant(PART, _make_way, _no_way)
