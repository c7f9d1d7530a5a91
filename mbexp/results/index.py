"""An index of stored runs, so that a hundred thousand of them are listed in seconds.

The folders stay the truth: a row counts while names, sizes and times of its folder's files are those it was made from.
The index lies in the cache, where it can be removed at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbexp.paths import cache_dir
from mbexp.results.arrow import list_column, text_column
from mbexp.results.stored import CONFIG, Damaged, flat, know_metrics, read_config, read_run, read_table, run_folders

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]

ROWS_AT_ONCE = 5000  # held as Python's values
INDEXED_FROM = 50  # runs in a folder; fewer are read as fast
NAME, STAMP, DAMAGE, OWN = ".name", ".stamp", ".damage", ".own"  # columns of the index alone
HIDDEN = (NAME, STAMP, DAMAGE, OWN)
LAYOUT = "2"  # of the index; part of its name


def stored_table(folder: Path) -> tuple[pa.Table, list[str]]:
    """Return a row for each run below a folder that is whole, and a line for each that is not.

    Columns are ``run``, ``folder``, ``study``, ``finished``, the configuration by dotted names and the metrics.
    """
    by_parent: dict[Path, list[str]] = {}
    for run in run_folders(folder):
        by_parent.setdefault(run.parent, []).append(run.name)
    tables = [refresh(parent, names) for parent, names in by_parent.items()]
    damage = [line for table in tables for line in table[DAMAGE].to_pylist() if line is not None]
    import pyarrow.compute as compute

    for text in {text for table in tables for text in table[OWN].to_pylist() if text}:
        know_metrics({"own_metrics": json.loads(text)})  # their units and labels, where no run was read
    whole = [table.filter(compute.is_null(table[DAMAGE])).drop_columns([NAME, STAMP, DAMAGE, OWN]) for table in tables]
    return _joined(whole), damage


def refresh(
    parent: Path, names: Sequence[str], config_of: Callable[[str], Mapping[str, Any]] | None = None
) -> pa.Table:
    """Return a row for each of the runs `names` in `parent`, from the index where it holds, and keep the index.

    Parameters
    ----------
    config_of
        Configuration of a run, by dotted names, where it is known without reading it; else empty.
    """
    path = _path_of(parent) if len(names) >= INDEXED_FROM else None
    known, places = None, {}
    if path is not None and path.is_file():
        with contextlib.suppress(Damaged, KeyError):
            known = read_table(path)
            places = {
                key: at for at, key in enumerate(zip(*(known[c].to_pylist() for c in (NAME, STAMP)), strict=True))
            }
    kept, rows, read = [], [], []
    for name in names:
        stamp = _stamp(parent / name)
        if (name, stamp) in places:
            kept.append(places[name, stamp])
            continue
        rows.append(_row(parent / name, config_of) | {NAME: name, STAMP: stamp})
        if len(rows) == ROWS_AT_ONCE:
            read.append(_table(rows))
            rows = []
    if known is not None and len(kept) == len(known) == len(names):
        table = known
    else:
        table = _joined([*([known.take(kept)] if known is not None and kept else []), *read, _table(rows)])
    if path is not None and table is not known:
        _keep(table, path)
    return _shown_from(table, parent)


def _row(run: Path, config_of: Callable[[str], Mapping[str, Any]] | None) -> Row:
    try:
        summary, known = read_run(run)
        config = (config_of(run.name) if config_of else {}) or read_config(run / CONFIG)
    except Damaged as error:
        return {DAMAGE: str(error).removeprefix(f"{run.parent}{os.sep}")}
    row: Row = {
        "run": run.name.rpartition("_")[2],
        "study": run.parent.resolve().name if "_" not in run.name else None,
        "finished": str(known.get("finished") or "")[:19].replace("T", " ") or None,
        "trace_source": known.get("trace_source"),
        "law": known.get("law"),
        OWN: json.dumps(known["own_metrics"]) if known.get("own_metrics") else None,
    }
    return row | dict(config) | {("num_bins" if key == "bins" else key): value for key, value in flat(summary).items()}


def _shown_from(table: pa.Table, parent: Path) -> pa.Table:
    """Return the table with the folder of each run as it is called from here, and lines that name it so."""
    names, damage = table[NAME].to_pylist(), table[DAMAGE].to_pylist()
    lines = text_column([None if line is None else f"{parent}{os.sep}{line}" for line in damage])
    folders = text_column([str(parent / name) for name in names])
    table = table.set_column(table.column_names.index(DAMAGE), DAMAGE, lines)
    return table.add_column(min(1, table.num_columns), "folder", folders)


def _table(rows: Sequence[Row]) -> pa.Table:
    import pyarrow as pa

    names = list(dict.fromkeys(name for row in rows for name in row if name not in HIDDEN))
    columns = {name: list_column([row.get(name) for row in rows]) for name in names}
    columns |= {name: text_column([row.get(name) for row in rows]) for name in HIDDEN}
    return pa.table(columns)


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Return tables below one another; what one does not have is null, and types that differ find a common one."""
    import pyarrow as pa

    columns = {}
    for name in dict.fromkeys(name for table in tables for name in table.column_names):
        types = {table.schema.field(name).type for table in tables if name in table.column_names}
        if len(types) == 1:
            (kind,) = types
            parts = [
                chunk
                for table in tables
                for chunk in (table[name].chunks if name in table.column_names else [pa.nulls(len(table), kind)])
            ]
            columns[name] = pa.chunked_array(parts, kind)
        else:
            values = [
                table[name].to_pylist() if name in table.column_names else [None] * len(table) for table in tables
            ]
            columns[name] = list_column([value for part in values for value in part])
    return pa.table(columns)


def _stamp(run: Path) -> str:
    """Return what changes when a file of a folder does."""
    digest = hashlib.blake2b(digest_size=8)
    with contextlib.suppress(OSError), os.scandir(run) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            status = entry.stat()
            digest.update(f"{entry.name}/{status.st_size}/{status.st_mtime_ns}/{status.st_ino};".encode())
    return digest.hexdigest()


def _path_of(parent: Path) -> Path | None:
    base = cache_dir()
    name = hashlib.sha256(os.fsencode(parent.resolve())).hexdigest()[:16]
    return None if base is None else base / "runs" / f"{name}-{LAYOUT}.parquet"


def _keep(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as parquet

    from mbexp.results.store import replace_file

    with contextlib.suppress(OSError):  # it can be done without
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda aside: parquet.write_table(table, aside, compression="zstd"))
