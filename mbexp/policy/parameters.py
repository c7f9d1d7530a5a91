"""Parameters of a rule by name: ``parameters.patience_s`` becomes a place in an array before the rule is compiled.

A rule of any names must have one type, or the event loop would be compiled for each; an array of floats has one.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mbexp.config.places import place_of
from mbexp.errors import UserError, nearest

Function = Callable[..., Any]


def with_named_parameters(function: Function, names: Sequence[str], arguments: int) -> tuple[Function, int]:
    """Return `function` with every ``parameters.name`` in it replaced by ``parameters[place]``.

    `parameters` stands for its last argument, however that is called.

    Returns
    -------
    function
    int
        How many parameters it reads at least, as far as its text says.

    Raises
    ------
    UserError
        If it takes another number of arguments than its slot gives, or reads a parameter that it did not declare.
    """
    code = function.__code__
    if code.co_argcount != arguments:
        raise UserError(
            f"{place_of(function)}: a rule of this kind takes {arguments} arguments, not {code.co_argcount}"
        )
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        if names:
            raise UserError(f"{place_of(function)}: a rule with named parameters must stand in a file") from None
        return function, 0
    ast.increment_lineno(tree, code.co_firstlineno - 1)
    rewriter = _Rewriter(function, code.co_varnames[arguments - 1], list(names))
    rewriter.visit(tree)
    if not rewriter.found:
        return function, rewriter.needed
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    scope: dict[str, Any] = {}
    exec(compile(ast.fix_missing_locations(tree), code.co_filename, "exec"), function.__globals__, scope)
    made: Function = scope[function.__name__]
    made.__qualname__, made.__module__ = function.__qualname__, function.__module__
    return made, rewriter.needed


class _Rewriter(ast.NodeTransformer):
    def __init__(self, rule: Function, argument: str, names: list[str]) -> None:
        self.rule, self.argument, self.names, self.found = rule, argument, names, False
        self.needed = len(names)

    def _is_argument(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id == self.argument

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if not self._is_argument(node.value):
            return self.generic_visit(node)
        if node.attr in self.names:
            self.found = True
            index = ast.Constant(self.names.index(node.attr))
            return ast.copy_location(ast.Subscript(node.value, index, node.ctx), node)
        if hasattr(np.ndarray, node.attr):
            return node
        declared = f"; declared are {', '.join(self.names)}" if self.names else "; none is declared"
        place, known = place_of(self.rule, node.lineno), nearest(node.attr, self.names)
        raise UserError(f"{place}: {self.argument}.{node.attr} is not declared{known}{declared}")

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        if self._is_argument(node.value) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, int):
            self.needed = max(self.needed, node.slice.value + 1)
        return self.generic_visit(node)
