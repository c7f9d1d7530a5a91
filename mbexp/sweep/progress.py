"""Shows how far a sweep is, a bar on a terminal and plain lines elsewhere, by watching its folder."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from mbexp.sweep.plan import FAILED, stored

POLL_S = 0.25
LINE_EVERY_S = 10.0


class Progress:
    """Counts stored and failed runs in a thread of its own, until the block that it manages ends.

    Parameters
    ----------
    folder
        The sweep's.
    weights
        Runs to make, by key, with the work in each, which the remaining time is told from.
    newer_than_ns
        Runs stored before do not count; None where any stored run does.
    failures_after_ns
        Failures written before do not count.
    stream
        Where to show it.
    """

    def __init__(
        self,
        folder: Path,
        weights: Mapping[str, float],
        newer_than_ns: int | None,
        failures_after_ns: int,
        stream: TextIO | None = None,
    ) -> None:
        self.folder = folder
        self.weights = dict(weights)
        self.newer_than_ns = newer_than_ns
        self.failures_after_ns = failures_after_ns
        self.stream = stream or sys.stderr
        self.done: set[str] = set()
        self.failed: set[str] = set()
        self._began = time.monotonic()
        self._first: tuple[float, float] | None = None
        self._bar: Any = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="sweep-progress")

    def __enter__(self) -> Progress:
        if self.stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=len(self.weights),
                file=self.stream,
                leave=False,
                unit="run",
                bar_format="{l_bar}{bar}| {n_fmt} of {total_fmt} runs{postfix}",
            )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self.look()
        if self._bar is not None:
            self._bar.close()

    def look(self) -> None:
        """Count anew."""
        there = set(os.listdir(self.folder))
        for key in (self.weights.keys() & there) - self.done:
            if stored(self.folder, key, self.newer_than_ns):
                self.done.add(key)
        self.failed = set()
        with contextlib.suppress(OSError), os.scandir(self.folder / FAILED) as entries:
            for entry in entries:
                key = entry.name.removesuffix(".log")
                if key in self.weights and entry.stat().st_mtime_ns >= self.failures_after_ns:
                    self.failed.add(key)
        self.failed -= self.done

    def line(self) -> str:
        """Return what a terminal without a bar shows."""
        return f"{len(self.done)} of {len(self.weights)} runs done{self._more()}"

    def _more(self) -> str:
        text = f", {len(self.failed)} failed" if self.failed else ""
        total = sum(self.weights.values())
        over = sum(self.weights[key] for key in self.done | self.failed)
        left = len(self.weights) - len(self.done) - len(self.failed)
        if over and left:
            # From the first run on, once there is another: workers take a while to start.
            if not self._first:
                self._first = time.monotonic(), over
            since, work = self._first if over > self._first[1] else (self._began, 0.0)
            remaining_s = (time.monotonic() - since) * (total - over) / (over - work)
            text += f", about {_duration(remaining_s)} left"
        return text

    def _watch(self) -> None:
        said, said_at = -1, self._began
        while not self._stop.wait(POLL_S):
            with contextlib.suppress(OSError):
                self.look()
            count = len(self.done) + len(self.failed)
            if self._bar is not None:
                self._bar.n = count
                self._bar.set_postfix_str(self._more().lstrip(", "), refresh=True)
            elif count != said and time.monotonic() - said_at >= LINE_EVERY_S:
                print(self.line(), file=self.stream, flush=True)
                said, said_at = count, time.monotonic()


def _duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 90:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
