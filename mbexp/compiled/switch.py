"""Calls of functions by number, so that the compiler can inline those that are known and still call any other."""

# mypy: allow-untyped-defs

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mbexp.compiled.decorators import inlined

OTHER = -1  # stands for a function that is not among the known ones


def number_of(function: object, known: Sequence[object]) -> int:
    """Return the place of a function among the known ones, `OTHER` where it is not there."""
    return known.index(function) if function in known else OTHER


def switch(known: Sequence[Any]) -> Any:
    """Return a compiled function (number, other, *arguments): calls ``known[number]``, inlined, or else `other`."""

    # One function with a branch for each: a chain of functions would be compiled as often as it is long.
    scope = {f"known_{place}": inlined(getattr(rule, "py_func", rule)) for place, rule in enumerate(known)}
    branches = [f"    if number == {place}:\n        return known_{place}(*arguments)\n" for place in range(len(known))]
    exec("def call(number, other, *arguments):\n" + "".join(branches) + "    return other(*arguments)\n", scope)
    return inlined(scope["call"])
