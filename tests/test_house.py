"""The layout of the package: rooms in one order, no circle of imports, a root that tells the story."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests import ROOT

PACKAGE = ROOT / "mbexp"


def floors() -> list[list[str]]:
    """Return the rooms of each floor, from the ground up, as CONTRIBUTING.md lists them."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return [re.findall(r"`(\w+)`", rooms) for rooms in re.findall(r"^\| \d+ \| ([^|]+) \|", page, re.MULTILINE)]


# A room may import from floors below its own, and from itself.
LEVEL = {room: level for level, rooms in enumerate(floors()) for room in rooms}


def imports() -> dict[str, set[str]]:
    """Return the modules that each module imports anywhere in it, those for type checkers included."""
    modules = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        modules[name.removesuffix(".__init__")] = path
    found: dict[str, set[str]] = {}
    for name, path in modules.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names if alias.name in modules}
            elif isinstance(node, ast.ImportFrom) and node.module:
                named = {f"{node.module}.{alias.name}" for alias in node.names}
                found[name] |= {one if one in modules else node.module for one in named} & set(modules)
    return found


def room_of(module: str) -> str:
    """Return the folder or the module at the root that a module belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def test_every_arrow_between_rooms_runs_downwards() -> None:
    wrong = {
        f"{module} -> {target}"
        for module, targets in imports().items()
        for target in targets
        if room_of(module) != room_of(target) and LEVEL[room_of(target)] >= LEVEL[room_of(module)]
    }
    assert not wrong


def test_no_circle_of_imports() -> None:
    left = imports()
    while left:
        free = {module for module, targets in left.items() if not targets & (left.keys() - {module})}
        assert free, f"a circle among {sorted(left)}"
        left = {module: targets for module, targets in left.items() if module not in free}


def test_every_room_has_its_floor_and_the_root_is_short() -> None:
    names = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert names == set(LEVEL)
    assert len(list(PACKAGE.glob("*.py"))) <= 13


def test_modules_are_of_a_size_that_is_read_at_once() -> None:
    long = {path.name: lines for path in PACKAGE.rglob("*.py") if (lines := path.read_text().count("\n")) > 400}
    assert not long


def test_folders_of_tests_are_rooms() -> None:
    folders = {path.name for path in Path(__file__).parent.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders - {"golden"} <= set(LEVEL)
