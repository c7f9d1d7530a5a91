"""Progress: counts what is stored and what failed, as lines or as a bar."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from mbexp.sweep import progress as module
from mbexp.sweep.plan import FAILED
from mbexp.sweep.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def store(folder: Path, key: str) -> None:
    (folder / key).mkdir()
    (folder / key / "summary.json").write_text("{}")


def fail(folder: Path, key: str) -> None:
    (folder / FAILED).mkdir(exist_ok=True)
    (folder / FAILED / f"{key}.log").write_text("why")


def test_stored_and_failed_runs_are_counted(tmp_path: Path) -> None:
    progress = Progress(tmp_path, {"a": 1.0, "b": 1.0, "c": 2.0, "d": 4.0}, None, 0, io.StringIO())
    store(tmp_path, "a")
    store(tmp_path, "unknown")
    fail(tmp_path, "b")
    (tmp_path / "c").mkdir()  # not complete

    progress.look()

    assert (progress.done, progress.failed) == ({"a"}, {"b"})
    assert progress.line().startswith("1 of 4 runs done, 1 failed, about 0 s left")


def test_the_time_left_is_told_from_the_work_left(tmp_path: Path) -> None:
    progress = Progress(tmp_path, {"a": 1.0, "b": 3.0}, None, 0, io.StringIO())
    progress._began = time.monotonic() - 100
    store(tmp_path, "a")

    progress.look()

    assert progress.line() == "1 of 2 runs done, about 5 min left"


def test_what_was_there_before_does_not_count_where_all_is_made_again(tmp_path: Path) -> None:
    store(tmp_path, "a")
    fail(tmp_path, "b")
    now = time.time_ns() + 10**9

    progress = Progress(tmp_path, {"a": 1.0, "b": 1.0}, now, now, io.StringIO())
    progress.look()

    assert (progress.done, progress.failed) == (set(), set())


def test_lines_where_there_is_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.01)
    monkeypatch.setattr(module, "LINE_EVERY_S", 0.03)
    stream = io.StringIO()
    with Progress(tmp_path, {"a": 1.0, "b": 1.0}, None, 0, stream):
        store(tmp_path, "a")
        deadline = time.monotonic() + 10
        while "1 of 2" not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)

    assert "1 of 2 runs done, about" in stream.getvalue()
    assert "\r" not in stream.getvalue()


def test_a_bar_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.01)
    stream = Terminal()
    with Progress(tmp_path, {"a": 1.0, "b": 1.0, "c": 1.0}, None, 0, stream):
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
