"""A prefix cache block by block, with a dictionary and a list, from docs/semantics/prefixes.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Span = tuple[int, list[int]]  # its number, and its blocks


@dataclass
class CacheSetup:
    """Names as in the page; a path is a list of spans."""

    policy: str  # lru, lfu or belady
    tokens: int  # of a block
    prompts: Sequence[list[Span]]  # paths, by place
    contexts: Sequence[list[Span]]
    size: int | None = None  # of a cache beside the memory
    shared: bool = False  # by all GPUs
    answers_known: bool = True


def blocks_of(path: list[Span]) -> list[int]:
    return [block for _, blocks in path for block in blocks]


@dataclass
class Cache:
    setup: CacheSetup
    users: dict[int, int] = field(default_factory=dict)  # of each block that is kept
    unused: list[int] = field(default_factory=list)  # blocks that may be evicted, in the order in which they were put
    uses: dict[int, int] = field(default_factory=dict)  # of each span of which a block is kept
    key: dict[int, float] = field(default_factory=dict)  # of each unused block: the smallest goes first
    evicted: int = 0

    def find(self, path: list[Span]) -> int:
        found = 0
        for block in blocks_of(path):
            if block not in self.users:
                break
            found += 1
        return found

    def count_use(self, span: Span) -> None:
        number, blocks = span
        if not any(block in self.users for block in blocks):
            self.uses[number] = 0
        self.uses[number] += 1

    def put(self, span: Span, blocks: list[int], place: int) -> None:
        """Let blocks of a span be evicted, in this order."""
        for block in blocks:
            if block in self.unused:
                self.unused.remove(block)
            self.unused.append(block)
            if self.setup.policy == "lru":
                self.key[block] = 0.0
            elif self.setup.policy == "lfu":
                self.key[block] = self.uses[span[0]]
            else:
                later = (
                    other
                    for other in range(place + 1, len(self.setup.prompts))
                    if any(each[0] == span[0] for each in self.setup.prompts[other])
                )
                self.key[block] = -float(next(later, 10**9))

    def evict(self, most: int) -> None:
        while len(self.unused) > max(most, 0):
            first = min(self.unused, key=lambda block: (self.key[block], self.unused.index(block)))
            self.unused.remove(first)
            del self.users[first]
            self.evicted += 1

    # In the memory of a GPU.

    def use(self, path: list[Span], found: int) -> list[int]:
        """Let a request use the first blocks of its path in place."""
        used: list[int] = []
        for span in path:
            mine = span[1][: max(found - len(used), 0)]
            if not mine:
                break
            self.count_use(span)
            self.take(mine)
            used += mine
        return used

    def take(self, blocks: list[int]) -> None:
        for block in blocks:
            self.users[block] = self.users.get(block, 0) + 1
            if block in self.unused:
                self.unused.remove(block)

    def share(self, path: list[Span], used: list[int]) -> list[int]:
        """Let others find the whole of a prompt, of which some is used in place already."""
        at = 0
        for span in path:
            more = span[1][max(len(used) - at, 0) :]
            if len(more) == len(span[1]):
                self.count_use(span)
            self.take(more)
            at += len(span[1])
        return blocks_of(path)

    def leave(self, path: list[Span], used: list[int], full: int, place: int) -> None:
        at = len(blocks_of(path))
        for span in reversed(path):
            at -= len(span[1])
            own = span[1][: max(full - at, 0)]
            mine = span[1][: max(len(used) - at, 0)]
            kept = [block for block in span[1] if block in self.users]
            for block in mine:
                self.users[block] -= 1
            if not mine and len(own) <= len(kept):
                continue
            if not kept:
                self.uses.setdefault(span[0], 0)
                self.uses[span[0]] = 0
            for block in own:
                self.users.setdefault(block, 0)
            kept = [block for block in span[1] if block in self.users]
            if not any(self.users[block] for block in kept):
                self.put(span, kept[::-1], place)
            else:  # others use the span: its new blocks are in use with the rest
                for block in kept:
                    self.users[block] = max(self.users[block] for block in kept)

    # Beside the memory.

    def keep(self, path: list[Span], place: int) -> None:
        assert self.setup.size is not None
        for span in path if self.setup.policy == "lru" else reversed(path):
            self.count_use(span)
            for block in span[1]:
                self.users[block] = 0
            self.put(span, span[1] if self.setup.policy == "lru" else span[1][::-1], place)
        self.evict(self.setup.size)
