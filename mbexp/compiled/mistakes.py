"""What is wrong with a function of a user's that cannot be compiled, in one line that names its file and line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from mbexp.errors import nearest

Function = Callable[..., Any]

NO_RETURN = re.compile(r"(No conversion from none to|Cannot unify .*\bnone\b|'none')", re.IGNORECASE)
NO_ATTRIBUTE = re.compile(r"Unknown attribute '(\w+)' of type (\w+)\(")
NO_NAME = re.compile(r"(?:NameError: )?name '(\w+)' is not defined|Untyped global name '(\w+)'")
LINE = re.compile(r'File "[^"]*", line (\d+)')
BEFORE_REASON = "Failed in"


def place_of(function: Function, line: int | None = None) -> str:
    """Return where a function stands: file, line and name."""
    code = function.__code__
    where = "" if code.co_filename.startswith("<") else f"{os.path.relpath(code.co_filename)} "
    return f"{where}line {line or code.co_firstlineno}, {function.__name__}"


def what_is_wrong(error: Exception, function: Function, fields: dict[str, tuple[str, ...]]) -> str:
    """Return the reason for which a function was not compiled, behind the place where it stands.

    Parameters
    ----------
    error
        Of Numba.
    fields
        Of the views that it is given, by the names of their classes.
    """
    text = str(error)
    lines = [int(line) for line in LINE.findall(text)]
    place = place_of(function, lines[-1] if lines else None)
    if found := NO_ATTRIBUTE.search(text):
        name, view = found.groups()
        known = fields.get(view, ())
        listed = f"; it has {', '.join(known)}" if known else ""
        return f"{place}: {view} has no {name}{nearest(name, known)}{listed}"
    if NO_RETURN.search(text):
        return f"{place}: every path must return a number, and one returns nothing"
    if found := NO_NAME.search(text):
        return f"{place}: {found.group(1) or found.group(2)} cannot be used here"
    said = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(BEFORE_REASON)]
    return f"{place}: cannot be compiled: {said[0] if said else type(error).__name__}"
