"""Claims: one holder at a time, free again however it ends."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mbexp.sweep import claims
from mbexp.sweep.claims import abandoned, can_claim, claim

pytestmark = pytest.mark.skipif(not can_claim(), reason="this system has no such locks")

HOLD = """
import sys, time
from pathlib import Path
from mbexp.sweep.claims import claim
with claim(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    time.sleep(60)
"""


def hold(path: Path) -> subprocess.Popen[str]:
    """Return a process that holds the claim `path`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def test_a_claim_has_one_holder_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "claim"
    with claim(path) as mine:
        with claim(path) as again:
            assert (mine, again) == (True, False)
        assert path.exists()

    assert not path.exists()
    with claim(path) as mine:
        assert mine


def test_another_process_is_kept_out_until_it_ends_however_it_does(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    process = hold(path)
    with process:
        with claim(path) as mine:
            assert not mine
        assert abandoned(tmp_path) == []

        process.kill()
        process.wait()

        assert abandoned(tmp_path) == ["claim"]
        assert abandoned(tmp_path) == []
        with claim(path) as mine:
            assert mine


def test_a_claim_whose_file_was_removed_in_between_is_not_held_twice(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    with claim(path) as first:
        path.unlink()
        with claim(path) as second:  # another file of that name
            assert (first, second) == (True, True)
            with claim(path) as third:
                assert not third


def test_a_claim_is_made_again_where_the_folder_was_just_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def open_late(path: Path, *rest: int, real: Any = os.open) -> int:
        opened.append(path)
        if len(opened) < 3:
            raise FileNotFoundError(path)
        return real(path, *rest)

    monkeypatch.setattr("mbexp.sweep.claims.os.open", open_late)
    with claim(tmp_path / "deep" / "claim") as mine:
        assert mine
    assert len(opened) == 3


def test_a_folder_that_cannot_be_made_is_an_error_not_a_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: Path, *_: int) -> int:
        raise FileNotFoundError(path)

    monkeypatch.setattr("mbexp.sweep.claims.os.open", gone)
    with pytest.raises(FileNotFoundError), claim(tmp_path / "claim"):
        raise AssertionError


def test_a_claim_whose_file_was_removed_before_it_was_locked_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last holder ends between our opening and our locking: the lock is on a file that nobody else can find."""
    path = tmp_path / "claim"

    def lock(handle: int, how: int, real: Any = claims.fcntl.flock) -> None:  # type: ignore[union-attr]
        path.unlink()
        real(handle, how)

    monkeypatch.setattr(claims.fcntl, "flock", lock)
    with claim(path) as mine:
        assert not mine


@pytest.mark.parametrize("locks", ["not on this file system", "not on this system"])
def test_without_locks_every_claim_succeeds_and_nothing_counts_as_abandoned(
    locks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    if locks == "not on this system":
        monkeypatch.setattr(claims, "fcntl", None)
        assert not can_claim()
    else:
        monkeypatch.setattr(claims.fcntl, "flock", refuse)
    path = tmp_path / "claim"
    with claim(path) as mine, claim(path) as again:
        assert (mine, again) == (True, True)
        if locks == "not on this system":
            assert abandoned(tmp_path) == []
            assert path.exists()
