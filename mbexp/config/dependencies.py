"""What a user's module depends on: the modules it imports from outside installed packages, and the files it names.

It is read from the sources, without running them, so that a run has its key before anything of the user's is imported.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from mbexp.errors import UserError

DECLARED = "MBEXP_INPUTS"  # a module's list of files that it reads under names which do not stand in it
_PACKAGE = Path(__file__).resolve().parent.parent
_STANDARD = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
_INSTALLED = ("site-packages", "dist-packages")
_LONGEST_PATH = 1024


def find_source(module: str, near: Path | None = None) -> list[str]:
    """Return the files that importing `module` runs, its packages' first; empty where there is no such module.

    Each level is located without importing its parents. `near` is a folder to look in last, after the import path and
    the current folder.
    """
    path: list[str] | None = [*sys.path, os.getcwd(), *([str(near)] if near else [])]
    files: list[str] = []
    for part in module.split("."):
        spec = importlib.machinery.PathFinder.find_spec(part, path)
        if spec is None:
            return []
        if spec.origin:  # a folder without __init__.py has none
            files.append(spec.origin)
        path = list(spec.submodule_search_locations) if spec.submodule_search_locations else None
    return files if spec is not None and spec.origin else []


def is_of_mbexp(source: str | Path) -> bool:
    """Whether a file belongs to this package."""
    return Path(source).resolve().is_relative_to(_PACKAGE)


def digest(source: str | Path, module: str) -> str:
    """Return a hash of a module's source and of all that it depends on; of a file that stands alone, the file's own.

    Parameters
    ----------
    source
        The module's file.
    module
        Its dotted name, which relative imports start from.

    Raises
    ------
    UserError
        If a file that a module declares as its input is not there.
    """
    whole = hashlib.sha256(Path(source).read_bytes())
    for name, path in sorted(dependencies(source, module).items()):
        with path.open("rb") as file:
            whole.update(f"\0{name}\0".encode() + hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def dependencies(source: str | Path, module: str) -> dict[str, Path]:
    """Return what a module depends on besides itself: files by the name of the module, or by the text that names them.

    Followed are imports anywhere in the source, of modules that are neither installed packages nor Python's own nor
    mbexp's; and, in each of these modules, every text that is the path of a file, from the current folder or from the
    module's.
    """
    own = Path(source).resolve()
    found: dict[str, Path] = {}
    seen = {own}
    waiting = [(own, module)]
    for place, package in enumerate(find_source(module)[:-1]):  # packages' __init__.py run first
        _add(Path(package), ".".join(module.split(".")[: place + 1]), seen, found, waiting)
    while waiting:
        file, name = waiting.pop()
        if file.suffix != ".py":  # an extension module: its bytes are all there is to follow
            continue
        tree = _parsed(file)
        for imported in _imports(tree, name, file.name == "__init__.py"):
            parts = imported.split(".")
            for place, path in enumerate(find_source(imported, file.parent)):
                _add(Path(path), ".".join(parts[: place + 1]), seen, found, waiting)
        found |= _inputs(tree, file)
    found.pop(module, None)
    return found


def _add(path: Path, name: str, seen: set[Path], found: dict[str, Path], waiting: list[tuple[Path, str]]) -> None:
    path = path.resolve()
    installed = any(folder in path.parts for folder in _INSTALLED) or any(map(path.is_relative_to, _STANDARD))
    if path not in seen and not installed and not path.is_relative_to(_PACKAGE) and path.is_file():
        seen.add(path)
        found[name] = path
        waiting.append((path, name))


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # importing it will say so
        return ast.Module([], [])


def _imports(tree: ast.Module, module: str, is_package: bool) -> Iterator[str]:
    """Give the dotted name of every module that a source may import."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base:
                yield base
            # each name may be a module of that package
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names if alias.name != "*")
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value.lstrip(".")


def _inputs(tree: ast.Module, file: Path) -> dict[str, Path]:
    """Return the files that texts of a source name."""
    found: dict[str, Path] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            path = _named(node.value, file.parent)
            if path is not None and path != file:
                found[node.value] = path
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and any(getattr(one, "id", "") == DECLARED for one in statement.targets):
            for text in _declared(statement.value, file):
                if _named(text, file.parent) is None:
                    raise UserError(f"{file}: {DECLARED} names {text}, which is neither there nor in {os.getcwd()}")
    return found


def _declared(value: ast.expr, file: Path) -> list[str]:
    try:
        texts = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError):
        texts = None
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{file}: {DECLARED} must be a list of paths written out, such as ['costs.csv']")
    return list(texts)


def _named(text: str, folder: Path) -> Path | None:
    """Return the file that a text names, from the current folder or from its module's."""
    if not text or len(text) > _LONGEST_PATH or "\n" in text or "\0" in text:
        return None
    for path in (Path(text), folder / text):
        try:
            if path.is_file():
                return path.resolve()
        except OSError:  # a name longer than this file system has
            return None
    return None
