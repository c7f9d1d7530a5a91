"""Turns of conversations: a request that comes when the one before it is answered, some time later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]

NO_PARENT = -1


class Causes(NamedTuple):
    """What an event loop needs of the turns, n of them.

    Attributes
    ----------
    roots : int32 array
        The requests that no answer causes, by arrival, then by place.
    root_s : float64 array
        Their arrivals.
    child, sibling : int32 arrays, shape (n,)
        The first request that an answer causes, and the next one of the same cause; -1 where there is none.
    think_s : float64 array, shape (n,)
        From the cause's last token to the arrival.
    """

    roots: IntArray
    root_s: FloatArray
    child: IntArray
    sibling: IntArray
    think_s: FloatArray


@dataclass(frozen=True)
class Turns:
    """Which answer makes a request come, and how long after it.

    Attributes
    ----------
    parent : int32 array, shape (n,)
        Place of the request whose answer is the cause; -1 where there is none.
    think_s : float64 array, shape (n,)
        Time between the two, 0 or more; without meaning where there is none.
    own_s : float64 array, shape (n,)
        Arrival of a request that no answer causes; without meaning for the others.
    users : int or None
        How many conversations there are at any time, where one begins as another ends.
    """

    parent: IntArray
    think_s: FloatArray
    own_s: FloatArray
    users: int | None = None

    def of(self, accepted: IntArray) -> Turns:
        """Return the turns of the accepted requests: a rejected one is answered when it comes."""
        count = len(self.parent)
        kept = np.zeros(count, np.bool_)
        kept[accepted] = True
        parent, think_s, own_s = self.parent.copy(), self.think_s.copy(), self.own_s.copy()
        place_of = np.full(count, NO_PARENT, np.int32)
        place_of[accepted] = np.arange(len(accepted), dtype=np.int32)
        # A cause that is rejected gives way to its own cause, until none is left.
        while True:
            late = np.flatnonzero(kept & (parent != NO_PARENT) & ~kept[np.maximum(parent, 0)])
            if not len(late):
                break
            before = parent[late]
            is_root = parent[before] == NO_PARENT
            own_s[late] = np.where(is_root, own_s[before] + think_s[late], own_s[late])
            think_s[late] += np.where(is_root, 0.0, think_s[before])
            parent[late] = parent[before]
        parent = parent[accepted]
        parent[parent != NO_PARENT] = place_of[parent[parent != NO_PARENT]]
        return Turns(parent, think_s[accepted], own_s[accepted], self.users)

    def later(self, delay_s: float) -> Turns:
        """Return the turns as a queue sees them that every request reaches `delay_s` after it was sent."""
        return Turns(self.parent, self.think_s + delay_s, self.own_s + delay_s, self.users)

    def causes(self) -> Causes:
        """Return the turns as an event loop takes them."""
        count = len(self.parent)
        alone = np.flatnonzero(self.parent == NO_PARENT)
        roots = alone[np.lexsort((alone, self.own_s[alone]))]
        child = np.full(count, NO_PARENT, np.int32)
        sibling = np.full(count, NO_PARENT, np.int32)
        caused = np.flatnonzero(self.parent != NO_PARENT)
        by_cause = caused[np.argsort(self.parent[caused], kind="stable")]
        cause = self.parent[by_cause]
        first = np.ones(len(by_cause), np.bool_)
        first[1:] = cause[1:] != cause[:-1]
        child[cause[first]] = by_cause[first]
        sibling[by_cause[:-1][~first[1:]]] = by_cause[1:][~first[1:]]
        return Causes(roots.astype(np.int32), self.own_s[roots], child, sibling, self.think_s)

    def arrivals_before_the_run(self) -> FloatArray:
        """Return as many arrivals as there are requests; none is known by its number before the run."""
        return np.full(len(self.parent), np.inf)

    def digest(self) -> bytes:
        """Return the bytes that tell these turns from others."""
        arrays = (self.parent, self.think_s, self.own_s)
        return str(self.users).encode() + b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)


@dataclass(frozen=True)
class Contents:
    """What prompts share, told by conversations.

    Attributes
    ----------
    origin : int32 array, shape (n,)
        Place of the request whose prompt and answer the prompt begins with; -1 where there is none.
    system : int32 array, shape (n,)
        Number of the system prompt that the conversation begins with; -1 where it has none of its own.
    system_tokens : int32 array, shape (n,)
        Its length.
    """

    origin: IntArray
    system: IntArray
    system_tokens: IntArray
