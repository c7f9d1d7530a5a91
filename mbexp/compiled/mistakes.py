"""What is wrong with a function of a user's that cannot be compiled, in one line that names its file and line."""

from __future__ import annotations

import re

from mbexp.config.places import Function, place_of
from mbexp.config.plugins import Broken
from mbexp.errors import nearest

NO_RETURN = re.compile(r"(No conversion from none to|Cannot unify .*\bnone\b|'none')", re.IGNORECASE)
NO_ATTRIBUTE = re.compile(r"Unknown attribute '(\w+)' of type (\w+)\(")
NO_NAME = re.compile(r"(?:NameError: )?name '(\w+)' is not defined|Untyped global name '(\w+)'")
LINE = re.compile(r'File "[^"]*", line (\d+)')
BEFORE_REASON = "Failed in"


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
        name = found.group(1) or found.group(2)
        called = function.__globals__.get(name)
        return str(called.error) if isinstance(called, Broken) else f"{place}: {name} cannot be used here"
    said = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(BEFORE_REASON)]
    return f"{place}: cannot be compiled: {said[0] if said else type(error).__name__}"
