"""How functions are compiled that only other compiled functions call: once, and no further than these need.

Numba makes machine code of every function and optimises it, and again as part of every function around it. The loops
stand seven deep, so that most of their first compilation went into code that nobody runs. Here such a function stays as
Numba wrote it; the loop that it ends up in is optimised as a whole, once.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler


class _NoMachineCode:
    """A code generator that is told of a function's environment, which only machine code has."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, env_name: str, env: Any) -> None:
        """Do nothing: there is no machine code to tell."""


class _Library(JITCodeLibrary):
    """Code of one function, to be linked into those that call it."""

    @property
    def codegen(self):
        """The code generator, for what does not ask for machine code."""
        return _NoMachineCode(self._codegen)

    def _optimize_final_module(self) -> None:
        """Leave it as it is."""

    def _finalize_final_module(self) -> None:
        """Make no machine code."""
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return that there is no machine code of any name."""
        return 0


class Inside(Compiler):
    """The compiler of such functions."""

    def define_pipelines(self):
        """Return the steps of Numba, which write into a library of ours."""
        if self.state.library is None:
            self.state.library = _Library(self.state.targetctx.codegen(), "inside")
        return super().define_pipelines()


def same_for_constants(dispatcher: Any) -> Any:
    """Let a call with a constant take what a call with a variable is compiled to, and return the function."""
    found: Callable[..., Any] = dispatcher.get_call_template

    def get_call_template(arguments, keywords):
        return found(
            tuple(types.unliteral(each) for each in arguments),
            {name: types.unliteral(each) for name, each in keywords.items()},
        )

    dispatcher.get_call_template = get_call_template
    return dispatcher
