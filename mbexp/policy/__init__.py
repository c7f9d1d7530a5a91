"""Policies: a rule for each slot of a scheduler, and the rules that mbexp has.

A rule of a slot is one function in the module of that slot; its name is then a value of the slot's key.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path


@functools.cache
def rule_names(module: str) -> tuple[str, ...]:
    """Return the names of the rules in a module of this package, in their order, without importing (compiling) it."""
    text = (Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8")
    return tuple(re.findall(r"^@\w+(?:\([^\n]*\))?\ndef ([a-z]\w*)\(", text, re.MULTILINE))
