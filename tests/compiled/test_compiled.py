"""Machine code is kept by version of the sources, and only the first run waits for it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mbexp.compiled import cache as compiled
from mbexp.compiled.cache import ROOMS
from mbexp.config.choices import mode_names
from mbexp.modes import find_mode
from mbexp.paths import cache_dir
from tests import ROOT

TINY = [sys.executable, "-m", "mbexp", "workload=synthetic", "num_requests=10", "workload.timestamps=real"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MBEXP_CACHE", str(tmp_path / "cache"))
    compiled.cache_folder.cache_clear()
    yield tmp_path / "cache"
    compiled.cache_folder.cache_clear()


@pytest.mark.slow  # it compiles from nothing; CI sees the same where it runs the README
def test_the_first_run_says_that_it_compiles_and_the_second_does_not(tmp_path: Path) -> None:
    environment = {**os.environ, "MBEXP_CACHE": str(tmp_path / "cache")}

    first = subprocess.run(TINY, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    second = subprocess.run(TINY, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)

    assert "compiling the event loop, once" in first.stderr
    assert second.stderr == ""


def test_code_of_versions_long_unused_goes(cache: Path) -> None:
    old, recent = cache / "compiled-old", cache / "compiled-recent"
    for folder in (old, recent):
        folder.mkdir(parents=True)
    long_ago = time.time() - compiled.KEPT_S - 10
    os.utime(old, (long_ago, long_ago))

    folder = compiled.cache_folder()

    assert folder is not None
    assert folder.is_dir()
    assert not old.exists()
    assert recent.is_dir()


@pytest.mark.parametrize("execution", mode_names())
def test_whether_a_loop_is_compiled_is_known_without_numba(execution: str, tmp_path: Path) -> None:
    """By the name of its file in the cache; that Numba calls it so is seen where a second run compiles nothing."""
    cache = tmp_path / "cache"
    ask = (
        "import sys; from mbexp.compiled.cache import cache_folder, is_compiled; from mbexp.modes import find_mode;"
        f"print(is_compiled(find_mode('{execution}').LOOP), 'numba' in sys.modules, cache_folder())"
    )

    def run() -> list[str]:
        environment = {**os.environ, "MBEXP_CACHE": str(cache)}
        done = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    *known, folder = run()
    assert known == ["False", "False"]
    module, function = find_mode(execution).LOOP.split(":")
    room, name = module.split(".")[-2:]
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    kept = Path(folder) / f"{room}_0123456789abcdef" / f"{name}.{function}-42.{python}.1.nbc"
    kept.parent.mkdir()
    kept.touch()
    assert run()[:2] == ["True", "False"]


@pytest.mark.parametrize("execution", ["run_to_completion", "continuous"])
def test_a_mode_does_not_wait_for_the_loop_of_the_other(execution: str) -> None:
    code = (
        f"import sys, mbexp; mbexp.simulate(num_requests=10, execution='{execution}', gpu='roofline_h100');"
        "print(*(name in sys.modules for name in ('mbexp.simulator.batches.loop', 'mbexp.simulator.continuous.loop')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(execution == "run_to_completion"), str(execution == "continuous")]


def test_no_cache_where_it_is_off(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("MBEXP_CACHE", "off")

    assert compiled.cache_folder() is None
    assert not compiled.is_compiled(find_mode("run_to_completion").LOOP)


def test_without_a_home_folder_a_temporary_one_of_the_user_alone_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MBEXP_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = cache_dir()
    assert folder is not None
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)  # where others may write, machine code could be theirs
    assert cache_dir() is None
    assert compiled.cache_folder.__wrapped__() is None


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MBEXP_CACHE", str(tmp_path / "file" / "cache"))
    assert compiled.cache_folder.__wrapped__() is None


def compiled_rooms() -> set[str]:
    """Return the rooms of the package in which a module imports Numba, or what compiles with it."""
    package = ROOT / "mbexp"
    word = re.compile(r"^(from|import) (numba|mbexp\.compiled\.decorators)\b", re.MULTILINE)
    files = [path for path in package.rglob("*.py") if word.search(path.read_text(encoding="utf-8"))]
    return {path.relative_to(package).parts[0] for path in files}


def test_every_room_with_compiled_functions_is_watched() -> None:
    assert compiled_rooms() == set(ROOMS)


def test_a_change_in_any_file_of_a_compiled_room_changes_the_key(tmp_path: Path) -> None:
    for room in ROOMS:
        shutil.copytree(ROOT / "mbexp" / room, tmp_path / room)
    known = {compiled.sources_digest(tmp_path)}
    files = [path for room in ROOMS for path in (tmp_path / room).rglob("*.py")]
    for path in files:
        path.write_text(path.read_text() + "\n# changed\n")
        digest = compiled.sources_digest(tmp_path)
        assert digest not in known, path
        known.add(digest)
    assert len(known) == len(files) + 1 > 40
