"""Modes of execution, one module each; a module put here is a value of ``execution``.

A mode is a module with what `mbexp.modes.problem.Mode` lists. It answers what every mode is asked: a run, its tables,
its files and the terminal know no mode by name.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from mbexp.config.choices import mode_names
from mbexp.config.keys import Config
from mbexp.errors import unknown_choice

if TYPE_CHECKING:
    from mbexp.modes.problem import Mode


def find_mode(name: str) -> Mode:
    """Return the module of a mode."""
    if name not in mode_names():
        raise unknown_choice("execution", name, mode_names())
    return cast("Mode", importlib.import_module(f"{__name__}.{name}"))


def mode_of(config: Config) -> Mode:
    """Return the mode that a configuration names."""
    return find_mode(config.execution.name)
