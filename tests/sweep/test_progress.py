"""Progress: counts what is stored and what failed, as lines or as a bar."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from mbexp.sweep import progress as module
from mbexp.sweep.plan import CLAIMS, FAILED, Plan, Run
from mbexp.sweep.progress import Progress
from tests.sweep.test_plan import store_run

VALUES = {"output": {"requests": False}, "replications": 1, "num_requests": 10}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def store(folder: Path, key: str, plan: str = "plan-now") -> None:
    store_run(folder / key, plan)


def fail(folder: Path, key: str, plan: str = "plan-now") -> None:
    (folder / FAILED).mkdir(exist_ok=True)
    (folder / FAILED / f"{key}.log").write_text(f"why\n{plan}\n")


def progress_of(folder: Path, keys: str, stream: io.StringIO | None = None, force: bool = False) -> Progress:
    runs = [Run(key, (f"num_gpus={place}",), VALUES, "") for place, key in enumerate(keys)]
    return Progress(Plan(folder, runs, [*keys], force, []), range(len(runs)), "plan-now", stream or io.StringIO())


def test_stored_and_failed_runs_are_counted(tmp_path: Path) -> None:
    progress = progress_of(tmp_path, "abcd")
    store(tmp_path, "a")
    store(tmp_path, "unknown")
    fail(tmp_path, "b")
    (tmp_path / "c").mkdir()  # not complete

    progress.look()

    assert (progress.done, progress.failed) == ({"a"}, {"b"})
    assert progress.line().startswith("1 of 4 runs done, 1 failed, about 0 s left")


def test_the_time_left_is_told_from_the_work_left(tmp_path: Path) -> None:
    progress = progress_of(tmp_path, "ab")
    progress.weights = {"a": 1.0, "b": 3.0}
    progress._began = time.monotonic() - 100
    store(tmp_path, "a")

    progress.look()

    assert progress.line() == "1 of 2 runs done, about 5 min left"


@pytest.mark.parametrize("earlier", ["plan-before", "plan-now"])
def test_what_an_earlier_plan_left_does_not_count_where_all_is_made_again(earlier: str, tmp_path: Path) -> None:
    store(tmp_path, "a", earlier)
    fail(tmp_path, "b", earlier)
    progress = progress_of(tmp_path, "ab", force=True)
    progress.look()

    assert (progress.done, progress.failed) == (({"a"}, {"b"}) if earlier == "plan-now" else (set(), set()))


def test_a_run_that_takes_long_is_named_again_each_time_that_has_doubled(tmp_path: Path) -> None:
    progress = progress_of(tmp_path, "ab")
    (tmp_path / CLAIMS).mkdir(parents=True)
    (tmp_path / CLAIMS / "b").touch()
    assert progress.long_runs() == []

    said = []
    for minutes in (9, 10, 11, 19, 20, 30, 41):
        progress._began_run["b"] = time.monotonic() - 60 * minutes
        said += progress.long_runs()
    assert [line.partition(";")[0] for line in said] == [
        f"run b (num_gpus=1) has taken {minutes} min" for minutes in (10, 20, 41)
    ]
    (tmp_path / CLAIMS / "b").unlink()
    assert progress.long_runs() == []


def test_lines_where_there_is_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.01)
    monkeypatch.setattr(module, "LINE_EVERY_S", 0.03)
    stream = io.StringIO()
    with progress_of(tmp_path, "ab", stream):
        store(tmp_path, "a")
        deadline = time.monotonic() + 10
        while "1 of 2" not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)

    assert "1 of 2 runs done, about" in stream.getvalue()
    assert "\r" not in stream.getvalue()


def test_a_bar_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.01)
    stream = Terminal()
    with progress_of(tmp_path, "abc", stream):
        store(tmp_path, "a")
        fail(tmp_path, "b")
        deadline = time.monotonic() + 10
        while "2 of 3 runs" not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)

    assert "2 of 3 runs" in stream.getvalue()
    assert "1 failed" in stream.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(3, "3 s"), (89, "89 s"), (150, "2 min"), (9000, "2.5 h")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert module._duration(seconds) == text
