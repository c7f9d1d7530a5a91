"""A set of small whole numbers that gives its lowest in a few steps: a tree of 32-bit words."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mbexp.compiled.decorators import inlined

# Bit b of word i says whether anything is set below word 32 i + 1 + b; numbers stand for the words behind the last.
_CHILDREN, _SHIFT = 32, 5

# Place of the only bit of a word, found by multiplying with a de Bruijn sequence.
_DE_BRUIJN = 0x077CB531
_PLACE = np.zeros(32, np.int64)
for _place in range(32):
    _PLACE[((_DE_BRUIJN << _place) & 0xFFFFFFFF) >> 27] = _place


def empty_set(bound: int) -> npt.NDArray[np.int64]:
    """Return an empty set for whole numbers below `bound`."""
    words = 1
    while (_CHILDREN - 1) * words + 1 < bound:  # a full tree of w words has 31 w + 1 places behind it
        words = _CHILDREN * words + 1
    return np.zeros(words, np.int64)


@inlined
def add(words, number):  # type: ignore[no-untyped-def]
    """Add `number` to the set."""
    node = len(words) + number
    while node > 0:
        parent = (node - 1) >> _SHIFT
        before = words[np.uint64(parent)]
        words[np.uint64(parent)] = before | (1 << ((node - 1) & (_CHILDREN - 1)))
        if before != 0:
            return
        node = parent


@inlined
def lowest(words):  # type: ignore[no-untyped-def]
    """Return the lowest number of a set that is not empty."""
    node = 0
    while node < len(words):
        word = words[np.uint64(node)]
        node = (node << _SHIFT) + 1 + _PLACE[np.uint64((((word & -word) * _DE_BRUIJN) & 0xFFFFFFFF) >> 27)]
    return node - len(words)


@inlined
def remove(words, number):  # type: ignore[no-untyped-def]
    """Remove a number of the set."""
    node = len(words) + number
    while node > 0:
        parent = (node - 1) >> _SHIFT
        left = words[np.uint64(parent)] & ~(1 << ((node - 1) & (_CHILDREN - 1)))
        words[np.uint64(parent)] = left
        if left != 0:
            break
        node = parent


@inlined
def take_lowest(words):  # type: ignore[no-untyped-def]
    """Remove and return the lowest number of a set that is not empty."""
    number = lowest(words)
    remove(words, number)
    return number
