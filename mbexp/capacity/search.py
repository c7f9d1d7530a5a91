"""The search over whole numbers: gallop from a start, bisect, and say how sure the end is. It knows no GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mbexp.capacity.judge import FAIL, PASS


@dataclass(frozen=True)
class Found:
    """The end of a search.

    Attributes
    ----------
    low, high : int
        The least number that passes lies in this range: above `low` - 1 it does not surely fail, at `high` it passes.
    monotone : bool
        Whether `high` + 1 passes too.
    """

    low: int
    high: int
    monotone: bool


def least(judge: Callable[[int], str], start: int, lowest: int, highest: int) -> Found | None:
    """Return the least number that passes where more is easier, or None where `highest` does not pass.

    Parameters
    ----------
    judge : function
        The verdict at a number; asked again it must say the same.
    start, lowest, highest : int
        Where to begin, and the numbers to choose from. The end does not depend on `start`.
    """
    passes = _first(lambda n: judge(n) == PASS, start, lowest, highest)
    if passes is None:
        return None
    high = passes
    low = _first(lambda n: n >= high or judge(n) != FAIL, max(lowest, high - 1), lowest, high)
    assert low is not None
    return Found(low, high, high == highest or judge(high + 1) != FAIL)


def _first(holds: Callable[[int], bool], start: int, lowest: int, highest: int) -> int | None:
    """Return the first number at which something holds that holds from there on; None where it never does."""
    at = min(max(start, lowest), highest)
    step = 1
    if holds(at):
        above = at
        while True:
            if above == lowest:
                return lowest
            below = max(lowest, above - step)
            if not holds(below):
                break
            above, step = below, 2 * step
    else:
        below = at
        while True:
            if below == highest:
                return None
            above = min(highest, below + step)
            if holds(above):
                break
            below, step = above, 2 * step
    while above - below > 1:
        middle = (above + below) // 2
        if holds(middle):
            above = middle
        else:
            below = middle
    return above
