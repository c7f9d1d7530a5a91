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

    @inlined
    def call(number, other, *arguments):
        return other(*arguments)

    for place in reversed(range(len(known))):
        call = _case(place, inlined(getattr(known[place], "py_func", known[place])), call)
    return call


def _case(place, function, rest):
    @inlined
    def call(number, other, *arguments):
        if number == place:
            return function(*arguments)
        return rest(number, other, *arguments)

    return call
