"""Shows how far a sweep is, a bar on a terminal and plain lines elsewhere, by watching its folder.

A run that takes unusually long is named, whatever it computes.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, TextIO

from mbexp.sweep.making import expected_s
from mbexp.sweep.plan import CLAIMS, FAILED, Plan, stored
from mbexp.sweep.worker import has_failed

POLL_S = 0.25
LINE_EVERY_S = 10.0
LONG_RUN_S = 600.0


class Progress:
    """Counts stored and failed runs in a thread of its own, until the block that it manages ends.

    Parameters
    ----------
    plan
        The sweep's.
    places
        Of the runs to make.
    token
        Of the plan: earlier failures do not count, nor, under force, earlier runs.
    stream
        Where to show it.
    """

    def __init__(
        self,
        plan: Plan,
        places: Sequence[int],
        token: str,
        stream: TextIO | None = None,
    ) -> None:
        self.folder = plan.folder
        self.runs = {plan.runs[place].key: plan.runs[place] for place in places}
        self.weights = {key: expected_s(run) for key, run in self.runs.items()}
        self.again = token if plan.force else None
        self.token = token
        self.stream = stream or sys.stderr
        self.done: set[str] = set()
        self.failed: set[str] = set()
        self._began = time.monotonic()
        self._first: tuple[float, float] | None = None
        self._bar: Any = None
        self._began_run: dict[str, float] = {}
        self._next_note_s: dict[str, float] = {}
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
            if stored(self.folder, key, self.again):
                self.done.add(key)
        for key in self._names(FAILED, ".log") - self.failed:
            if has_failed(self.folder, key, self.token):
                self.failed.add(key)
        self.failed -= self.done

    def long_runs(self) -> list[str]:
        """Return a line for each run that has been under way for long, and again each time that has doubled."""
        now, lines = time.monotonic(), []
        under_way = self._names(CLAIMS)
        self._began_run = {key: self._began_run.get(key, now) for key in under_way}
        for key, began in self._began_run.items():
            after_s = self._next_note_s.get(key, LONG_RUN_S)
            if now - began >= after_s:
                self._next_note_s[key] = 2 * after_s
                what = " ".join(self.runs[key].overrides) or key
                lines.append(f"run {key} ({what}) has taken {_duration(now - began)}; study.timeout_s would end it")
        return lines

    def _names(self, folder: str, suffix: str = "") -> set[str]:
        """Return the runs of this sweep for which a folder has a file."""
        try:
            names = os.listdir(self.folder / folder)
        except OSError:
            return set()
        return {name.removesuffix(suffix) for name in names if name.endswith(suffix)} & self.weights.keys()

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
            for line in self.long_runs():
                self._say(line)
            count = len(self.done) + len(self.failed)
            if self._bar is not None:
                self._bar.n = count
                self._bar.set_postfix_str(self._more().lstrip(", "), refresh=True)
            elif count != said and time.monotonic() - said_at >= LINE_EVERY_S:
                self._say(self.line())
                said, said_at = count, time.monotonic()

    def _say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=self.stream)
        else:
            print(line, file=self.stream, flush=True)


def _duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 90:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
