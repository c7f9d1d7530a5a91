"""Shows how far a search is: a line with the bracket for each probe, and on a terminal a bar that fills."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from mbexp.capacity.judge import FAIL, PASS
from mbexp.results.lines import prose_lines

GALLOP = 3  # probes that are expected where only one end of the bracket is known


class Shown:
    """Takes a line for each probe; the bar goes when `close` is called.

    Parameters
    ----------
    stream
        Where to show it; stderr by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self._bar: Any = None

    def __call__(self, line: str, done: int = 0, left: int = 0, bracket: str = "") -> None:
        """Show a line, that `done` probes are made and about `left` are to come, and where the answer lies."""
        if not self.stream.isatty():
            print("\n".join(_fitted(f"{line}; {bracket}" if bracket else line)), file=self.stream, flush=True)
            return
        if self._bar is None:
            from tqdm import tqdm

            form = "{l_bar}{bar}| {n_fmt} of about {total_fmt} probes{postfix}"
            self._bar = tqdm(total=done + left, file=self.stream, leave=False, bar_format=form)
        self._bar.write("\n".join(_fitted(line)), file=self.stream)
        self._bar.total, self._bar.n = done + left, done
        self._bar.set_postfix_str(bracket, refresh=True)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _fitted(line: str) -> list[str]:
    """Return the lines that a line takes on a terminal, those behind the first indented further."""
    return prose_lines(line, " " * (len(line) - len(line.lstrip()) + 2))


def bracket(verdicts: Iterable[tuple[int, str]]) -> tuple[int | None, int | None]:
    """Return the largest number that fails below all that pass, and the least that passes; None where none does.

    Parameters
    ----------
    verdicts
        Numbers in the direction in which more is easier, each with its verdict.
    """
    found = sorted(verdicts)
    passing = [number for number, verdict in found if verdict == PASS]
    high = min(passing, default=None)
    failing = [number for number, verdict in found if verdict == FAIL and (high is None or number < high)]
    return max(failing, default=None), high


def probes_left(low: int | None, high: int | None) -> int:
    """Return about how many probes a bracket of whole numbers still takes: its bisection, and one beyond the end."""
    if low is None or high is None:
        return GALLOP
    return math.ceil(math.log2(max(high - low, 1))) + 1
