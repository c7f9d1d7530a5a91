"""The exception that a user's mistake raises, its text all that the command line prints, and that of a bug in mbexp."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in a configuration, a file or a command: one line saying what, where and the nearest valid choice."""

    def __init__(self, message: str) -> None:
        # What a user gave can hold line breaks, terminal codes or broken characters: the message is one line still.
        super().__init__("".join(character if character.isprintable() else " " for character in message))


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest of `choices`, or an empty string where none is close."""
    matches = difflib.get_close_matches(str(name), [str(choice) for choice in choices], n=1, cutoff=0.5)
    return f" (did you mean '{matches[0]}'?)" if matches else ""


def unknown_choice(what: str, name: object, choices: Iterable[str]) -> UserError:
    """Return the error for a name that is not one of `choices`."""
    known = sorted(str(choice) for choice in choices)
    return UserError(f"{what}={name}: no such choice{nearest(str(name), known)}; choose from {', '.join(known)}")


class InvariantError(RuntimeError):
    """A run broke a law that every run obeys: a bug in mbexp, never a user's mistake; its numbers must not be used."""

    def __init__(self, invariant: str) -> None:
        super().__init__(f"this is a bug in mbexp, please report it; the run broke an invariant: {invariant}")
