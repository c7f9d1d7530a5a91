"""Heaps of records that compiled code reaches by address (`mbexp.compiled.records`): by a key, then by an item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mbexp.compiled.decorators import inlined

Function = Callable[..., Any]


@inlined
def _unnoticed(head, item, place):
    """Do nothing: nobody asks where an item stands."""


def heap(entry_at: Function, key: str, item: str, note_place: Function = _unnoticed) -> tuple[Function, Function]:
    """Return the two functions that put an entry into a heap: towards the first, and away from it.

    Parameters
    ----------
    entry_at : function (head, owner, place) -> record
        Compiled; `owner` says which of several heaps it is.
    key, item
        Fields of a record. Entries are in order of key, then of item.
    note_place : function (head, item, place)
        Compiled; called when an item gets another place.

    Returns
    -------
    sift_up : function (head, owner, place, key, item)
        Put an entry at `place` or above, where there is none.
    sift_down : function (head, owner, place, count, key, item)
        Put an entry at `place` or below, where there is none, into a heap of `count` entries with it.
    """

    @inlined
    def put(head, owner, place, key_value, item_value):
        entry = entry_at(head, owner, place)
        entry[key] = key_value
        entry[item] = item_value
        note_place(head, item_value, place)

    @inlined
    def sift_up(head, owner, place, key_value, item_value):
        while place > 0:
            parent = (place - 1) >> 1
            above = entry_at(head, owner, parent)
            if above[key] < key_value or (above[key] == key_value and above[item] < item_value):
                break
            put(head, owner, place, above[key], above[item])
            place = parent
        put(head, owner, place, key_value, item_value)

    @inlined
    def sift_down(head, owner, place, count, key_value, item_value):
        child = 2 * place + 1
        while child < count:
            below = entry_at(head, owner, child)
            if child + 1 < count:
                other = entry_at(head, owner, child + 1)
                if other[key] < below[key] or (other[key] == below[key] and other[item] < below[item]):
                    child += 1
                    below = other
            if key_value < below[key] or (key_value == below[key] and item_value < below[item]):
                break
            put(head, owner, place, below[key], below[item])
            place = child
            child = 2 * place + 1
        put(head, owner, place, key_value, item_value)

    return sift_up, sift_down
