"""Locations of the packaged configuration and of the cache."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def config_dir() -> Path:
    """Return the folder of config groups: inside the package in a wheel, beside it in a checkout."""
    packaged = _PACKAGE / "conf"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "conf"


_OF_COMMAND: list[Path] = []  # folders of the user's that the command line names


def use_config_dirs(words: Sequence[str]) -> list[str]:
    """Take the folders of ``--config-dir FOLDER`` from the words of a command line, and no others; return the rest."""
    folders, rest = [], []
    left = iter(words)
    for word in left:
        option, sign, value = word.partition("=")
        if option not in ("--config-dir", "-cd"):
            rest.append(word)
        elif folder := value if sign else next(left, ""):
            folders.append(folder)
    _OF_COMMAND[:] = [Path(folder).expanduser() for folder in folders]
    return rest


def named_config_dirs() -> list[Path]:
    """Return the folders of ``--config-dir``, whether they are there or not."""
    return list(_OF_COMMAND)


def own_config_dirs() -> list[Path]:
    """Return the user's folders of config groups and studies, the first of which wins.

    Those of ``--config-dir``, then those of ``$MBEXP_CONFIG_PATH``, separated as those of ``$PATH``.
    """
    named = [*_OF_COMMAND, *_of_environment()]
    return list(dict.fromkeys(folder.resolve() for folder in named if folder.is_dir()))


def missing_config_dirs() -> list[Path]:
    """Return what ``$MBEXP_CONFIG_PATH`` names and is no folder."""
    return [folder for folder in _of_environment() if not folder.is_dir()]


def _of_environment() -> list[Path]:
    return [Path(part).expanduser() for part in os.environ.get("MBEXP_CONFIG_PATH", "").split(os.pathsep) if part]


def config_files(group: str = "") -> dict[str, Path]:
    """Return the files of a config group, or the studies, by name; the user's own win over those of mbexp."""
    found: dict[str, Path] = {}
    for folder in [*own_config_dirs(), config_dir()]:
        for path in sorted((folder / group).glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def replaced_config_files() -> list[tuple[Path, str]]:
    """Return the user's files that take the place of one of mbexp's, each with the name by which it is chosen."""
    found = []
    for folder in own_config_dirs():
        for path in sorted([*folder.glob("*.yaml"), *folder.glob("*/*.yaml")]):
            name = path.relative_to(folder)
            if (config_dir() / name).is_file():
                found.append((path, "=".join(name.with_suffix("").parts)))
    return found


def cache_dir() -> Path | None:
    """Return the user's folder for what can be made again (machine code, converted traces); None where it is off.

    ``$MBEXP_CACHE`` (``off`` for none), else ``$XDG_CACHE_HOME/mbexp``, else ``~/.cache/mbexp``. Many containers have
    no home folder: there the user has a folder of his own among the temporary files.
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
