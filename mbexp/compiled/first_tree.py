"""A tree over keys of items that change one at a time: the item of the smallest key at hand, a change in log n steps.

The places that a change looks at follow from the item alone, so that the processor can read them all at once. In a heap
each of them follows from a comparison.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mbexp.compiled.decorators import called

Function = Callable[..., Any]


def first_tree(node_at: Function, key: str, item: str, leaves: str) -> Function:
    """Return the function that writes the key of an item; the first of all stands in node 1.

    Parameters
    ----------
    node_at : function (head, node) -> record
        Compiled. Of the items below a node it holds the one of the smallest key, of equals the lowest. Node 1 is the
        root, and there are twice as many nodes as leaves; their keys begin at infinity.
    key, item
        Fields of a record.
    leaves
        Field of the head: how many leaves there are (`mbexp.compiled.least_tree.leaves_of`).

    Returns
    -------
    write : function (head, item, key)
    """

    @called
    def write(head, item_value, key_value):
        node = head[leaves] + item_value
        entry = node_at(head, node)
        entry[key] = key_value
        entry[item] = item_value
        while node > 1:
            left, right = node_at(head, node & ~1), node_at(head, node | 1)
            node >>= 1
            above = node_at(head, node)
            right_first = right[key] < left[key]
            least = right[key] if right_first else left[key]
            first = right[item] if right_first else left[item]
            if above[key] == least and above[item] == first:
                return
            above[key] = least
            above[item] = first

    done: Function = write
    return done
