"""Finds a trace file, or says in one line where it was looked for and how to get it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from mbexp.errors import UserError, nearest
from mbexp.workload.published import published_by_file


def find_file(name: str | None, kind: str, or_folder: bool = False) -> Path:
    """Return the file called `name`, looked for as given and then under ``data/`` of the current folder.

    `or_folder` takes a folder of that name too.

    Raises
    ------
    UserError
        If there is no such file, with near names and, for a published trace, the command that downloads it. If it is
        not a regular file, or cannot be read.
    """
    if not name:
        raise UserError(f"workload.path: workload={kind} reads a file; give its path, such as workload.path=trace.csv")
    try:
        given = Path(name).expanduser()
        tried = [given] if given.is_absolute() else [given, Path("data") / given]
        found = next((path for path in tried if path.exists()), None)
    except (OSError, ValueError, RuntimeError) as error:  # a NUL byte, a name too long, an unknown ~user
        raise UserError(f"workload.path={_short(name)}: cannot be a path ({_reason(error)})") from None
    if found is None:
        raise UserError(_missing(name, tried))
    if found.is_dir() and or_folder:
        return found
    if found.is_dir():
        raise UserError(f"workload.path={name}: is a folder, not a file")
    if not found.is_file():
        raise UserError(f"workload.path={name}: is not a regular file")
    try:
        with found.open("rb"):
            pass
    except OSError as error:
        raise UserError(f"workload.path={name}: cannot be read ({_reason(error)})") from None
    return found


def _missing(name: str, tried: list[Path]) -> str:
    places = " nor ".join(str(path) for path in tried)
    message = f"workload.path={_short(name)}: no such file ({'neither ' if len(tried) > 1 else ''}{_short(places)})"
    here: set[str] = set()
    for folder in {path.parent for path in tried}:
        with contextlib.suppress(OSError, ValueError):
            here.update(entry.name for entry in folder.iterdir() if entry.is_file())
    message += nearest(Path(name).name, here)
    published = published_by_file(Path(name).name)
    if published is not None and published.sha256 is not None:
        message += f"; fetch it: python -m mbexp.download {published.name}"
    elif published is not None:
        message += f"; it is at {published.url}"
    return message


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:197] + "..."


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
