"""Finds a user's own function by its dotted path, without running a module that has nothing to do with mbexp."""

from __future__ import annotations

import ast
import importlib
import importlib.machinery
import os
import sys
from typing import Any

from mbexp.errors import UserError, nearest


def load_object(where: str, dotted: str) -> Any:
    """Return what `dotted` (``package.module.name``) names.

    Importing a module runs it, so a configuration may only name a Python source file, found on the import path or in
    the current folder, that itself imports mbexp. Anything else (``os.system``) is refused unread and unrun.

    Parameters
    ----------
    where
        The key that holds the path, for messages.

    Raises
    ------
    UserError
        If there is no such module or name, or the module does not import mbexp.
    """
    module_name, _, name = dotted.rpartition(".")
    if not module_name or not all(part.isidentifier() for part in dotted.split(".")):
        raise UserError(f"{where}={dotted}: not a dotted path of the form package.module.name")
    source = _source_of(where, dotted, module_name)
    if not _imports_mbexp(source):
        raise UserError(f"{where}={dotted}: {source} does not import mbexp, so it is not run")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise UserError(f"{where}={dotted}: importing {module_name} failed: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise UserError(f"{where}={dotted}: {module_name} has no {name}{nearest(name, public)}")
    return getattr(module, name)


def source_file(where: str, dotted: str) -> str:
    """Return the file of the module in which `dotted` stands, without running it."""
    return _source_of(where, dotted, dotted.rpartition(".")[0])


def _source_of(where: str, dotted: str, module_name: str) -> str:
    path: list[str] | None = [*sys.path, os.getcwd()]
    spec = None
    for part in module_name.split("."):
        # Each level is located without importing its parents.
        spec = importlib.machinery.PathFinder.find_spec(part, path)
        if spec is None:
            raise UserError(f"{where}={dotted}: no module named {module_name} here or on the import path")
        path = list(spec.submodule_search_locations) if spec.submodule_search_locations else None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise UserError(f"{where}={dotted}: {module_name} is not a Python source file")
    return spec.origin


def _imports_mbexp(source: str) -> bool:
    if os.path.dirname(os.path.abspath(source)).startswith(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))):
        return True
    try:
        with open(source, encoding="utf-8") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "mbexp" for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "mbexp":
            return True
    return False
