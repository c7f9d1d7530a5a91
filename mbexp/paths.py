"""Locations of the packaged configuration and of the cache."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def config_dir() -> Path:
    """Return the folder of config groups: inside the package in a wheel, beside it in a checkout."""
    packaged = _PACKAGE / "conf"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "conf"


def cache_dir() -> Path | None:
    """Return the user's folder for what can be made again (machine code, converted traces); None where it is off.

    ``$MBEXP_CACHE`` (``off`` for none), else ``$XDG_CACHE_HOME/mbexp``, else ``~/.cache/mbexp``.
    """
    chosen = os.environ.get("MBEXP_CACHE", "")
    if chosen == "off":
        return None
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "mbexp"
    except RuntimeError:  # no home folder
        return None
