"""What a rule of the user's depends on, and what follows it: keys, machine code, and the guard on what may be run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mbexp import UserError, configure
from mbexp.config.dependencies import dependencies, digest
from mbexp.config.plugins import load_object
from mbexp.results.store import run_key

Write = Callable[[dict[str, str]], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that writes files into the current folder, which is the test's own."""
    monkeypatch.chdir(tmp_path)

    def files(texts: dict[str, str]) -> Path:
        for name, text in texts.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return files


def followed(source: str, module: str) -> set[str]:
    return {path.relative_to(Path.cwd()).as_posix() for path in dependencies(source, module).values()}


def test_imports_are_followed_wherever_they_stand_and_whatever_their_form(write: Write) -> None:
    write(
        {
            "rule.py": "import mbexp, os, numpy\nimport one\nfrom two import x\nfrom pack.inner import deep\n"
            "def f():\n    import late\n    __import__('named')\n",
            "one.py": "import three\nimport rule  # a circle\n",
            "two.py": "", "three.py": "", "late.py": "", "named.py": "", "unused.py": "",
            "pack/__init__.py": "from . import side\n", "pack/side.py": "from .inner import deep\n",
            "pack/inner/__init__.py": "", "pack/inner/deep.py": "from ..side import y\nfrom ...beyond import z\n",
        }
    )  # fmt: skip

    assert followed("rule.py", "rule") == {
        "one.py", "two.py", "three.py", "late.py", "named.py",
        "pack/__init__.py", "pack/side.py", "pack/inner/__init__.py", "pack/inner/deep.py",
    }  # fmt: skip


def test_a_module_of_a_package_depends_on_what_runs_before_it(write: Write) -> None:
    write({"pack/__init__.py": "import other\n", "pack/rule.py": "import mbexp\nfrom .near import x\n",
           "pack/near.py": "", "other.py": ""})  # fmt: skip

    assert followed("pack/rule.py", "pack.rule") == {"pack/__init__.py", "pack/near.py", "other.py"}


def test_files_are_followed_where_a_text_names_them(write: Write) -> None:
    write({"sub/rule.py": "import mbexp\nX = open('costs.csv').read()\nY = 'here.csv'\nZ = 'nowhere.csv'\n",
           "sub/costs.csv": "1", "here.csv": "2", "else.csv": "3"})  # fmt: skip

    assert followed("sub/rule.py", "sub.rule") == {"sub/costs.csv", "here.csv"}


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("['gone.csv']", "MBEXP_INPUTS names gone.csv, which is neither there nor in"),
        ("list_of()", "MBEXP_INPUTS must be a list of paths written out"),
        ("[1]", "MBEXP_INPUTS must be a list of paths written out"),
    ],
)
def test_an_input_that_is_declared_must_be_there(declared: str, message: str, write: Write) -> None:
    write({"rule.py": f"import mbexp\nMBEXP_INPUTS = {declared}\n"})

    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        run_key(configure(**{"scheduler.selection": "rule.pick"}), "t")


@pytest.mark.parametrize("changed", ["rule.py", "helper.py", "deeper.py", "costs.csv"])
def test_a_key_follows_all_that_a_rule_depends_on(changed: str, write: Write) -> None:
    folder = write({"rule.py": "import mbexp\nfrom helper import cost\nMBEXP_INPUTS = ['costs.csv']\n",
                    "helper.py": "import deeper\n", "deeper.py": "cost = 1\n", "costs.csv": "1\n"})  # fmt: skip
    mine = configure(**{"scheduler.selection": "rule.pick"})
    before = run_key(mine, "t")
    assert run_key(mine, "t") == before

    with (folder / changed).open("a") as file:
        file.write("# 2\n")

    assert run_key(mine, "t") != before


def test_the_key_of_a_rule_that_stands_alone_is_that_of_its_file(write: Write) -> None:
    """Runs that are stored already keep their names."""
    import hashlib

    folder = write({"rule.py": "import mbexp\nimport numpy\n"})

    assert digest("rule.py", "rule") == hashlib.sha256((folder / "rule.py").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("init", "runs"), [("", True), ('"""Only words."""\n', True), ("import mbexp\n", True), ("print('ran')\n", False)]
)
def test_what_importing_a_rule_would_run_must_import_mbexp(init: str, runs: bool, write: Write) -> None:
    folder = write({f"pack_{len(init)}/__init__.py": init, f"pack_{len(init)}/rule.py": "import mbexp\nx = 1\n"})
    name = f"pack_{len(init)}.rule.x"

    if runs:
        assert load_object("key", name) == 1
    else:
        with pytest.raises(UserError, match=r"__init__.py would be run and does not import mbexp, so it is not run"):
            load_object("key", name)
    sys.path[:] = [each for each in sys.path if each != str(folder)]


def test_a_folder_whose_name_begins_like_the_packages_is_not_the_package(write: Write) -> None:
    from mbexp.config.plugins import _imports_mbexp
    from mbexp.paths import config_dir

    assert _imports_mbexp(str(Path(load_object.__code__.co_filename)))
    assert not _imports_mbexp(f"{config_dir().parent / 'mbexp'}_rules/rule.py")
