"""Converted copies of traces, so that a file is parsed and a long trace generated only once.

Copies live in `mbexp.paths.cache_dir` (``MBEXP_CACHE=off`` keeps none) and may be deleted at any time. Nothing here
raises: a copy that is missing, damaged or cannot be written is done without.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.paths import cache_dir
from mbexp.workload.rows import UsableRows

FORMAT = 2  # of the copies; raise it when their layout or the rules of `usable_rows` change
LIMIT_BYTES = 4 << 30  # the copies used longest ago go first
SETTLED_NS = 2_000_000_000  # a file changed less than this before it was hashed may change again unseen
_ARRAYS = ("arrival_s", "prompt_tokens", "output_tokens")
_GROUPS = ("dropped_at", "changed_at", "extra", "hashes")

Array = npt.NDArray[Any]


def entry_key(*parts: object) -> str:
    """Return the name of a copy: whatever its content depends on must be among `parts`."""
    text = json.dumps([FORMAT, *parts], default=str)
    return f"{parts[0]}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def file_identity(path: Path) -> tuple[int, ...]:
    """Return what changes whenever a file's content does: size, times of change, inode."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def file_sha256(path: Path) -> str:
    """Return the hash of a file's content, from memory where the file has not changed since it was last hashed."""
    folder = cache_dir()
    identity = file_identity(path)
    memo = None
    if folder is not None:
        memo = folder / "hashes" / (hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32] + ".json")
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(memo.read_text())
            settled = int(known["hashed_ns"]) - max(identity[1], identity[2]) > SETTLED_NS
            if tuple(known["identity"]) == identity and settled:
                return str(known["sha256"])
    started_ns = time.time_ns()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if memo is not None and file_identity(path) == identity:
        record = {"path": str(path), "identity": identity, "hashed_ns": started_ns, "sha256": digest}
        with contextlib.suppress(OSError):
            memo.parent.mkdir(parents=True, exist_ok=True)
            _write_aside(memo, json.dumps(record).encode())
    return digest


def load_rows(key: str) -> UsableRows | None:
    """Return the rows stored under `key`, or None."""
    folder = _entry(key)
    if folder is None:
        return None
    try:
        meta = json.loads((folder / "meta.json").read_text())
        arrays = {name: _load_array(folder, name, expected) for name, expected in meta["arrays"].items()}
        fields: dict[str, Any] = {group: {} for group in _GROUPS}
        for name, array in arrays.items():
            group, _, rest = name.partition(".")
            if rest:
                fields[group][rest] = array
            else:
                fields[name] = array
        rows = UsableRows(
            **fields,
            source=meta["source"],
            categories={name: tuple(labels) for name, labels in meta["categories"].items()},
            notes=tuple(meta["notes"]),
        )
        os.utime(folder)
    except Exception:  # whatever is wrong with a copy, the original is read again
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return rows


def store_rows(key: str, rows: UsableRows) -> None:
    """Store rows under `key`: written aside, then renamed, so that a copy is whole or absent."""
    folder = _entry(key)
    if folder is None:
        return
    aside = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".aside-", dir=folder.parent))
        arrays: dict[str, Array] = {name: getattr(rows, name) for name in _ARRAYS}
        for group in _GROUPS:
            arrays.update({f"{group}.{name}": array for name, array in getattr(rows, group).items()})
        stored: dict[str, list[Any]] = {}
        for index, (name, array) in enumerate(arrays.items()):
            file_name = f"{index}.npy"  # names of columns come from files: they must not become paths
            np.save(aside / file_name, np.ascontiguousarray(array), allow_pickle=False)
            stored[name] = [file_name, array.dtype.str, len(array), _checksum(array)]
        meta = {"source": rows.source, "categories": rows.categories, "notes": rows.notes, "arrays": stored}
        (aside / "meta.json").write_text(json.dumps(meta))
        os.rename(aside, folder)
        _prune(folder)
    except (OSError, ValueError):  # no room, no permission, or another process was first
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)


def _entry(key: str) -> Path | None:
    folder = cache_dir()
    return None if folder is None else folder / "traces" / key


def _load_array(folder: Path, name: str, expected: list[Any]) -> Array:
    file_name, dtype, length, checksum = expected
    path = folder / Path(file_name).name
    large = path.stat().st_size > 1 << 16  # a memory map costs more than a small read, and must not be empty
    array: Array = np.load(path, mmap_mode="r" if large else None, allow_pickle=False)
    if array.dtype.str != dtype or array.shape != (length,) or _checksum(array) != checksum:
        raise ValueError(f"{name} is damaged")
    return array


def _checksum(array: Array) -> str:
    """Return sums that a flipped or missing byte changes; several GB/s, against chance and not against intent."""
    data = np.ascontiguousarray(array).view(np.uint8)
    whole = len(data) // 8 * 8
    words = data[:whole].view(np.uint64)
    total = int(words.sum(dtype=np.uint64)) if whole else 0
    parity = int(np.bitwise_xor.reduce(words)) if whole else 0
    return f"{total:x} {parity:x} {data[whole:].tobytes().hex()}"


def _write_aside(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=".aside-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(name, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _prune(newest: Path) -> None:
    """Remove leftovers of interrupted writes, and the copies used longest ago beyond `LIMIT_BYTES`."""
    entries = []
    for folder in newest.parent.iterdir():
        with contextlib.suppress(OSError):
            used = folder.stat().st_mtime
            if folder.name.startswith(".aside-"):
                if time.time() - used > 86_400:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            entries.append((folder != newest, -used, sum(file.stat().st_size for file in folder.iterdir()), folder))
    total = 0
    for not_newest, _, size, folder in sorted(entries):
        total += size
        if not_newest and total > LIMIT_BYTES:
            shutil.rmtree(folder, ignore_errors=True)
