"""Runs the commands and the Python of a page in one folder, as a reader would, and compares what it says they print.

Blocks of a page, in order:

- ``bash``: every line that starts with ``python -m mbexp`` or ``mbexp`` is run in this process; all others must stand
  under a comment that says why they are not run.
- ``python``: run, with the names of the blocks before; ``<!-- file: NAME -->`` above a block of any language writes
  it to a file instead.
- without a language, or ``text``, under a block that was run: what it printed, spaces and line ends aside; ``...``
  stands for anything.
- ``<!-- not run: WHY -->`` above a block leaves it out, and ``<!-- ci: NAME -->`` says that CI runs it.

``python -m tests.guides PAGE ...`` writes what is printed now into the pages.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import runpy
import shlex
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FENCE = re.compile(
    r"(?:<!-- (?P<note>(?:file|not run|ci): .*?) -->\n)?^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
WIDTH = "100"  # of the terminal that the pages show
# What no two runs have alike: folders named by the time, and how long a command took.
CHANGING = re.compile(r"(?<=outputs/)\d{8}T[\w.]+|[\d.]+(?= s in all\))|(?<=before; )[\d.]+(?= s\))")


@dataclass(frozen=True)
class Block:
    """A fenced block, and where its text begins and ends in the page."""

    language: str
    text: str
    note: str
    start: int
    end: int


@dataclass(frozen=True)
class Difference:
    """An output that a page shows, and what was printed instead."""

    block: Block
    printed: str


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page with the comment above each."""
    return [
        Block(found["language"], found["text"], found["note"] or "", *found.span("text"))
        for found in FENCE.finditer(page)
    ]


def commands(block: Block) -> list[list[str]]:
    """Return the commands of a block as words, continued lines joined and comments left out."""
    lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
    return [words for line in lines if (words := shlex.split(line.removeprefix("$ "), comments=True))]


def is_ours(words: list[str]) -> bool:
    return words[:1] == ["mbexp"] or (words[:2] == ["python", "-m"] and words[2].partition(".")[0] == "mbexp")


def is_run(block: Block) -> bool:
    """Whether a block is run: what says that it is not, or is a file, is not."""
    return block.language in ("bash", "python") and not block.note


def unexplained(page: str) -> list[str]:
    """Return the commands of a page that are neither run nor said to be left out."""
    found = []
    for block in blocks(page):
        if block.language == "bash" and is_run(block):
            found += [shlex.join(words) for words in commands(block) if not is_ours(words)]
        elif block.language in ("", "text") and not block.note:
            found += [
                line
                for line in block.text.splitlines()
                if re.match(r"(\$ )?(python3? -|mbexp [-\w.]+=|pip install)", line)
            ]
    return found


def same(shown: str, printed: str) -> bool:
    """Whether a page shows what was printed."""
    pieces = [re.escape(" ".join(piece.split())) for piece in re.split(r"\.\.\.", shown)]
    return re.fullmatch(r"\s*" + r"\s*.*?\s*".join(pieces) + r"\s*", " ".join(printed.split())) is not None


def run_page(page: str) -> list[Difference]:
    """Run a page in the current folder; return where it shows something else than what was printed.

    Raises
    ------
    AssertionError
        If a command ends with an error, or an output stands under nothing that is run.
    """
    names: dict[str, Any] = {"__name__": "guide"}
    printed: str | None = None
    found = []
    for block in blocks(page):
        if block.note.startswith("file: "):
            path = Path(block.note.removeprefix("file: "))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.note:
            printed = None
        elif block.language == "bash":
            printed = "".join(run_command(words) for words in commands(block))
        elif block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(block.text, "<page>", "exec"), names)
            printed = out.getvalue()
        elif block.language in ("", "text") and printed is not None:
            if not same(block.text, printed):
                found.append(Difference(block, printed))
            printed = None
    return found


def run_command(words: list[str]) -> str:
    """Run one command in this process and return what it prints to standard output."""
    module, given = ("mbexp", words[1:]) if words[0] == "mbexp" else (words[2], words[3:])
    before = sys.argv, signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    code: object = 0
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            sys.argv = [module, *given]
            with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # it is imported already
                runpy.run_module(module, run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        finally:
            sys.argv = before[0]
            signal.signal(signal.SIGINT, before[1])
            signal.signal(signal.SIGTERM, before[2])
            logging.getLogger().handlers.clear()  # Hydra's write to what was the terminal here
    assert code in (0, None), f"{shlex.join(words)}: {code}\n{err.getvalue()}"
    return out.getvalue()


@contextlib.contextmanager
def reader() -> Iterator[None]:
    """Be a reader for the duration: an empty folder that is on the import path, a terminal of one width, one worker."""
    before = {name: os.environ.get(name) for name in ("COLUMNS", "MBEXP_JOBS", "HYDRA_FULL_ERROR")}
    from mbexp.figures import registry

    path, modules, drawn = [*sys.path], {*sys.modules}, registry.figures()
    registry._FOUND = dict(drawn)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ |= {"COLUMNS": WIDTH, "MBEXP_JOBS": "1"}
        os.environ.pop("HYDRA_FULL_ERROR", None)
        sys.path.insert(0, folder)
        try:
            yield
        finally:
            registry._FOUND = drawn  # those of the page are forgotten
            sys.path[:] = path
            for name in {*sys.modules} - modules:
                if str(getattr(sys.modules[name], "__file__", "")).startswith(folder):  # files of the page
                    del sys.modules[name]
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def renew(path: Path) -> int:
    """Write what is printed now into a page; return how many outputs changed."""
    page = path.read_text(encoding="utf-8")
    with reader():
        found = run_page(page)
    for difference in reversed(found):
        printed = CHANGING.sub("...", difference.printed).strip("\n")
        page = page[: difference.block.start] + printed + "\n" + page[difference.block.end :]
    path.write_text(page, encoding="utf-8")
    return len(found)


if __name__ == "__main__":
    for word in sys.argv[1:]:
        print(word, renew(Path(word).resolve()))
