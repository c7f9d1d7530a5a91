"""Where machine code is kept on disk, keyed by all the sources it was made from.

Numba's own cache watches only the file that a function stands in; a loop that inlines a helper from another file would
run the old helper after an update. Here the folder's name is a hash of every source that takes part. Nothing here
imports Numba, since a command asks whether it must compile before it imports anything slow.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import shutil
import sys
import time
from pathlib import Path

from mbexp.paths import cache_dir

_PACKAGE = Path(__file__).resolve().parent.parent
ROOMS = ("compiled", "hardware", "policy", "simulator")  # every folder with functions that are compiled

KEPT_S = 60 * 86400  # machine code of a version that has not run for so long goes


@functools.cache
def cache_folder() -> Path | None:
    """Return the folder of machine code of this version of the sources; None where nothing can be written."""
    base = cache_dir()
    if base is None:
        return None
    folder = base / f"compiled-{sources_digest(_PACKAGE)[:16]}"
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True)
            _forget_old(base)
        os.utime(folder)
    except OSError:
        pass
    return folder if os.access(folder, os.W_OK) else None


def sources_digest(package: Path) -> str:
    """Return a hash of every source below a package that takes part in machine code, and of Numba's version."""
    digest = hashlib.sha256(importlib.metadata.version("numba").encode())
    for source in sorted(path for room in ROOMS for path in (package / room).rglob("*.py")):
        digest.update(f"{source.relative_to(package).as_posix()}\0".encode() + source.read_bytes())
    return digest.hexdigest()


def _forget_old(base: Path) -> None:
    """Remove machine code of versions that nobody has run for a long time."""
    for folder in base.glob("compiled-*"):
        if time.time() - folder.stat().st_mtime > KEPT_S:
            shutil.rmtree(folder, ignore_errors=True)


def is_compiled(loop: str) -> bool:
    """Return whether a loop (``package.module:function``) is compiled already, for these sources and this Python."""
    kept = cache_folder()
    module, _, function = loop.partition(":")
    folder, module = module.split(".")[-2:]
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    return kept is not None and any(kept.rglob(f"{folder}_*/{module}.{function}-*.{python}*.nbc"))
