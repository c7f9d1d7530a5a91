"""Converted copies: the same rows as the original, made anew when anything is wrong with them or has changed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbexp.config.keys import load_config
from mbexp.config.workload_keys import WorkloadConfig
from mbexp.workload import cache, load_trace
from mbexp.workload.kinds import burstgpt
from mbexp.workload.kinds import csv as csv_kind
from mbexp.workload.rows import Rows, UsableRows, usable_rows
from mbexp.workload.trace import Trace

CONTENT = "Timestamp,Model,Request tokens,Response tokens\n" + "".join(
    f"{second % 700},{('A', '', 'B')[second % 3]},{second % 5},{second % 7}\n" for second in range(900)
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cache, "cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were parsed, in order."""
    seen: list[Path] = []
    original = burstgpt.read

    def read(path: Path, workload: WorkloadConfig) -> Rows:
        seen.append(path)
        return original(path, workload)

    monkeypatch.setattr(burstgpt, "read", read)
    return seen


@pytest.fixture
def load(tmp_path: Path, folder: Path) -> Callable[..., Trace]:
    def load_file(name: str = "trace.csv", content: str | None = None, **keys: Any) -> Trace:
        path = tmp_path / name
        if content is not None or not path.exists():
            path.write_text(content or CONTENT)
        return load_trace(load_config({"workload": {"kind": "burstgpt", "path": str(path)} | keys}).workload, None)

    return load_file


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "traces").iterdir())


def same(first: Trace, second: Trace) -> bool:
    assert first.sha256 == second.sha256
    assert (first.dropped, first.changed, first.notes) == (second.dropped, second.changed, second.notes)
    assert (first.source, first.categories, first.window) == (second.source, second.categories, second.window)
    assert first.extra.keys() == second.extra.keys()
    return all(np.array_equal(first.extra[name], second.extra[name]) for name in first.extra)


def test_second_read_comes_from_the_copy(load: Callable[..., Trace], reads: list[Path], folder: Path) -> None:
    first, second = load(), load()
    assert len(reads) == 1
    assert same(first, second)
    assert first.changed["sorted_by_time"] > 0
    assert first.dropped.keys() == {"failed", "zero_prompt_tokens"}
    assert len(entries(folder)) == 1


def test_same_content_under_another_name_is_the_same_copy(load: Callable[..., Trace], reads: list[Path]) -> None:
    load()
    other = load("other.csv")
    assert len(reads) == 1
    assert other.source.endswith("(file other.csv)")


def test_changed_content_is_read_anew(load: Callable[..., Trace], reads: list[Path], tmp_path: Path) -> None:
    load()
    path = tmp_path / "trace.csv"
    status = path.stat()
    path.write_text(CONTENT.replace("1,A,", "1,B,").replace("\n2,B,2,2\n", "\n2,B,3,2\n"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # same size, same time of modification
    load()
    assert len(reads) == 2


def test_reader_version_and_settings_are_part_of_the_key(
    load: Callable[..., Trace], reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    monkeypatch.setattr(burstgpt, "VERSION", burstgpt.VERSION + 1)
    load()
    assert len(reads) == 2
    for keys in ({"time_unit_s": 0.001}, {"time_unit_s": 0.001, "where": {"Model": "A"}}):
        for _ in range(2):
            load(**keys)
    assert len(reads) == 4
    settings = [{"kind": "csv", "columns": {"prompt": name}} for name in ("a", "b")]
    assert len({csv_kind.cache_settings(load_config({"workload": each}).workload) for each in settings}) == 2


@pytest.mark.parametrize(
    "harm", ["truncate", "flip", "remove", "text", "empty", "meta", "missing_key", "shape", "pickle"]
)
def test_damaged_copy_is_made_anew(load: Callable[..., Trace], reads: list[Path], folder: Path, harm: str) -> None:
    first = load()
    entry = entries(folder)[0]
    meta = json.loads((entry / "meta.json").read_text())
    array = entry / meta["arrays"]["output_tokens"][0]
    data = array.read_bytes()
    if harm == "truncate":
        array.write_bytes(data[:-4])
    elif harm == "flip":
        array.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    elif harm == "remove":
        array.unlink()
    elif harm == "text":
        array.write_text("not an array")
    elif harm == "empty":
        array.write_bytes(b"")
    elif harm == "meta":
        (entry / "meta.json").write_text("{")
    elif harm == "missing_key":
        del meta["arrays"]["output_tokens"]
        (entry / "meta.json").write_text(json.dumps(meta))
    elif harm == "shape":
        np.save(array, np.ones((2, 2), np.int32))
    else:
        np.save(array, np.array([{}], dtype=object), allow_pickle=True)
    assert same(first, load())
    assert len(reads) == 2
    assert same(first, load())
    assert len(reads) == 2


def test_unwritable_or_switched_off_cache_is_done_without(
    load: Callable[..., Trace], reads: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write_text("a file where the folder should be")
    first = load()
    assert same(first, load())
    monkeypatch.setattr(cache, "cache_dir", lambda: None)
    assert same(first, load())
    assert len(reads) == 3


def test_full_disk_leaves_nothing_behind(
    load: Callable[..., Trace], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    load()
    assert entries(folder) == []


def test_file_that_changes_while_it_is_read_is_not_stored(
    load: Callable[..., Trace], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = burstgpt.read

    def read(path: Path, workload: WorkloadConfig) -> Rows:
        rows = original(path, workload)
        with path.open("a") as file:
            file.write("9999,A,1,1\n")
        return rows

    monkeypatch.setattr(burstgpt, "read", read)
    load()
    assert not (folder / "traces").exists()


def test_hash_is_remembered_only_for_settled_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    hashed: list[int] = []
    original = cache.hashlib.file_digest
    monkeypatch.setattr(cache.hashlib, "file_digest", lambda *given: hashed.append(1) or original(*given))
    first = cache.file_sha256(path)
    assert cache.file_sha256(path) == first
    assert len(hashed) == 2  # it may have changed within the clock's resolution
    later = time.time_ns() + 10 * cache.SETTLED_NS
    monkeypatch.setattr(cache.time, "time_ns", lambda: later)
    cache.file_sha256(path)
    assert cache.file_sha256(path) == first
    assert len(hashed) == 3
    path.write_text("two")
    assert cache.file_sha256(path) != first
    memo = next((folder / "hashes").iterdir())
    memo.write_text('{"identity": 5}')
    assert cache.file_sha256(path) != first


def test_copies_used_longest_ago_go_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(size: int) -> UsableRows:
        return usable_rows(Rows(np.arange(size, dtype=float), np.ones(size, np.int32), np.ones(size, np.int32), "test"))

    monkeypatch.setattr(cache, "LIMIT_BYTES", 400_000)
    leftover = folder / "traces" / ".aside-old"
    leftover.mkdir(parents=True)
    os.utime(leftover, (0, 0))
    for index in range(3):
        cache.store_rows(f"key-{index}", rows(10_000))  # 160 kB each
        os.utime(folder / "traces" / f"key-{index}", (index, index))
    assert [path.name for path in entries(folder)] == ["key-1", "key-2"]
    assert cache.load_rows("key-1") is not None  # used now, so key-2 is the older one
    cache.store_rows("key-3", rows(10_000))
    assert [path.name for path in entries(folder)] == ["key-1", "key-3"]
    cache.store_rows("big", rows(100_000))
    assert [path.name for path in entries(folder)] == ["big"]  # the newest stays, whatever its size
    assert len(cache.load_rows("big") or ()) == 100_000


def test_key_stored_twice_keeps_the_first(folder: Path) -> None:
    rows = usable_rows(Rows(np.zeros(0), np.zeros(0, np.int32), np.zeros(0, np.int32), "empty"))
    cache.store_rows("key", rows)
    cache.store_rows("key", rows)
    assert [path.name for path in entries(folder)] == ["key"]
    stored = cache.load_rows("key")
    assert stored is not None
    assert len(stored) == 0
    assert cache.load_rows("other") is None


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 4096])
def test_checksum_sees_any_single_flip(size: int) -> None:
    data = np.arange(size, dtype=np.uint8)
    before = cache._checksum(data)
    for at in range(0, size, max(1, size // 50)):
        for bit in (0, 7):
            harmed = data.copy()
            harmed[at] ^= 1 << bit
            assert cache._checksum(harmed) != before
