"""Reads what is stored. A file that is missing, cut short or of other content is `Damaged`: one line that names it.

Everything that reads results goes through here, so that resuming, listing, figures and reports agree on what is whole.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbexp.errors import UserError
from mbexp.results.catalogue import Metric, catalogue, register_own
from mbexp.results.catalogue.metric import SECTION_OF_OWN

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Values = dict[str, Any]

DAMAGED = "damaged"  # folder, beside the runs, of those that were set aside
SUMMARY, PROVENANCE, CONFIG = "summary.json", "provenance.json", "config.yaml"
NOT_RUNS = (DAMAGED, "earlier", "failed", "figures")  # folders of a sweep that hold no run
CHECKED = (SUMMARY, CONFIG)  # by content; of tables, which are large, the size


class Damaged(UserError):
    """Something stored cannot be read; says which file and why."""


def manifest(folder: Path) -> dict[str, list[int]]:
    """Return size and checksum of the files of a run folder that are read again, for its provenance."""
    names = [SUMMARY, CONFIG, *sorted(path.name for path in folder.glob("*.parquet"))]
    contents = {name: (folder / name).read_bytes() for name in names}
    return {name: [len(content), zlib.crc32(content)] for name, content in contents.items()}


def read_run(folder: Path) -> tuple[Values, Values]:
    """Return summary and provenance of a run whose folder is whole.

    Raises
    ------
    Damaged
        If anything that was stored is missing, cut short or of other content.
    """
    provenance = read_json(folder / PROVENANCE)
    know_metrics(provenance)
    files = provenance.get("files")
    if not isinstance(files, dict):  # stored before there were manifests
        return _read_unlisted_run(folder), provenance
    contents = {}
    for name, known in files.items():
        path = folder / Path(name).name
        if not (isinstance(known, list) and len(known) == 2):
            raise Damaged(f"{folder / PROVENANCE}: cannot be read (files is not a list of sizes)")
        if name in CHECKED:
            contents[name] = read_bytes(path)
            if known != [len(contents[name]), zlib.crc32(contents[name])]:
                raise Damaged(f"{path}: {_ending(len(contents[name]), known[0])}")
        else:
            size = _size(path)
            if size != known[0] or not _ends_as_table(path):
                raise Damaged(f"{path}: {_ending(size, known[0])}")
    for name in CHECKED:
        if name not in contents:
            raise Damaged(f"{folder / PROVENANCE}: cannot be read (files has no {name})")
    return _json(folder / SUMMARY, contents[SUMMARY]), provenance


def know_metrics(provenance: Values) -> None:
    """Add the user's metrics of a stored run to the catalogue, without their code."""
    for row in provenance.get("own_metrics") or ():
        with contextlib.suppress(UserError, TypeError, KeyError):  # mbexp may have one of that name by now
            if row["key"] not in catalogue():
                register_own(Metric(**row, section=SECTION_OF_OWN))


def is_run(folder: Path) -> bool:
    """Whether a folder is one of a run, whole or not."""
    return bool(re.fullmatch(r"(.*_)?[0-9a-f]{12}", folder.name)) or any(
        (folder / name).is_file() for name in (SUMMARY, PROVENANCE)
    )


def run_folders(folder: Path) -> Iterator[Path]:
    """Give every run folder at or below `folder`, in order of names, without those half written or set aside."""
    if is_run(folder):
        yield folder
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for name in sorted(entry.name for entry in entries if entry.is_dir()):
            if not name.startswith(".") and name not in NOT_RUNS:
                yield from run_folders(folder / name)


def set_aside(folder: Path) -> Path:
    """Move a damaged run folder out of the way of the run that is made anew; return where it is now."""
    aside = folder.parent / DAMAGED / folder.name
    aside.parent.mkdir(exist_ok=True)
    number = 1
    while aside.exists():
        number += 1
        aside = folder.parent / DAMAGED / f"{folder.name}.{number}"
    os.rename(folder, aside)
    return aside


def read_bytes(path: Path) -> bytes:
    """Return the content of a file; raises `Damaged`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Damaged(f"{path}: {_why(error)}") from error


def read_json(path: Path) -> Values:
    """Return a JSON object; raises `Damaged`."""
    return _json(path, read_bytes(path))


def read_config(path: Path) -> Values:
    """Return a resolved configuration by dotted names; raises `Damaged`."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C form is several times faster
    try:
        values = yaml.load(read_bytes(path), Loader=loader)
    except (yaml.YAMLError, ValueError) as error:
        raise Damaged(f"{path}: cannot be read ({_first_line(error)})") from error
    if not isinstance(values, dict):
        raise Damaged(f"{path}: {_emptiness(path) or 'cannot be read (not a group of keys)'}")
    return flat(values)


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Return a Parquet table, or some columns of it; raises `Damaged`."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        return parquet.read_table(path, columns=columns)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise Damaged(f"{path}: {_why(error)}") from error


def table_columns(path: Path) -> tuple[str, ...]:
    """Return the names of the columns of a Parquet table; raises `Damaged`."""
    try:
        return _columns(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise Damaged(f"{path}: {_why(error)}") from error


def read_csv(path: Path) -> pd.DataFrame:
    """Return a table that is stored as CSV; raises `Damaged`."""
    import pandas as pd

    try:
        return pd.read_csv(path)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise Damaged(f"{path}: {_why(error)}") from error


def flat(values: Values, prefix: str = "") -> Values:
    """Return nested values by dotted names."""
    found: Values = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


@functools.lru_cache(maxsize=4096)
def _columns(path: Path, _: int) -> tuple[str, ...]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        return tuple(parquet.read_schema(path).names)
    except (pa.ArrowException, ValueError) as error:
        raise Damaged(f"{path}: {_why(error)}") from error


def _read_unlisted_run(folder: Path) -> Values:
    summary = read_json(folder / SUMMARY)
    read_config(folder / CONFIG)
    for path in folder.glob("*.parquet"):
        table_columns(path)
    return summary


def _json(path: Path, content: bytes) -> Values:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path}: {_emptiness(path, content) or f'cannot be read ({_first_line(error)})'}") from error
    if not isinstance(values, dict):
        raise Damaged(f"{path}: cannot be read (not a JSON object)")
    return values


def _ends_as_table(path: Path) -> bool:
    """Whether a file ends as Parquet does; after a power cut it may have its size and hold zeros."""
    try:
        with path.open("rb") as file:
            file.seek(-4, os.SEEK_END)
            return file.read() == b"PAR1"
    except OSError:
        return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise Damaged(f"{path}: {_why(error)}") from error


def _ending(size: int, stored: int) -> str:
    if size < stored:
        return f"cut short ({size:,} of {stored:,} bytes)" if size else "empty"
    return "not what was stored"


def _emptiness(path: Path, content: bytes | None = None) -> str:
    content = read_bytes(path) if content is None else content
    return "" if content.strip() else "empty"


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "missing"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    return f"cannot be read ({_first_line(error)})"


def _first_line(error: Exception) -> str:
    return (str(error).strip().split("\n") or [""])[0].rstrip(". ")[:120] or type(error).__name__
