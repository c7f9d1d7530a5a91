"""How a command ends: a user's mistake in one line, an interrupt, a reader that has gone, and a bug in mbexp."""

from __future__ import annotations

import difflib
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

INTERRUPTED = 128 + 2  # as programs end that Ctrl-C stops
READER_GONE = 128 + 13  # as a program ends that a broken pipe's signal stops


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


def as_program(main: Callable[[], int | None]) -> None:
    """Run a command as a program: whatever ends it, there is no traceback of what the user did.

    Exit codes: that of `main`; 1 after a user's mistake, which is one line; 130 after Ctrl-C; 141 where the reader of
    the output has gone (``... | head -1``).
    """
    code: object
    try:
        try:
            code = main()
        except SystemExit as stop:
            code = stop.code
        sys.stdout.flush()  # here, where a reader that has gone can still be met
    except UserError as error:
        code = f"mbexp: {error}"
    except KeyboardInterrupt:
        code = INTERRUPTED
        print("mbexp: interrupted", file=sys.stderr)
    except BrokenPipeError:
        code = READER_GONE
    finally:
        # All is stored and said: Ctrl-C while the interpreter closes would only be a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if code == READER_GONE:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what is still to be written out
    sys.exit(code)


def _say_interrupted(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("mbexp: interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# A command imports for a second before `as_program` watches over it, and Ctrl-C may come then. While Python looks for
# the module of `python -m mbexp`, the first word is still -m. A program that imports mbexp keeps an ending of its own.
if sys.argv[0] == "-m" or os.path.basename(sys.argv[0]) == "mbexp":
    sys.excepthook = _say_interrupted
