"""Lines as wide as the terminal: prose, and commands to paste."""

from __future__ import annotations

import shlex
import shutil
import textwrap

WIDEST_TEXT = 100  # characters; longer lines are hard to read, however wide the terminal


def terminal_width(widest: int = WIDEST_TEXT) -> int:
    """Return how many characters a line may have: those of the terminal, `widest` at most."""
    return min(widest, shutil.get_terminal_size((widest, 24)).columns)


def prose_lines(text: str, indent: str = "") -> list[str]:
    """Return prose in lines that fit the terminal; all but the first begin with `indent`."""
    return textwrap.wrap(text, terminal_width(), subsequent_indent=indent)


def command_lines(command: str, before: str = "") -> list[str]:
    """Return a shell command over several lines that can be pasted as they stand, the first with `before` before it.

    A line ends with a backslash where the next one goes on. A word that is wider than the terminal has a line of its
    own, since a word cannot be divided.
    """
    room = terminal_width() - len(" \\")
    indent = " " * (len(before) - len(before.lstrip())) + "  "
    first, *words = map(shlex.quote, shlex.split(command))
    lines = [before + first]
    for word in words:
        if len(lines[-1]) + 1 + len(word) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(indent + word)
    return [*(f"{line} \\" for line in lines[:-1]), lines[-1]]
