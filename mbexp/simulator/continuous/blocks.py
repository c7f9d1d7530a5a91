"""The blocks that a prefix cache keeps, a span at a time: finding, keeping, evicting (docs/semantics/prefixes.md).

A cache has an entry for every span of which it keeps a block. An entry whose blocks no request uses can be evicted.
Under lru such entries form a list, and nothing is compared; under the other rules a heap.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called, inlined
from mbexp.compiled.heap import heap
from mbexp.simulator.continuous.extended import (
    BELADY,
    LFU,
    LRU,
    STAMP_BITS,
    bucket_at,
    entry_at,
    evictable_at,
    holder_at,
    holders_at,
    next_use_at,
    path_at,
    pool_at,
    span_at,
    who_of,
)
from mbexp.simulator.continuous.layout import NOBODY

_MASK = (1 << STAMP_BITS) - 1
_NEVER = 2.0**40  # later than any request


@inlined
def _note_place(run, stamp, place):
    """Note where the entry of a stamp stands in its heap."""
    entry_at(run, stamp & _MASK).place = place


_up, _down = heap(evictable_at, "key", "stamp", _note_place)


@inlined
def place_of(run, request):
    """Return the place in the trace of a request."""
    return np.int64(who_of(run, request).value) if run.num_turns > 0 else np.int64(request)


@inlined
def _bucket(run, pool, span):
    """Return the bucket in which the entry of a span is found."""
    return bucket_at(run, pool, ((span * 0x9E3779B1) >> 8) & (run.cache_buckets - 1))


@called
def find(run, pool, span):
    """Return the entry of a span, NOBODY where nothing of it is kept.

    A span knows where it was last, most often in the cache that is asked; a span that is new is nowhere.
    """
    part = span_at(run, span)
    entry = np.int64(part.entry)
    if entry == NOBODY:
        return entry
    among = entry - pool * run.num_entries
    if 0 <= among < run.num_entries and entry_at(run, entry).span == span:
        return entry
    entry = np.int64(_bucket(run, pool, span).value)
    while entry != NOBODY and entry_at(run, entry).span != span:
        entry = np.int64(entry_at(run, entry).next)
    if entry != NOBODY:
        part.entry = entry
    return entry


@called
def make(run, pool, span):
    """Return a new entry for a span of which nothing is kept."""
    store = pool_at(run, pool)
    if store.free > 0:
        entry = np.int64(store.free) - 1
        store.free = entry_at(run, entry).next
    else:
        entry = pool * run.num_entries + np.int64(store.entries)
        store.entries += 1
    item, bucket = entry_at(run, entry), _bucket(run, pool, span)
    item.span = span
    item.next = bucket.value
    item.kept, item.users, item.uses, item.place = 0, 0, 0, NOBODY
    bucket.value = entry
    span_at(run, span).entry = entry
    if run.num_holders > 0:
        holders, holder = holders_at(run, span), holder_at(run, entry)
        holder.earlier, holder.later = NOBODY, holders.first
        if holders.first != NOBODY:
            holder_at(run, np.int64(holders.first)).earlier = entry
        holders.first = entry
        holders.count += 1
    return entry


@called
def drop(run, pool, entry):
    """Give up the entry of a span of which nothing is kept any more."""
    item = entry_at(run, entry)
    bucket = _bucket(run, pool, np.int64(item.span))
    if bucket.value == entry:
        bucket.value = item.next
    else:
        before = entry_at(run, np.int64(bucket.value))
        while before.next != entry:
            before = entry_at(run, np.int64(before.next))
        before.next = item.next
    if run.num_holders > 0:
        holders, holder = holders_at(run, np.int64(item.span)), holder_at(run, entry)
        if holder.earlier == NOBODY:
            holders.first = holder.later
        else:
            holder_at(run, np.int64(holder.earlier)).later = holder.later
        if holder.later != NOBODY:
            holder_at(run, np.int64(holder.later)).earlier = holder.earlier
        holders.count -= 1
    store = pool_at(run, pool)
    item.span = NOBODY
    item.next = store.free
    store.free = entry + 1


@called
def found_and_used(run, pool, span, most):
    """Return how many blocks from the root on are kept of the path that ends with a span, and of them are in use.

    At most the first `most` blocks of the path are looked at.
    """
    found, in_use = np.int64(0), np.int64(0)
    while span != NOBODY:
        part = span_at(run, span)
        blocks = min(np.int64(part.blocks), max(most - np.int64(part.before), 0))
        entry = find(run, pool, span) if blocks > 0 else NOBODY
        kept, users = np.int64(0), 0
        if entry != NOBODY:
            kept, users = np.int64(entry_at(run, entry).kept), entry_at(run, entry).users
        if run.from_the_front and kept < np.int64(part.blocks):
            kept = np.int64(0)  # in the order of prompts the first blocks of a span are gone, else the last
        kept = min(kept, blocks)
        used = kept if users > 0 else np.int64(0)
        if kept == blocks:
            found, in_use = found + kept, in_use + used
        else:
            found, in_use = kept, used
        span = np.int64(part.parent)
    return found, in_use


@called
def found_blocks(run, pool, span):
    """Return how many blocks from the root on are kept of the path that ends with a span."""
    return found_and_used(run, pool, span, np.int64(2**62))[0]


@inlined
def _let_follow(run, store, earlier, later, behind, before):
    """Let `behind` follow an entry of the list under lru, and `before` precede the one after it; NOBODY: its ends."""
    if earlier == NOBODY:
        store.oldest = behind
    else:
        entry_at(run, earlier).later = behind
    if later == NOBODY:
        store.newest = before
    else:
        entry_at(run, later).place = before


@inlined
def allow_before(run, pool, entry, later):
    """Put the entry of a span that no request uses among those evicted under lru, before another; NOBODY: as the last.

    The other is one of those put there last.
    """
    item, store = entry_at(run, entry), pool_at(run, pool)
    earlier = np.int64(store.newest if later == NOBODY else entry_at(run, max(later, 0)).place)
    item.place, item.later = earlier, later
    _let_follow(run, store, earlier, later, entry, entry)
    store.evictable += 1


@inlined
def _forbid_listed(run, store, item):
    """Take an entry off the list of those that are evicted under lru."""
    earlier, later = np.int64(item.place), np.int64(item.later)
    _let_follow(run, store, earlier, later, later, earlier)
    store.evictable -= 1


@called
def allow_eviction(run, pool, entry, place, depth, order):
    """Put the entry of a span that no request uses among those evicted, as the `order`-th of those put there.

    `place` and `depth` say whose path it is on, and how many spans lie behind it on that path. Orders only rise.
    """
    if run.prefix_cache == LRU:
        allow_before(run, pool, entry, np.int64(NOBODY))
        return
    item, store = entry_at(run, entry), pool_at(run, pool)
    key = 0.0
    if run.prefix_cache == LFU:
        key = float(item.uses)
    elif run.prefix_cache == BELADY:
        following = next_use_at(run, np.int64(path_at(run, place).first_use) + depth).value
        key = -_NEVER if following < 0 else -float(following)
    _up(run, pool, store.evictable, key, (order << STAMP_BITS) | entry)
    store.evictable += 1


@called
def forbid_eviction(run, pool, entry):
    """Take an entry off those that are evicted."""
    store = pool_at(run, pool)
    if run.prefix_cache == LRU:
        _forbid_listed(run, store, entry_at(run, entry))
        return
    place = np.int64(entry_at(run, entry).place)
    entry_at(run, entry).place = NOBODY
    store.evictable -= 1
    count = store.evictable
    if place == count:
        return
    last = evictable_at(run, pool, count)
    key, stamp = last.key, last.stamp
    if place > 0:
        above = evictable_at(run, pool, (place - 1) >> 1)
        if key < above.key or (key == above.key and stamp < above.stamp):
            _up(run, pool, place, key, stamp)
            return
    _down(run, pool, place, count, key, stamp)


@called
def evict(run, pool, most):
    """Evict blocks until a cache keeps at most so many of those that no request uses."""
    store = pool_at(run, pool)
    while store.blocks > most and store.evictable > 0:
        entry = np.int64(store.oldest)
        if run.prefix_cache != LRU:
            entry = evictable_at(run, pool, 0).stamp & _MASK
        item = entry_at(run, entry)
        gone = min(np.int64(item.kept), store.blocks - most)
        item.kept -= gone
        store.blocks -= gone
        run.evicted_blocks += gone
        if item.kept == 0:
            forbid_eviction(run, pool, entry)
            drop(run, pool, entry)
