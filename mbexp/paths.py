"""Locations of the packaged configuration and of the cache."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def config_dir() -> Path:
    """Return the folder of config groups: inside the package in a wheel, beside it in a checkout."""
    packaged = _PACKAGE / "conf"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "conf"


def cache_dir() -> Path | None:
    """Return the user's folder for what can be made again (machine code, converted traces); None where it is off.

    ``$MBEXP_CACHE`` (``off`` for none), else ``$XDG_CACHE_HOME/mbexp``, else ``~/.cache/mbexp``, else, where none can
    be made there (no home folder, as in many containers), one of the user's own among the temporary files.
    """
    chosen = os.environ.get("MBEXP_CACHE", "")
    if chosen == "off":
        return None
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = (Path(base) if base else Path.home() / ".cache") / "mbexp"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: no home folder
        return _temporary_cache()
    return folder if os.access(folder, os.W_OK) else _temporary_cache()


def _temporary_cache() -> Path | None:
    """Return a folder of this user alone: machine code of others must not be run."""
    folder = Path(tempfile.gettempdir()) / f"mbexp-cache-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
    return folder if ours else None
