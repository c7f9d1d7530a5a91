"""Small bugs planted into copies of mbexp, and the runs of named tests that must catch each.

`python -m tests.simulator.plants` runs more tests on every plant and rewrites the tables of docs/plants.md, or with
`batches` or `continuous` the table of that loop.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from mbexp.sweep.crew import cores
from tests import ROOT

PAGE = ROOT / "docs" / "plants.md"

LOOPS = ("batches", "continuous")  # folders beside this file, each with plants and corner cases of its own

PASSED, CAUGHT, HUNG = 0, 1, -signal.SIGALRM  # exit statuses of a test's process


@dataclass(frozen=True)
class Plant:
    """One bug: in `file`, the text `old`, found there once, becomes `new`.

    `corners_test` must then fail at the corner case `corner`.
    """

    corners_test: str
    name: str
    file: str
    old: str
    new: str
    corner: str

    @property
    def caught_by(self) -> str:
        return f"{self.corners_test}[{self.corner}]"


# Runs inside a child: loads what is slow and not ours, then a fork of it for each plant imports the changed copy.
RUNNER = """
import os, signal, sys
import hypothesis, numba, numpy, pyarrow, pytest, scipy.stats
hypothesis.settings.register_profile(
    "plants", phases=[hypothesis.Phase.generate], database=None, derandomize=True, deadline=None
)
hypothesis.settings.load_profile("plants")
root, limit_s, cores = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
jobs = [line.split("\\t") for line in sys.stdin.read().splitlines()]
children = {}
def reap():
    child, status = os.wait()
    print(*children.pop(child), os.waitstatus_to_exitcode(status), sep="\\t", flush=True)
for folder, *tests in jobs:
    for test in tests:
        if len(children) == cores:
            reap()
        child = os.fork()
        if child == 0:
            status = 99
            try:
                signal.alarm(limit_s)
                os.chdir(os.path.join(root, folder))
                sys.path.insert(0, os.getcwd())
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, 1)
                os.dup2(null, 2)
                import mbexp
                assert mbexp.__file__.startswith(os.getcwd()), mbexp.__file__
                status = pytest.main(["-o", "addopts=", "-x", "-q", "-p", "no:cacheprovider", "--assert=plain", test])
            finally:
                os._exit(status)
        children[child] = folder, test
while children:
    reap()
"""


def copy_with(plant: Plant | None, folder: Path) -> None:
    """Copy the package and its tests into `folder`, changed by `plant`."""
    hidden = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc")
    for name in ("mbexp", "tests", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=hidden)
    shutil.copy(ROOT / "pyproject.toml", folder)
    if plant is not None:
        path = folder / "mbexp" / plant.file
        text = path.read_text(encoding="utf-8")
        if text.count(plant.old) != 1:
            raise AssertionError(f"{plant.name}: {plant.old!r} is {text.count(plant.old)} times in {plant.file}")
        path.write_text(text.replace(plant.old, plant.new), encoding="utf-8")


def run(
    tests: Mapping[Plant | None, Sequence[str]], cases: int = 200, limit_s: int = 120
) -> dict[tuple[Plant | None, str], int]:
    """Run tests on plants (None: the package as it is) without Numba, `cases` drawn ones where a test draws them.

    Returns
    -------
    dict
        What became of each: `PASSED`, `CAUGHT` (the test failed) or `HUNG` (it was stopped after `limit_s` seconds).
    """
    plants = list(tests)
    with tempfile.TemporaryDirectory() as root:
        for number, plant in enumerate(plants):
            copy_with(plant, Path(root) / str(number))
        lines = ["\t".join([str(number), *tests[plant]]) for number, plant in enumerate(plants)]
        done = subprocess.run(
            [sys.executable, "-c", RUNNER, root, str(limit_s), str(cores())],
            input="\n".join(lines),
            capture_output=True,
            text=True,
            check=True,
            env=os.environ
            | {"NUMBA_DISABLE_JIT": "1", "MBEXP_REFERENCE_CASES": str(cases)}
            | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        )
    status = {}
    for line in done.stdout.splitlines():
        number, test, code = line.split("\t")
        assert int(code) in (PASSED, CAUGHT, HUNG), f"{line}: pytest could not run the test"
        status[plants[int(number)], test] = int(code)
    return status


def table(plants: Sequence[Plant], others: Sequence[str], cases: int) -> str:
    """Run every test on every plant of a loop and return its table of the page."""
    corners_test = plants[0].corners_test
    wanted = [corners_test, *others]
    status = run(dict.fromkeys([None, *plants], wanted), cases, limit_s=900)
    broken = [test for test in wanted if status[None, test] != PASSED]
    if broken:
        raise AssertionError(f"these fail without a plant: {broken}")
    lines = ["| planted bug | in `mbexp/` | caught by the corner case | and by |", "|---|---|---|---|"]
    for plant in plants:
        caught = [test.partition("::")[2] for test in wanted if status[plant, test] == CAUGHT]
        caught.remove(corners_test.partition("::")[2])
        lines.append(
            f"| {plant.name} | `{plant.file}` | {plant.corner} | {', '.join(f'`{name}`' for name in caught) or '-'} |"
        )
    return "\n".join(lines) + "\n"


def main(loops: Sequence[str]) -> None:
    """Rewrite the tables of the page; each ends the section of its loop."""
    sections = PAGE.read_text(encoding="utf-8").split("\n## ")
    for loop in loops or LOOPS:
        own = import_module(f"tests.simulator.{loop}.plants")
        place = 1 + LOOPS.index(loop)
        sections[place] = sections[place].partition("| planted bug |")[0] + table(own.PLANTS, own.OTHERS, own.CASES)
    PAGE.write_text("\n## ".join(sections), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
