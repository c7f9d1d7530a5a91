"""Claims on runs, so that workers and whole sweeps can share a folder without doing the same run twice.

A claim is a lock on a file, which the system releases however its holder ends. Where files cannot be locked every
claim succeeds: a run may then be made twice, and since it is written aside and renamed nothing is damaged. No claim
counts as abandoned there, and what is half-written may be someone's work.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


TRIED = ".lock-"  # names of files that tell whether locks work


def can_claim() -> bool:
    """Whether this system has locks that end with their holder."""
    return fcntl is not None


@contextlib.contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Hold the claim `path`, a file, for the length of the block; gives False where someone else holds it."""
    handle = _open(path)
    try:
        if not _lock(handle):
            yield False
            return
        # Its last holder may have removed the file after it was opened here.
        if not _same_file(handle, path):
            yield False
            return
        try:
            yield True
        finally:
            with contextlib.suppress(OSError):
                path.unlink()
    finally:
        os.close(handle)


def abandoned(folder: Path, pattern: str = "*") -> list[str]:
    """Return the names of claims whose holder ended without finishing, and remove them."""
    names = []
    paths = [*sorted(folder.glob(pattern)), *folder.glob(f"{TRIED}*")] if folder.is_dir() else []
    for path in paths if paths and locks_hold(folder) else []:
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDWR)
            try:
                if _lock(handle) and _same_file(handle, path):
                    if not path.name.startswith(TRIED):
                        names.append(path.name)
                    path.unlink()
            finally:
                os.close(handle)
    return names


def locks_hold(folder: Path) -> bool:
    """Whether a file of this folder that one holds is refused to another."""
    path = folder / f"{TRIED}{secrets.token_hex(4)}"
    try:
        with claim(path) as mine, claim(path) as again:
            return mine and not again
    except OSError:
        return False


def _open(path: Path) -> int:
    attempts = 5
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # a sweep that ended has just removed the empty folder
            attempts -= 1
            if not attempts:
                raise


def _lock(handle: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _same_file(handle: int, path: Path) -> bool:
    try:
        there = path.stat()
    except OSError:
        return False
    here = os.fstat(handle)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
