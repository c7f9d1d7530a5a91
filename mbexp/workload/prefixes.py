"""Which blocks of the KV cache prompts share: a tree, of which every request is a path from the root.

A **span** is a series of blocks that the same requests pass through; it hangs below the span before it. No matter how
many blocks a prompt has, its path has a span for each part that it shares with other requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.workload.turns import Contents

IntArray = npt.NDArray[np.int32]

ROOT = -1


@dataclass(frozen=True)
class HashBlocks:
    """The blocks of each prompt as a trace names them, n prompts.

    Attributes
    ----------
    first : int64 array, shape (n,)
        Where the ids of a prompt begin in `ids`.
    count : int32 array, shape (n,)
    ids : int64 array
        Equal ids are equal blocks at equal places behind equal blocks.
    block_tokens : int
    """

    first: npt.NDArray[np.int64]
    count: IntArray
    ids: npt.NDArray[np.int64]
    block_tokens: int

    def of(self, chosen: Any) -> HashBlocks:
        """Return those of some of the prompts, by slice, mask or places."""
        return HashBlocks(self.first[chosen], self.count[chosen], self.ids, self.block_tokens)

    def flat(self) -> tuple[npt.NDArray[np.int64], IntArray]:
        """Return the ids of all prompts one behind the other, and how many each has."""
        ends = np.cumsum(self.count, dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 0
        offset = np.repeat(self.first - (ends - self.count), self.count)
        return self.ids[np.arange(total) + offset], self.count


@dataclass(frozen=True)
class Prefixes:
    """The tree, and the path of each of n requests.

    Attributes
    ----------
    block_tokens : int
    parent, blocks, before : int32 arrays, one entry a span
        The span before it (-1: none), its blocks, and the blocks before it.
    prompt_span, context_span : int32 arrays, shape (n,)
        Where the path of the prompt ends, and that of the prompt with the whole answer; -1 for no block.
    prompt_blocks : int32 array, shape (n,)
        Blocks of the prompt that can be kept.
    answers_known : bool
        Whether a later prompt can hold an answer. Else answers are blocks that nobody asks for.
    """

    block_tokens: int
    parent: IntArray
    blocks: IntArray
    before: IntArray
    prompt_span: IntArray
    context_span: IntArray
    prompt_blocks: IntArray
    answers_known: bool

    def of(self, accepted: npt.NDArray[np.int32]) -> Prefixes:
        """Return the tree with the paths of some requests."""
        return Prefixes(
            self.block_tokens, self.parent, self.blocks, self.before, self.prompt_span[accepted],
            self.context_span[accepted], self.prompt_blocks[accepted], self.answers_known,
        )  # fmt: skip

    def path(self, span: int) -> list[int]:
        """Return the spans from the root to one of them."""
        found = []
        while span != ROOT:
            found.append(int(span))
            span = int(self.parent[span])
        return found[::-1]


def from_contents(contents: Contents, prompt: IntArray, output: IntArray, block_tokens: int) -> Prefixes:
    """Return the blocks of conversations: full ones, which turns share with all that was said before them.

    A turn shares with its origin what that leaves: the blocks that its prompt and answer fill, but for the last token
    of the answer, whose cache nobody computes.
    """
    count = len(prompt)
    prompt_blocks = (prompt // block_tokens).astype(np.int32)
    context_blocks = ((prompt.astype(np.int64) + output - 1) // block_tokens).astype(np.int32)
    systems = int(contents.system.max(initial=-1)) + 1
    system_blocks = np.zeros(systems, np.int32)
    named = contents.system >= 0
    system_blocks[contents.system[named]] = contents.system_tokens[named] // block_tokens
    own = systems + 2 * np.arange(count)
    has_origin = contents.origin >= 0
    base = np.full(count, ROOT, np.int64)
    base_blocks = np.zeros(count, np.int32)
    base[named], base_blocks[named] = contents.system[named], system_blocks[contents.system[named]]
    origin = contents.origin[has_origin]
    base[has_origin], base_blocks[has_origin] = own[origin] + 1, context_blocks[origin]
    too_short = base_blocks > prompt_blocks
    base[too_short], base_blocks[too_short] = ROOT, 0
    parent = np.full(systems + 2 * count, ROOT, np.int64)
    blocks, before = np.zeros_like(parent), np.zeros_like(parent)
    blocks[:systems] = system_blocks
    parent[own], parent[own + 1] = base, own
    before[own], before[own + 1] = base_blocks, prompt_blocks
    blocks[own], blocks[own + 1] = prompt_blocks - base_blocks, context_blocks - prompt_blocks
    # Spans without blocks are passed over.
    while True:
        empty = (parent != ROOT) & (blocks[np.maximum(parent, 0)] == 0)
        if not empty.any():
            break
        parent[empty] = parent[parent[empty]]
    ends = [np.where(blocks[span] > 0, span, parent[span]) for span in (own, own + 1)]
    tree = (parent.astype(np.int32), blocks.astype(np.int32), before.astype(np.int32))
    prompt_end, context_end = (end.astype(np.int32) for end in ends)
    return Prefixes(block_tokens, *tree, prompt_end, context_end, prompt_blocks, True)


def from_hashes(hashes: HashBlocks, prompt: IntArray, output: IntArray) -> Prefixes:
    """Return the blocks that a trace names: every one of a prompt, the last even if it is not full."""
    ids, count = hashes.flat()
    prompts = len(count)
    owner = np.repeat(np.arange(prompts), count)
    is_first = np.zeros(len(ids), np.bool_)
    is_first[(np.cumsum(count) - count)[count > 0]] = True
    node, parent_node = _chained(ids, is_first)
    # The new blocks of a prompt are its last ones. A block that comes up for the first time begins a span in two cases:
    # it is the first such of its prompt, or the block before it ends a prompt or has another follower.
    nodes = int(node.max(initial=-1)) + 1
    places = np.full(nodes, len(ids), np.int64)
    np.minimum.at(places, node, np.arange(len(ids)))  # where each first comes up
    is_end = np.zeros(nodes, np.bool_)
    last = (np.cumsum(count) - 1)[count > 0]
    is_end[node[last]] = True
    followers = np.bincount(parent_node[parent_node >= 0], minlength=nodes) if nodes else np.zeros(0, np.int64)
    order = np.argsort(places, kind="stable")
    before_it = parent_node[order]
    starts = np.ones(nodes, np.bool_)
    starts[1:] = owner[places[order[1:]]] != owner[places[order[:-1]]]
    starts |= (before_it >= 0) & (is_end[np.maximum(before_it, 0)] | (followers[np.maximum(before_it, 0)] > 1))
    span_of = np.empty(nodes, np.int64)
    span_of[order] = np.cumsum(starts) - 1
    spans = int(starts.sum())
    blocks = np.bincount(span_of, minlength=spans)
    heads = order[starts]
    parent = np.where(parent_node[heads] >= 0, span_of[np.maximum(parent_node[heads], 0)], ROOT)
    position = np.arange(len(ids)) - np.repeat(np.cumsum(count) - count, count)
    before = position[places[heads]]
    prompt_span = np.full(prompts, ROOT, np.int64)
    prompt_span[count > 0] = span_of[node[last]]
    context_blocks = np.maximum((prompt.astype(np.int64) + output - 1) // hashes.block_tokens, count)
    private = np.flatnonzero(context_blocks > count)
    context_span = prompt_span.copy()
    context_span[private] = spans + np.arange(len(private))
    tree = (
        np.concatenate([parent, prompt_span[private]]).astype(np.int32),
        np.concatenate([blocks, (context_blocks - count)[private]]).astype(np.int32),
        np.concatenate([before, count[private]]).astype(np.int32),
    )
    ends = prompt_span.astype(np.int32), context_span.astype(np.int32)
    return Prefixes(hashes.block_tokens, *tree, *ends, count.astype(np.int32), False)


def _chained(
    ids: npt.NDArray[np.int64], is_first: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the node of each block, and the node before each node: blocks are alike only behind alike blocks.

    Ids that name a block with all before it, as a chained hash does, are nodes themselves.
    """
    _, node = np.unique(ids, return_inverse=True)
    before = np.where(is_first, ROOT, np.concatenate(([ROOT], node[:-1])))
    nodes = int(node.max(initial=-1)) + 1
    parent = np.full(nodes, ROOT, np.int64)
    parent[node] = before
    if np.array_equal(parent[node], before):
        return node.astype(np.int64), parent
    known: dict[tuple[int, int], int] = {}
    chained = np.empty(len(ids), np.int64)
    at = ROOT
    for place, (plain, first) in enumerate(zip(node.tolist(), is_first.tolist(), strict=True)):
        at = known.setdefault((ROOT if first else at, plain), len(known))
        chained[place] = at
    parents = np.array([key[0] for key in known], np.int64)
    return chained, parents
