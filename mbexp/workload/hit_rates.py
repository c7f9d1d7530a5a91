"""What a prefix cache would find if requests came one by one in the order of a trace: no run, no overlap."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mbexp.errors import UserError, unknown_choice
from mbexp.workload.prefixes import Prefixes

POLICIES = ("lru", "lfu", "belady")


@dataclass(frozen=True)
class TraceHits:
    """Blocks looked for in the order of a trace, and those found.

    Attributes
    ----------
    blocks, hit_blocks : int
    requests, hit_requests : int
        All requests, and those of which at least one block was found.
    distinct_blocks : int
    """

    blocks: int
    hit_blocks: int
    requests: int
    hit_requests: int
    distinct_blocks: int

    @property
    def hit_rate(self) -> float:
        """Share of the blocks that were found; NaN of none."""
        return self.hit_blocks / self.blocks if self.blocks else float("nan")


def trace_hits(prefixes: Prefixes, capacity_blocks: int | None = None, policy: str = "lru") -> TraceHits:
    """Return what a cache of so many blocks finds of the prompts, in the order of the trace.

    Each prompt is looked for, then kept, block by block in its order; answers are not. Blocks go one at a time.

    Parameters
    ----------
    prefixes
        As `mbexp.workload.prefixes` makes them of a trace.
    capacity_blocks
        Of the cache; None for one without end.
    policy
        ``lru``: the block used longest ago goes. ``lfu``: the one used least often since it was kept, and of these the
        one used longest ago. ``belady``: the one whose next use is farthest away, the one at hand included.

    Raises
    ------
    UserError
        If the capacity is below 1 or there is no such policy.
    """
    if capacity_blocks is not None and capacity_blocks < 1:
        raise UserError(f"capacity_blocks={capacity_blocks}: must be at least 1")
    if policy not in POLICIES:
        raise unknown_choice("policy", policy, POLICIES)
    prompts = list(block_ids(prefixes))
    distinct = len({block for prompt in prompts for block in prompt})
    find = {"lru": _lru, "lfu": _lfu, "belady": _belady}[policy]
    hits = find(prompts, distinct if capacity_blocks is None else capacity_blocks)
    return TraceHits(sum(map(len, prompts)), sum(hits), len(prompts), sum(hit > 0 for hit in hits), distinct)


def block_ids(prefixes: Prefixes) -> Iterator[list[int]]:
    """Give for each prompt the numbers of its blocks, from 0 on over all spans."""
    ends = prefixes.blocks.astype(int).cumsum()
    firsts = (ends - prefixes.blocks).tolist()
    lengths = prefixes.blocks.tolist()
    known: dict[int, list[int]] = {}
    for span in prefixes.prompt_span.tolist():
        if span not in known:
            known[span] = [
                block for each in prefixes.path(span) for block in range(firsts[each], firsts[each] + lengths[each])
            ]
        yield known[span]


def _lru(prompts: Sequence[Sequence[int]], capacity: int) -> list[int]:
    kept: OrderedDict[int, None] = OrderedDict()
    hits = []
    for prompt in prompts:
        hit = 0
        for block in prompt:
            if block in kept:
                hit += 1
                kept.move_to_end(block)
                continue
            kept[block] = None
            if len(kept) > capacity:
                kept.popitem(last=False)
        hits.append(hit)
    return hits


def _lfu(prompts: Sequence[Sequence[int]], capacity: int) -> list[int]:
    uses: dict[int, int] = {}
    queue: list[tuple[int, int, int]] = []  # uses, when, block; an entry that is out of date is passed over
    latest: dict[int, int] = {}
    hits, now = [], 0
    for prompt in prompts:
        hits.append(sum(block in uses for block in prompt))
        for block in reversed(prompt):
            now += 1
            uses[block] = uses.get(block, 0) + 1
            latest[block] = now
            heapq.heappush(queue, (uses[block], now, block))
        while len(uses) > capacity:
            _, when, block = heapq.heappop(queue)
            if latest.get(block) == when:
                del uses[block], latest[block]
    return hits


def _belady(prompts: Sequence[Sequence[int]], capacity: int) -> list[int]:
    never = len(prompts)
    following: dict[int, int] = {}
    uses_next: list[list[int]] = []
    for place in range(len(prompts) - 1, -1, -1):
        uses_next.append([following.get(block, never) for block in prompts[place]])
        following.update(dict.fromkeys(prompts[place], place))
    uses_next.reverse()
    kept: dict[int, int] = {}
    queue: list[tuple[int, int, int]] = []
    hits, now = [], 0
    for prompt, coming in zip(prompts, uses_next, strict=True):
        hits.append(sum(block in kept for block in prompt))
        for block, use in zip(reversed(prompt), reversed(coming), strict=True):
            now += 1
            kept[block] = use
            heapq.heappush(queue, (-use, now, block))
        while len(kept) > capacity:
            use, _, block = heapq.heappop(queue)
            if kept.get(block) == -use:
                del kept[block]
    return hits
