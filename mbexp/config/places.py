"""Where in a user's files something stands: file, line and name, for messages."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from typing import Any

Function = Callable[..., Any]


def shown_path(file: str | os.PathLike[str]) -> str:
    """Return a file as a reader in the current folder would name it."""
    path, here = os.path.realpath(file), os.path.realpath(os.curdir)
    return os.path.relpath(path, here) if path.startswith(os.path.join(here, "")) else os.fspath(file)


def place_of(function: Function, line: int | None = None) -> str:
    """Return where a function stands: file, line and name."""
    code = function.__code__
    where = "" if code.co_filename.startswith("<") else f"{shown_path(code.co_filename)} "
    return f"{where}line {line or code.co_firstlineno}, {function.__name__}"


def and_place(found: object) -> str:
    """Return `` (FILE line N, NAME)`` of a function, compiled or not; an empty string of anything else."""
    function: Any = getattr(found, "py_func", found)
    return f" ({place_of(function)})" if hasattr(function, "__code__") else ""


def where_it_failed(error: BaseException, file: str) -> str:
    """Return `` (FILE line N)``: the last line of a file that an error came through; an empty string of none."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if os.path.realpath(frame.filename) == os.path.realpath(file)]
    return f" ({shown_path(file)} line {lines[-1]})" if lines else ""


def unread_source(error: SyntaxError, file: str) -> str:
    """Return file, line and reason of a source that Python cannot read."""
    line = f" line {error.lineno}" if error.lineno else ""
    return f"{shown_path(error.filename if error.filename not in (None, '<unknown>') else file)}{line}: {error.msg}"
