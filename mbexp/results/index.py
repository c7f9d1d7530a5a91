"""An index of stored runs, so that a hundred thousand of them are read in seconds.

Lists, resuming and reports read it. The folders stay the truth: a row counts while names, sizes and times of its
folder's files are those it was made from.
The index lies in the cache, where it can be removed at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mbexp.paths import cache_dir
from mbexp.results.arrow import column, list_column, text_column
from mbexp.results.stored import (
    CONFIG,
    Damaged,
    flat,
    know_metrics,
    read_config,
    read_run,
    read_table,
    run_folders,
    table_columns,
)

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]

ROWS_AT_ONCE = 5000  # held as Python's values
INDEXED_FROM = 50  # runs in a folder; fewer are read as fast
SETTLED_S = 60.0  # files younger than that may be lost in a power cut though they have their size: Linux writes at 30 s
NAME, STAMP, DAMAGE = ".name", ".stamp", ".damage"  # columns of the index alone
OWN, SETTLED, SUMMARY, ORIGIN, SEEDS = ".own", ".settled", ".summary", ".origin", ".seeds"
HIDDEN = (NAME, STAMP, DAMAGE, OWN, SETTLED, SUMMARY, ORIGIN, SEEDS)
NEEDED = (NAME, DAMAGE, OWN)  # to list runs
OF_LISTS = ("run", "folder", "study", "finished", "trace_source", "law")  # neither of the configuration nor metrics
AS_STORED = (NAME, DAMAGE, SUMMARY, ORIGIN, SEEDS)  # what a sweep makes its tables of
LAYOUT = "3"  # of the index; part of its name
# Of a run's provenance: what tables, the comparison of versions and the next command need.
KEPT = ("plan", "trace_source", "trace_sha256", "law", "git", "mbexp_version", "python", "dependencies", "own_metrics")
REPLICATIONS = "replications.parquet"


class Stored:
    """Runs of a folder as they are stored, by name; what was read before is not read again.

    Parameters
    ----------
    table
        The columns `AS_STORED` of an index.
    """

    def __init__(self, table: pa.Table) -> None:
        self._places = {name: place for place, name in enumerate(table[NAME].to_pylist())}
        self._damage = table[DAMAGE].to_pylist()
        self._texts = [table[name] for name in (SUMMARY, ORIGIN, SEEDS)]

    def __contains__(self, name: str) -> bool:
        return name in self._places and self._damage[self._places[name]] is None

    def damage(self, name: str) -> str:
        """Return what is wrong with a run, or an empty string."""
        return self._damage[self._places[name]] or ""

    def run(self, name: str) -> tuple[Row, Row, list[Row] | None]:
        """Return summary and provenance of a run that is whole, and the summary of each seed where there are several.

        Of the provenance only `KEPT` is known.
        """
        summary, origin, seeds = (column[self._places[name]].as_py() for column in self._texts)
        known = json.loads(origin)
        know_metrics(known)
        return json.loads(summary), known, None if seeds is None else json.loads(seeds)


def stored_table(folder: Path) -> tuple[pa.Table, list[str]]:
    """Return a row for each run below a folder that is whole, and a line for each that is not.

    Columns are ``run``, ``folder``, ``study``, ``finished``, the configuration by dotted names and the metrics.
    """
    import pyarrow.compute as compute

    by_parent: dict[Path, list[str]] = {}
    for run in run_folders(folder):
        by_parent.setdefault(run.parent, []).append(run.name)
    found, damage = [], []
    for parent, names in by_parent.items():
        table = refresh(parent, names)
        damage += [line for line in table[DAMAGE].to_pylist() if line is not None]
        for text in {*table[OWN].to_pylist()} - {None}:
            know_metrics({"own_metrics": json.loads(text)})  # their units and labels, where no run was read
        found.append(table.filter(compute.is_null(table[DAMAGE])).drop_columns([*NEEDED]))
    return _joined(found), damage


def stored_runs(
    parent: Path,
    names: Sequence[str],
    config_of: Callable[[str], Mapping[str, Any]] | None = None,
    sure: bool = False,
) -> Stored:
    """Return the runs `names` in `parent` as they are stored; parameters as of `refresh`."""
    return Stored(refresh(parent, names, config_of, AS_STORED, sure))


def refresh(
    parent: Path,
    names: Sequence[str],
    config_of: Callable[[str], Mapping[str, Any]] | None = None,
    columns: Sequence[str] | None = None,
    sure: bool = False,
) -> pa.Table:
    """Return a row for each of the runs `names` in `parent`, from the index where it holds, and keep the index.

    Parameters
    ----------
    config_of
        Configuration of a run, by dotted names, where it is known without reading it; else empty.
    columns
        What to return; by default the name, the damage, and what lists show.
    sure
        Whether to read runs again that were so young when they were read that a power cut may have spoilt them since.
    """
    path = _path_of(parent) if len(names) >= INDEXED_FROM else None
    places: dict[tuple[str, str], int] = {}
    if path is not None and path.is_file():
        with contextlib.suppress(Damaged, KeyError):
            known = read_table(path, [NAME, STAMP, SETTLED])
            settled = known[SETTLED].to_pylist()
            pairs = zip(known[NAME].to_pylist(), known[STAMP].to_pylist(), strict=True)
            places = {pair: place for place, pair in enumerate(pairs) if settled[place] or not sure}
    kept, rows, read = [], [], []
    for name in names:
        stamp, changed_s = _stamp(parent / name)
        if (name, stamp) in places:
            kept.append(places[name, stamp])
            continue
        was_settled = time.time() - changed_s > SETTLED_S
        rows.append(_row(parent / name, config_of) | {NAME: name, STAMP: stamp, SETTLED: was_settled})
        if len(rows) == ROWS_AT_ONCE:
            read.append(_table(rows))
            rows = []
    before = None
    if kept and path is not None:
        # Where nothing has changed the columns that nobody asks for stay where they are.
        whole = len(kept) == len(names) == len(known)
        with contextlib.suppress(Damaged, KeyError):
            before = _read(path, columns) if whole else read_table(path)
        if before is None:  # it went, or was found damaged, since: made anew
            with contextlib.suppress(OSError):
                path.unlink()
            return refresh(parent, names, config_of, columns, sure)
        before = before.take(kept)
        if whole:
            return _shown_from(before, parent, columns)
    if rows or not (read or kept):
        read.append(_table(rows))
    table = _joined([*([before] if before is not None else []), *read])
    if path is not None:
        _keep(table, path)
    return _shown_from(table, parent, columns)


def _read(path: Path, columns: Sequence[str] | None) -> pa.Table:
    if columns is None:
        hidden = {*HIDDEN} - {*NEEDED}
        columns = [name for name in table_columns(path) if name not in hidden]
    return read_table(path, list(columns))


def _row(run: Path, config_of: Callable[[str], Mapping[str, Any]] | None) -> Row:
    try:
        summary, known = read_run(run)
        path = run / REPLICATIONS
        seeds = read_table(path).to_pylist() if path.is_file() else None
        config = (config_of(run.name) if config_of else {}) or read_config(run / CONFIG)
    except Damaged as error:
        return {DAMAGE: str(error).removeprefix(f"{run.parent}{os.sep}")}
    row: Row = {
        "run": run.name.rpartition("_")[2],
        "study": run.parent.resolve().name if "_" not in run.name else None,
        "finished": str(known.get("finished") or "")[:19].replace("T", " ") or None,
        "trace_source": known.get("trace_source"),
        "law": known.get("law"),
    }
    own = known.get("own_metrics")
    row |= {
        OWN: json.dumps(own) if own else None,
        SUMMARY: json.dumps(summary),
        ORIGIN: json.dumps({key: known[key] for key in KEPT if key in known}, sort_keys=True),
        SEEDS: None if seeds is None else json.dumps(seeds),
    }
    return row | dict(config) | {("num_bins" if key == "bins" else key): value for key, value in flat(summary).items()}


def _shown_from(table: pa.Table, parent: Path, columns: Sequence[str] | None) -> pa.Table:
    """Return the columns that are asked for, with lines and folders that are named as they are called from here."""
    names, damage = table[NAME].to_pylist(), table[DAMAGE].to_pylist()
    lines = text_column([None if line is None else f"{parent}{os.sep}{line}" for line in damage])
    if columns is not None:
        table = table.select(list(columns))
    else:
        hidden = {*HIDDEN} - {*NEEDED}
        table = table.select([name for name in table.column_names if name not in hidden])
        folders = text_column([str(parent / name) for name in names])
        table = table.add_column(min(1, table.num_columns), "folder", folders)
    return table.set_column(table.column_names.index(DAMAGE), DAMAGE, lines)


def _table(rows: Sequence[Row]) -> pa.Table:
    import pyarrow as pa

    names = list(dict.fromkeys(name for row in rows for name in row if name not in HIDDEN))
    columns = {name: list_column([row.get(name) for row in rows]) for name in names}
    columns |= {name: text_column([row.get(name) for row in rows]) for name in HIDDEN if name != SETTLED}
    columns[SETTLED] = column(np.array([row[SETTLED] for row in rows], bool))
    return pa.table(columns)


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Return tables below one another; what one does not have is null, and types that differ find a common one."""
    import pyarrow as pa

    if len(tables) == 1:
        return tables[0]
    types = [dict(zip(table.column_names, table.schema.types, strict=True)) for table in tables]
    columns = {}
    for name in dict.fromkeys(name for names in types for name in names):
        parts = [table[name] if name in names else None for table, names in zip(tables, types, strict=True)]
        kinds = {names[name] for names in types if name in names}
        if len(kinds) == 1:
            (kind,) = kinds
            chunks = [
                chunk
                for table, part in zip(tables, parts, strict=True)
                for chunk in ([pa.nulls(len(table), kind)] if part is None else part.chunks)
            ]
            columns[name] = pa.chunked_array(chunks, kind)
        else:
            values = [
                [None] * len(table) if part is None else part.to_pylist()
                for table, part in zip(tables, parts, strict=True)
            ]
            columns[name] = list_column([value for part in values for value in part])
    return pa.table(columns)


def _stamp(run: Path) -> tuple[str, float]:
    """Return what changes when a file of a folder does, whatever times it is given, and when one last did."""
    digest, changed_s = hashlib.blake2b(digest_size=8), 0.0
    with contextlib.suppress(OSError), os.scandir(run) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            status = entry.stat()
            times = f"{status.st_mtime_ns}/{status.st_ctime_ns}"
            digest.update(f"{entry.name}/{status.st_size}/{times}/{status.st_ino};".encode())
            changed_s = max(changed_s, status.st_ctime)
    return digest.hexdigest(), changed_s


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
