"""The names that a key can take where they are names of modules or functions: read off the files, importing none.

Importing a room compiles it, which a question about names need not wait for; and the configuration stands below the
rooms that it names.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


@functools.cache
def module_names(folder: str) -> tuple[str, ...]:
    """Return the names of the modules in a folder of the package, those that begin with ``_`` left out."""
    return tuple(sorted(path.stem for path in (_PACKAGE / folder).glob("*.py") if not path.stem.startswith("_")))


@functools.cache
def rule_names(slot: str) -> tuple[str, ...]:
    """Return the names of the rules in a module of `mbexp.policy`, in their order."""
    text = (_PACKAGE / "policy" / f"{slot}.py").read_text(encoding="utf-8")
    return tuple(re.findall(r"^@\w+(?:\([^\n]*\))?\ndef ([a-z]\w*)\(", text, re.MULTILINE))


def mode_names() -> tuple[str, ...]:
    """Return the names of the modes of execution."""
    return tuple(reversed([name for name in module_names("modes") if name != "problem"]))
