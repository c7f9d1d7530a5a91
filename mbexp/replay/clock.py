"""The clock of a replay: the machine's, which can be stopped while something is prepared, or one that only jumps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

SPIN_S = 1e-3  # the last stretch of a wait is spent looking at the clock, since sleeping wakes late


class RealClock:
    """Seconds since it was made, less the time it was paused."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.paused_s = 0.0

    def now(self) -> float:
        """Return the time, seconds."""
        return time.perf_counter() - self._start - self.paused_s

    def wait(self, until_s: float) -> None:
        """Return at `until_s` or as soon after as can be."""
        while (left := until_s - self.now()) > 0:
            if left > SPIN_S:
                time.sleep(left - SPIN_S)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock inside: a server would have prepared beforehand."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.paused_s += time.perf_counter() - began


class VirtualClock:
    """A clock that jumps where it is told."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        """Return the time, seconds."""
        return self._now

    def wait(self, until_s: float) -> None:
        """Jump to `until_s`."""
        self._now = max(self._now, until_s)
