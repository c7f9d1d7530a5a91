"""What the continuous event loop works on where conversations have turns, or prefixes are cached.

It is the table of every run, and more. A run without them has the plain table, and nothing is compiled for it that
reaches further.
"""

from __future__ import annotations

from numba import from_dtype, types

from mbexp.compiled.least_tree import NONE
from mbexp.compiled.records import Record
from mbexp.simulator.continuous.layout import LAYOUT, NOBODY, b1, f8, i4, i8, u2

PART = "num_turns"  # the field by which functions tell that a run has this table
NO_TURN, FROM_ROOTS = 0, 1

# A request as the trace has it; it gets its number, and a record of its own, when it comes.
TURN = Record(
    ("think_s", f8),  # from the answer that causes it to its arrival
    ("prompt", i4),
    ("output", i4),
    ("predicted", i4),
    ("bin", u2),
)
DUE = Record(("time_s", f8), ("request", i8))  # a request by its place in the trace

# Which block of those that no request uses goes first: that used longest ago, least often, or last again.
NO_CACHE, LRU, LFU, BELADY = 0, 1, 2, 3

# Who gives an arrival to a GPU: a rule of assignment, or a router that knows caches or conversations.
NO_ROUTER, DYNAMO, SGLANG, LLM_D, AFFINITY = 0, 1, 2, 3, 4

# Blocks that the same requests pass through (`mbexp.workload.prefixes`).
SPAN = Record(
    ("parent", i4),
    ("blocks", i4),
    ("before", i4),
    ("entry", i4),  # where some cache had it last, NOBODY where none ever did
)
# The path of a request, by its place in the trace.
PATH = Record(
    ("prompt_span", i4),
    ("context_span", i4),
    ("prompt_blocks", i4),
    ("first_use", i4),  # where its next uses begin
)
# What a request has of a cache, by its number.
CACHED = Record(("used", i4), ("skipped", i4, NOBODY))  # blocks used in place; tokens skipped at first admission
# A cache: of a GPU's memory, or beside it.
POOL = Record(
    ("blocks", i8),  # kept: unused ones where they lie in a GPU's memory, else all
    ("evictable", i8),  # entries that no request uses
    ("free", i4),  # the first entry that is not in use
    ("entries", i4),  # that were ever in use
    ("oldest", i4, NOBODY),  # under lru: of those evictable, the next to go and the last
    ("newest", i4, NOBODY),
    whole_lines=True,
)
# A span of which a cache has blocks.
ENTRY = Record(
    ("span", i4),  # NOBODY where it is free
    ("next", i4),  # in its bucket, or among those free
    ("kept", i4),  # blocks: the first of the span, or in the order of prompts its last
    ("users", i4),  # requests that use them in place
    ("uses", i4),  # since it was made
    ("place", i4),  # in the heap; under lru the entry that goes before it
    ("later", i4),  # under lru the entry that goes after it
)
# Blocks of the prompts of a GPU's unfinished requests: whose prefill has not ended yet, and has.
ROUTED = Record(
    ("to_compute", i8),
    ("computed", i8),
    ("seen_by", i8, NOBODY),  # the request whose router looked at the GPU last
    ("classes", i8),  # a bit for each class of first spans that its requests had
)
# The caches that keep blocks of a span: how many, and their entries, the first one and from each to the next.
HOLDERS = Record(("count", i4), ("first", i4, NOBODY))
HOLDER = Record(("earlier", i4), ("later", i4))
# Of the GPUs below a node of a tree, what a router asks of them: the least and the most load, the least KV need.
ROUTE = Record(("least", i8, NONE), ("most", i8, NOBODY), ("least_kv", i8, NONE))
# Lengths of the outputs that a GPU finished last: how many, and where the next goes.
HISTORY = Record(("count", i8), ("next", i8))
EVICTABLE = Record(("key", f8), ("stamp", i8))  # the stamp: an order number, then the entry
STAMP_BITS = 32
# First spans of prompts, such as system prompts, fall into so many classes. Only GPUs that were given a request of a
# class can keep the beginning of such a prompt. Of those the tree knows the least of each number, too.
SPAN_CLASSES = 8

EXTENDED = LAYOUT.extended(
    ("num_turns", i8),  # as many as requests, 0 where no answer makes a certain request come
    ("num_roots", i8),  # of them, those that no answer causes
    ("next_root", i8),
    ("due_count", i8),  # requests that answers made come and that have not come
    ("from_roots", i8),  # whether the next to come is a root
    ("router", i8),
    ("num_homes", i8),
    ("estimate", i8),  # what a request is expected to emit (`mbexp.simulator.continuous.estimates`)
    ("estimate_seed", i8),
    ("num_histories", i8),  # as many as GPUs where estimates are drawn from what was finished, else 0
    ("history_size", i8),
    ("least_goes", b1),  # where memory is full, the smallest estimate gives way
    ("restarts", b1),  # a request that is stopped loses its tokens, too
    ("lost_gaps", i8),  # between them
    ("prefix_cache", i8),
    ("in_memory", b1),  # blocks lie in the memory of a GPU, and requests use them in place
    ("from_the_front", b1),  # blocks of a span are evicted in the order of prompts
    ("answers_known", b1),  # a later prompt can hold an answer
    ("num_paths", i8),  # as many as requests, or 0
    ("num_spans", i8),
    ("num_uses", i8),
    ("num_pools", i8),
    ("num_entries", i8),  # of each
    ("num_all_entries", i8),
    ("cache_buckets", i8),  # of each, a power of two
    ("num_held_spans", i8),  # as many as spans where a router looks at caches, else 0
    ("num_holders", i8),  # then as many as entries
    ("num_route_nodes", i8),
    ("pool_blocks", i8),
    ("prefix_tokens", i8),  # of a block
    ("stamp", i8),
    ("looked_blocks", i8),
    ("found_blocks", i8),
    ("found_requests", i8),
    ("skipped_tokens", i8),
    ("evicted_blocks", i8),
)
span_at = EXTENDED.array("spans", SPAN, "num_spans", initial=None)
path_at = EXTENDED.array("paths", PATH, "num_paths", initial=None)
next_use_at = EXTENDED.array("next_uses", i4, "num_uses", initial=None)  # from a path's end to the root
cached_at = EXTENDED.array("cached", CACHED, "num_paths")
routed_at = EXTENDED.array("routed", ROUTED, "num_gpus")
holders_at = EXTENDED.array("span_holders", HOLDERS, "num_held_spans")
holder_at = EXTENDED.array("holders", HOLDER, "num_holders", initial=None)
route_at = EXTENDED.array("routes", ROUTE, "num_route_nodes")  # node 1 is the root, and GPUs are the leaves
class_least = EXTENDED.array("class_least", i8, "num_route_nodes", SPAN_CLASSES, initial=NONE)
class_least_kv = EXTENDED.array("class_least_kv", i8, "num_route_nodes", SPAN_CLASSES, initial=NONE)
home_at = EXTENDED.array("homes", f8, "num_homes", initial=None)  # of a conversation, as a part of the GPUs
history_at = EXTENDED.array("histories", HISTORY, "num_histories")
length_at = EXTENDED.array("lengths", i4, "num_histories", "history_size")  # in the order in which they are forgotten
length_by_size = EXTENDED.array("lengths_by_size", i4, "num_histories", "history_size")
pool_at = EXTENDED.array("pools", POOL, "num_pools")
entry_at = EXTENDED.array("entries", ENTRY, "num_all_entries")
bucket_at = EXTENDED.array("cache_heads", i4, "num_pools", "cache_buckets", initial=NOBODY)
evictable_at = EXTENDED.array("evictables", EVICTABLE, "num_pools", "num_entries")  # a heap by key, then stamp
turn_at = EXTENDED.array("turns", TURN, "num_turns")
due_at = EXTENDED.array("due", DUE, "num_turns")  # a heap by time, then place
root_at = EXTENDED.array("roots", i4, "num_roots")  # by arrival, then place
root_s = EXTENDED.array("root_s", f8, "num_roots")
child_of = EXTENDED.array("children", i4, "num_turns")  # the first request that an answer causes
sibling_of = EXTENDED.array("siblings", i4, "num_turns")  # the next one of the same cause
who_of = EXTENDED.array("who", i4, "num_turns")  # the place of each request, in the order in which they came

EXTENDED_RUN_TYPE = types.Array(from_dtype(EXTENDED.head().dtype), 1, "C")
