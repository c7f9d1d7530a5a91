"""A tree over numbers that change one at a time: the lowest place of the smallest of a range, in log n steps."""

# mypy: allow-untyped-defs

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mbexp.compiled.decorators import called

Function = Callable[..., Any]

NONE = 2**62  # above every number that a tree holds


def leaves_of(places: int) -> int:
    """Return how many leaves a tree over so many places has: a power of two."""
    return 1 << max(places - 1, 1).bit_length()


def least_tree(node_at: Function, leaves: str) -> tuple[Function, Function]:
    """Return the functions that write a number and find the smallest.

    Parameters
    ----------
    node_at : function (head, node) -> record
        Compiled; its ``value`` is the smallest number below a node. Node 1 is the root, and has twice as many nodes
        behind it as there are leaves; those that stand for no place hold `NONE`.
    leaves
        Field of the head: how many leaves there are (`leaves_of`).

    Returns
    -------
    write : function (head, place, number)
    first_least : function (head, first, end) -> int
        Lowest of the places from `first` to before `end` whose number is the smallest of theirs.
    """

    @called
    def write(head, place, number):
        node = head[leaves] + place
        node_at(head, node).value = number
        while node > 1:
            node >>= 1
            least = min(node_at(head, 2 * node).value, node_at(head, 2 * node + 1).value)
            if node_at(head, node).value == least:
                return
            node_at(head, node).value = least

    @called
    def first_least(head, first, end):
        # Subtrees that make up the range, from both ends inwards: of equals the one further left is kept.
        left, right = head[leaves] + first, head[leaves] + end
        best, least, last, least_last = 0, np.int64(NONE), 0, np.int64(NONE)
        while left < right:
            if left & 1:
                if node_at(head, left).value < least:
                    best, least = left, node_at(head, left).value
                left += 1
            if right & 1:
                right -= 1
                if node_at(head, right).value <= least_last:
                    last, least_last = right, node_at(head, right).value
            left >>= 1
            right >>= 1
        node = best if least <= least_last else last
        while node < head[leaves]:
            node *= 2
            if node_at(head, node).value != node_at(head, node >> 1).value:
                node += 1
        return node - head[leaves]

    return write, first_least
