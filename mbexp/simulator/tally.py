"""How often each of some whole numbers is met, without a sort where they are not much larger than they are many."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ROOM = 4  # times as many counters as numbers


def tallied(numbers: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return what `numpy.unique` does with its counts: the different numbers in order, and how often each is met.

    Parameters
    ----------
    numbers : int64 array, shape (n,)
        None negative.
    """
    if numbers.max(initial=0) >= ROOM * len(numbers):
        return np.unique(numbers, return_counts=True)
    counts = np.bincount(numbers)
    found = np.flatnonzero(counts)
    return found, counts[found]
