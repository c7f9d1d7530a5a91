"""The notebooks run from the first cell to the last, as a user would run them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


def test_there_are_four() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["first_simulation", "how_many_gpus", "own_rule", "study"]


# The build of the site, which CI makes, runs all of them; the fast tests run two.
SLOW = ("how_many_gpus", "own_rule")
CASES = [pytest.param(path, marks=[pytest.mark.slow] * (path.stem in SLOW), id=path.stem) for path in NOTEBOOKS]


@pytest.mark.parametrize("notebook", CASES)
def test_a_notebook_runs(notebook: Path, tmp_path: Path) -> None:
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed (group notebooks)")
    pytest.importorskip("nbmake", reason="nbmake is not installed (group notebooks)")
    path = tmp_path / f"{notebook.stem}.ipynb"
    jupytext.write(jupytext.read(notebook), path)
    # a process of its own: its kernel must not meet the settings of this test run
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbmake",
        "--nbmake-timeout=120",
        "--overwrite",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, "-c", "/dev/null", "--rootdir", str(tmp_path), str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "1 passed" in done.stdout
    executed = jupytext.read(path)
    outputs = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1, "a figure did not show"
    assert not any(output.get("name") == "stderr" for output in outputs), "a cell wrote to the error stream"
