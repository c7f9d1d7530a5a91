"""Pairing heaps over an array of records: the first of those that wait, in an order given by keys.

Each item is a record with the fields ``key``, ``child`` and ``sibling``; a heap is the number of its first item,
`NOBODY` where it is empty. So any number of heaps share one array, and none needs to know how many it will hold.
Ties of keys go to the lower number. To add costs the same whatever the size; to take off costs log n, amortised
(Fredman, Sedgewick, Sleator, Tarjan, "The pairing heap", Algorithmica 1 (1986)).
"""

from __future__ import annotations

from mbexp.compiled.decorators import called, inlined

NOBODY = -1


@inlined
def meld(items, one, other):
    """Return the heap of two heaps together, neither of which is empty."""
    before = items[one]["key"] < items[other]["key"]
    before = before or (items[one]["key"] == items[other]["key"] and one < other)
    first, second = (one, other) if before else (other, one)
    items[second]["sibling"] = items[first]["child"]
    items[first]["child"] = second
    return first


@inlined
def pushed(items, heap, item):
    """Return the heap with an item added, whose key is set."""
    items[item]["child"] = NOBODY
    items[item]["sibling"] = NOBODY
    return item if heap == NOBODY else meld(items, heap, item)


@called
def without_first(items, heap):
    """Return the heap without its first item: its children are melded in pairs, then the pairs from the last on."""
    left = int(items[heap]["child"])
    pairs = NOBODY
    while left != NOBODY:
        one = left
        other = int(items[one]["sibling"])
        if other == NOBODY:
            left, pair = NOBODY, one
        else:
            left = int(items[other]["sibling"])
            pair = meld(items, one, other)
        items[pair]["sibling"] = pairs
        pairs = pair
    found = NOBODY
    while pairs != NOBODY:
        one = pairs
        pairs = int(items[one]["sibling"])
        items[one]["sibling"] = NOBODY
        found = one if found == NOBODY else meld(items, found, one)
    return found


@inlined
def unfolded(items, todo):
    """Take the first item off a list of heaps that are being taken apart, and put its children in front of the list.

    Returns
    -------
    int
        The rest of the list; the item itself is then free.
    """
    rest = int(items[todo]["sibling"])
    child = int(items[todo]["child"])
    if child == NOBODY:
        return rest
    last = child
    while items[last]["sibling"] != NOBODY:
        last = int(items[last]["sibling"])
    items[last]["sibling"] = rest
    return child
