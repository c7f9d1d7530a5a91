"""Pages whose commands are executed, in one folder and in their order, and whose outputs are those that they show.

In a code block of such a page a line that begins with ``python -m mbexp`` is a command. A block that begins with
``# my_...py``, or follows a paragraph that names such a file in backticks, is that file. A plain block right after one
of commands is what the last of them prints. ``>>>`` is an example of Python, which `doctest` runs.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mbexp.figures import registry
from tests import ROOT
from tests.test_bring_your_own import ROWS

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$|((?:^ {4}\S[^\n]*\n?)+)", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"`(my_\w+\.py)`")


@dataclass(frozen=True)
class Step:
    """A command with what it prints (empty: not shown), a file with its text, or an example of Python."""

    kind: str
    text: str
    shown: str = ""


def steps(page: str) -> list[Step]:
    """Return what a page has its reader do."""
    found: list[Step] = []
    end = 0
    for block in BLOCK.finditer(page):
        text = block[2] if block[2] is not None else "".join(line[4:] + "\n" for line in block[3].splitlines())
        before, end = page[end : block.start()], block.end()
        commands = [line for line in text.replace("\\\n", " ").splitlines() if line.startswith("python -m mbexp")]
        named = re.match(r"# (my_\w+\.py)\n", text) or FILE.search(before.strip().rpartition("\n\n")[2])
        if commands:
            found += [Step("command", line) for line in commands]
        elif text.startswith(">>>"):
            found.append(Step("example", text))
        elif named:
            found.append(Step("file", text, named[1]))
        elif found and found[-1].kind == "command" and not block[1] and len(before.split()) < 20:
            found[-1] = Step("command", found[-1].text, text)
    return found


def execute(command: str) -> str:
    """Run a command of a page in this process and return what it prints; it must end well."""
    import mbexp.cli.main
    import mbexp.figures.__main__

    module, *words = shlex.split(command)[2:]
    assert module in ("mbexp", "mbexp.figures"), command
    printed = io.StringIO()
    code: object = 0
    with contextlib.redirect_stdout(printed), pytest.MonkeyPatch.context() as patch:
        if module == "mbexp":
            patch.setattr(
                sys, "argv", ["mbexp", *words, *(["hydra/launcher=basic"] if {"-m", "-cn"} & {*words} else [])]
            )
            try:
                mbexp.cli.main.main()
            except SystemExit as stop:
                code = stop.code
        else:
            code = mbexp.figures.__main__.main(words)
    assert not code, f"{command}: {code}"
    return printed.getvalue()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the reader's, with the trace that the pages speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_FOUND", registry.figures())  # figures of the page are forgotten at the end
    rng = np.random.default_rng(7)
    output = rng.integers(5, 300, ROWS)
    pd.DataFrame(
        {
            "arrival_s": np.arange(ROWS) * 0.5,
            "prompt_tokens": rng.integers(5, 400, ROWS),
            "output_tokens": output,
            "predicted": np.maximum(output + rng.integers(-20, 20, ROWS), 1),
        }
    ).to_parquet("trace.parquet")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


@pytest.mark.parametrize(("page", "commands"), [("figures.md", 3), ("predictors.md", 4)])
def test_every_command_of_the_page_runs_and_prints_what_is_shown(page: str, commands: int, folder: Path) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    todo = steps(text)
    assert sum(step.kind == "command" for step in todo) == commands
    assert any(step.kind == "file" for step in todo)
    for step in todo:
        if step.kind == "file":
            (folder / step.shown).write_text(step.text)
        elif step.kind == "example":
            example = doctest.DocTestParser().get_doctest(step.text, {}, page, page, 0)
            report = io.StringIO()
            result = doctest.DocTestRunner().run(example, out=report.write)
            assert (result.failed, result.attempted > 0) == (0, True), report.getvalue()
        else:
            printed = execute(step.text)
            for line in step.shown.splitlines():
                assert line in printed.splitlines(), f"{step.text} prints\n{printed}"
    if page == "figures.md":
        drawn = {path.name for path in (folder / "outputs" / "selection" / "figures").iterdir()}
        assert {"my_runs.pdf", "lines_ttft_p99_s_over_workload.arrivals.rate_per_s.pdf"} <= drawn
    else:
        check_the_table_of_gains(text, pd.read_csv(folder / "outputs" / "prediction_error" / "verdicts.csv"),
                                 pd.read_csv(folder / "outputs" / "prediction_error" / "results.csv"))  # fmt: skip


def check_the_table_of_gains(page: str, told: pd.DataFrame, results: pd.DataFrame) -> None:
    """Compare each cell of the table with the stored study."""
    rows = re.findall(r"^\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| (\d+) % \| (.*?) \|$", page, flags=re.MULTILINE)
    assert [float(row[0]) for row in rows] == [0, 0.25, 0.5, 1, 2, 4]
    for sigma, error, tau, misbinned, gain in rows:
        one = told[told["predictor.sigma"] == float(sigma)].iloc[0]
        assert (one["first"], one["second"]) == ("multi_bin_static", "static_fifo")
        values = [one[f"relative_{end}pct"] for end in ("", "low_", "high_")]
        assert gain == "{:+.1f} % ({:+.1f} to {:+.1f} %)".format(*values)
        mine = (results["predictor.sigma"] == float(sigma)) & (results["scheduler"] == "multi_bin_static")
        run = results[mine].iloc[0]
        assert f"{run['prediction_mae_log']:.2f}" == error
        assert f"{run['prediction_kendall_tau']:.2f}" == tau
        assert f"{run['misbin_pct']:.0f}" == misbinned


def test_what_the_checks_find() -> None:
    page = (
        "Run it:\n\n    python -m mbexp a=1\n\nIt prints:\n```\nfour\n```\n\nPut this into `my_x.py`.\n"
        "```python\nimport mbexp\n```\n```\npython -m mbexp b=1 \\\n  c=2\n```\n```python\n>>> 1\n1\n```\n"
    )
    assert steps(page) == [
        Step("command", "python -m mbexp a=1", "four\n"), Step("file", "import mbexp\n", "my_x.py"),
        Step("command", "python -m mbexp b=1    c=2"), Step("example", ">>> 1\n1\n"),
    ]  # fmt: skip
