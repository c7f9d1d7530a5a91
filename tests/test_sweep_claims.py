"""Claims: one holder at a time, free again however it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
