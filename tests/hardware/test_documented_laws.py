"""The laws of one's own that docs/gpu_laws.md shows run as they stand there, by their commands."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

TEXT = (ROOT / "docs" / "gpu_laws.md").read_text(encoding="utf-8")
LAWS = "\n\n".join(block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "mbexp.rules" in block)
COMMANDS = re.findall(r"^python -m mbexp (.*my_laws\..*)$", TEXT, re.MULTILINE)
NOTE = "attention beside prompts is a guess"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_documented_law_runs(command: str, tmp_path: Path) -> None:
    (tmp_path / "my_laws.py").write_text(LAWS, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mbexp", *shlex.split(command), "num_requests=200"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "200 completed" in done.stdout
    (summary,) = tmp_path.glob("outputs/*/summary.json")
    said = json.loads(summary.read_text(encoding="utf-8"))["warnings"]
    assert (NOTE in said) == ("both" in command and "continuous" in command)
    assert "without meaning" not in said
    assert "extrapolation" not in said


def test_there_are_such_laws() -> None:
    assert len(COMMANDS) == 4
