"""Finds a user's own function by its dotted path, without running a module that has nothing to do with mbexp."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from mbexp.config.dependencies import digest, find_source, is_of_mbexp
from mbexp.config.places import unread_source, where_it_failed
from mbexp.errors import UserError, nearest


class Broken:
    """What stands for a function that cannot be used, so that the others of its file can: who asks for it is told why.

    Attributes
    ----------
    error : UserError
    """

    def __init__(self, error: UserError) -> None:
        self.error = error

    def __call__(self, *given: Any) -> Any:
        raise self.error


def load_object(where: str, dotted: str) -> Any:
    """Return what `dotted` (``package.module.name``) names.

    Importing a module runs it, and so are the ``__init__.py`` of the packages it lies in. A configuration may therefore
    only name a Python source file, found on the import path or in the current folder, that itself imports mbexp, in
    packages whose ``__init__.py`` do so too or hold no statement. Anything else (``os.system``) is refused unread and
    unrun.

    Parameters
    ----------
    where
        The key that holds the path, for messages.

    Raises
    ------
    UserError
        If there is no such module or name, the module does not import mbexp, or what is named cannot be used.
    """
    module_name, _, name = dotted.rpartition(".")
    if not module_name or not all(part.isidentifier() for part in dotted.split(".")):
        raise UserError(f"{where}={dotted}: not a dotted path of the form package.module.name")
    *packages, source = _sources_of(where, dotted)
    for file in packages:
        if not (_imports_mbexp(file) or _is_empty(file)):
            raise UserError(f"{where}={dotted}: {file} would be run and does not import mbexp, so it is not run")
    if not _imports_mbexp(source):
        raise UserError(f"{where}={dotted}: {source} does not import mbexp, so it is not run")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        module = importlib.import_module(module_name)
    except UserError:  # in words already
        raise
    except SyntaxError as error:  # of a module that this one imports
        raise UserError(unread_source(error, source)) from None
    except Exception as error:
        failed = f"importing {module_name} failed{where_it_failed(error, source)}"
        raise UserError(f"{where}={dotted}: {failed}: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise UserError(f"{where}={dotted}: {module_name} has no {name}{nearest(name, public)}")
    found = getattr(module, name)
    if isinstance(found, Broken):
        raise found.error
    return found


def source_digest(where: str, dotted: str) -> str:
    """Return a hash of the module in which `dotted` stands and of all that it depends on, without running it."""
    return digest(_sources_of(where, dotted)[-1], dotted.rpartition(".")[0])


def _sources_of(where: str, dotted: str) -> list[str]:
    """Return the file of the module in which `dotted` stands, after those of its packages."""
    module_name = dotted.rpartition(".")[0]
    files = find_source(module_name)
    if not files:
        raise UserError(f"{where}={dotted}: no module named {module_name} here or on the import path")
    if not files[-1].endswith(".py"):
        raise UserError(f"{where}={dotted}: {module_name} is not a Python source file")
    return files


def _statements(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(Path(source).read_bytes()).body
    except SyntaxError as error:  # Python would not import it either
        raise UserError(unread_source(error, source)) from None
    except (OSError, ValueError):
        return [ast.Pass()]  # something, and nothing that imports mbexp


def _is_empty(source: str) -> bool:
    """Whether a source holds nothing but texts, such as what it says of itself."""
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in _statements(source))


def _imports_mbexp(source: str) -> bool:
    if is_of_mbexp(source):
        return True
    for node in (inner for statement in _statements(source) for inner in ast.walk(statement)):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "mbexp" for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "mbexp":
            return True
    return False
