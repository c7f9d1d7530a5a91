"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from mbexp.paths import cache_dir
from mbexp.workload.trace import Trace
from tests import SHARED

# The same cases every time, so that a build fails for what it changed; MBEXP_FUZZ_RANDOM=1 looks for new ones.
settings.register_profile("mbexp", derandomize="MBEXP_FUZZ_RANDOM" not in os.environ, deadline=None)
settings.load_profile("mbexp")

# Files that take longest, in order: one of them begun last would leave the other cores idle.
LONGEST = (
    "sweep/test_studies.py",
    "test_bring_your_own.py",
    "sweep/test_runs.py",
    "simulator/test_plants.py",
    "simulator/continuous/test_agreement.py",
    "test_to_add.py",
    "test_notebooks.py",
    "simulator/batches/test_agreement.py",
    "test_docs_commands.py",
    "figures/test_plots.py",
    "cli/test_cli.py",
    "sweep/test_points.py",
    "cli/test_manners.py",
    "sweep/test_faults.py",
)
MANY_TESTS = 300  # a run of so many needs every loop
# A simulation that compiles each loop, those that take longest first.
LOOPS: dict[str, dict[str, object]] = {
    "extended": {"execution": "vllm", "workload": "sessions"},
    "ordered": {"execution": "continuous", "scheduler.order": "sjf"},
    "continuous": {"execution": "continuous"},
    "batches": {},
    "batches_turns": {"workload": "sessions"},
    "batches_ordered": {"scheduler.order": "sjf"},
}

SHARED_TRACES = SHARED / "traces"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, then those of most tests."""
    folder = Path(__file__).parent
    name_of = {item.path: Path(os.path.relpath(item.path, folder)).as_posix() for item in items}
    tests = Counter(item.path for item in items)
    place = {name: at for at, name in enumerate(LONGEST)}
    first = {path: at for at, path in enumerate(name_of)}
    items.sort(key=lambda item: (place.get(name_of[item.path], len(place)), -tests[item.path], first[item.path]))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Have each worker compile other loops, where several would otherwise all compile the same ones at once."""
    base = cache_dir()
    if "PYTEST_XDIST_WORKER" not in os.environ or base is None or len(session.items) < MANY_TESTS:
        return
    if "NUMBA_DISABLE_JIT" in os.environ:
        return
    import fcntl

    from mbexp import simulate

    base.mkdir(parents=True, exist_ok=True)
    for wait in (False, True):  # once for those that nobody compiles, then until all are there
        for name, keys in LOOPS.items():
            with (base / f"compiling_{name}.lock").open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                except BlockingIOError:
                    continue
                simulate(**{"workload": "synthetic", "num_requests": 2, "scheduler": "static_fifo", **keys})


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test the same width of the terminal, and take back what it adds to the import path."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def shared_trace() -> Callable[[str], Path]:
    """Return the path of a real trace, or skip the test where it is not at hand."""

    def find(name: str) -> Path:
        path = SHARED_TRACES / name
        if not path.is_file():
            pytest.skip(f"{name} is not in {SHARED_TRACES}")
        return path

    return find


@pytest.fixture
def make_trace() -> Callable[..., Trace]:
    """Build a trace from plain lists; prompts default to one token."""

    def make(arrival_s: list[float], output_tokens: list[int], prompt_tokens: list[int] | None = None) -> Trace:
        prompts = [1] * len(arrival_s) if prompt_tokens is None else prompt_tokens
        return Trace(
            np.array(arrival_s, np.float64), np.array(prompts, np.int32), np.array(output_tokens, np.int32), "test"
        )

    return make


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process, in a folder of its own; return exit code, output and errors."""
    from mbexp.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mbexp", *words])
        code: object = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
            if isinstance(code, str):  # what the interpreter does with a message
                print(code, file=sys.stderr)
                code = 1
        logging.getLogger().handlers.clear()  # Hydra's write to what this test takes for the terminal
        shown = capsys.readouterr()
        return int(str(code or 0)), shown.out, shown.err

    return run
