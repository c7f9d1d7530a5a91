"""How commands end: one mechanism for all of them, and never a traceback of what the user did."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

COMMANDS = sorted(path for path in (ROOT / "mbexp").rglob("*.py") if '__name__ == "__main__"' in path.read_text())


def program(body: str) -> subprocess.CompletedProcess[str]:
    """Run a program whose main function has this body."""
    code = f"from mbexp.errors import UserError, as_program\ndef main():\n    {body}\nas_program(main)\n"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("body", "code", "out", "err"),
    [
        ("print('done')", 0, "done\n", ""),
        ("print('done'); return 3", 3, "done\n", ""),
        ("raise SystemExit('one line')", 1, "", "one line\n"),
        ("raise UserError('num_gpu: unknown key')", 1, "", "mbexp: num_gpu: unknown key\n"),
        ("raise KeyboardInterrupt", 130, "", "mbexp: interrupted\n"),
        ("print('a'); raise BrokenPipeError", 141, "a\n", ""),
    ],
)
def test_an_ending(body: str, code: int, out: str, err: str) -> None:
    done = program(body)
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)


def test_a_bug_is_shown() -> None:
    assert "ZeroDivisionError" in program("1 / 0").stderr


@pytest.mark.parametrize("words", [["mbexp.download", "--list"], ["mbexp.gpus", "--help"], ["mbexp.capacity"]])
def test_a_reader_that_has_gone(words: list[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == ""
        assert child.wait(60) in (0, 141)  # argparse itself says nothing of a help text that nobody reads


@pytest.mark.parametrize(
    ("module", "imported"), [("mbexp", "hydra"), ("mbexp.gpus", "argparse"), ("mbexp.runs", "numpy")]
)
def test_an_interrupt_while_a_command_imports(module: str, imported: str, tmp_path: Path) -> None:
    (tmp_path / f"{imported}.py").write_text("raise KeyboardInterrupt")
    done = subprocess.run(
        [sys.executable, "-m", module],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "mbexp: interrupted\n")


def test_a_program_that_imports_mbexp_ends_in_its_own_way() -> None:
    code = "import mbexp\nraise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_ends_so(path: Path) -> None:
    assert re.search(r'if __name__ == "__main__":\n    (as_program\(main\)|start\(\))\n', path.read_text())


@pytest.mark.parametrize("width", [80, 100])
def test_warnings_of_a_sweep_fit_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from mbexp.sweep.ending import _warnings

    monkeypatch.setenv("COLUMNS", str(width))
    rows = [{"run": name, "warnings": "extrapolation: " + "a word " * 40} for name in ("one", "two")]
    lines = [line for line in _warnings(rows, [], []) if line]
    assert width - 10 < max(map(len, lines)) <= width
