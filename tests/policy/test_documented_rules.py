"""The rules of one's own that README.md and docs/policies.md show run as they stand there, by their commands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

PAGES = ("README.md", "docs/policies.md")


def rules_of(page: str) -> str:
    """Return the Python blocks of a page that define a rule."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    return "\n\n".join(block for block in blocks if "mbexp.rules" in block)


def commands_of(page: str) -> list[str]:
    """Return the commands of a page that name such a rule."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^ *python -m mbexp (.*my_rules\..*)$", text, re.MULTILINE)


@pytest.mark.parametrize(("page", "command"), [(page, command) for page in PAGES for command in commands_of(page)])
def test_a_documented_rule_runs(page: str, command: str, tmp_path: Path) -> None:
    (tmp_path / "my_rules.py").write_text(rules_of(page), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mbexp", *command.split(), "num_requests=200"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "200 completed" in done.stdout or "3 runs" in done.stdout


def test_there_are_such_rules() -> None:
    assert [len(commands_of(page)) for page in PAGES] == [1, 3]
