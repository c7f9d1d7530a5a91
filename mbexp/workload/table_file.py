"""Reads columns of a file by name: fast, and where that fails one record after the other, up to the bad cell's name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.config.workload_keys import MAX_TOKENS
from mbexp.errors import UserError, nearest
from mbexp.workload.cells import NO_TOKENS, BadCellError, date_role, describe, read_cell
from mbexp.workload.sources import Source, open_source, reading, shown
from mbexp.workload.text_column import TextColumn, TextEncoder

Array = npt.NDArray[Any]
RECORDS_AT_ONCE = 1 << 16  # of those that are read one by one
_KNOWN = {
    "burstgpt": {"Timestamp", "Request tokens", "Response tokens"},
    "azure": {"TIMESTAMP", "ContextTokens", "GeneratedTokens"},
    "mooncake": {"timestamp", "input_length", "output_length"},
}


@dataclass(frozen=True)
class Column:
    """A column wanted: its name in the file, and how its cells are read.

    `role` is ``tokens``, ``number``, ``date``, ``time`` or ``text``. Tokens are whole numbers from 0 to 2^31 - 1; -1
    and a cell without a value stand for none. A number is finite, 0 or more. A date has a time, with or without an
    offset from UTC. A time is a number or a date, as the first record has it. `key` is the key of the configuration
    that names the column, if one does.
    """

    name: str
    role: str
    optional: bool = False
    key: str = ""


@dataclass(frozen=True)
class Table:
    """Columns of a file: tokens as int32, numbers as float64, dates as seconds after the first, texts as codes."""

    numbers: dict[str, Array]
    texts: dict[str, TextColumn]
    dates: set[str]
    names: list[str]


def read_table(path: Path, columns: Sequence[Column]) -> Table:
    """Return columns by name; they may stand in any order among others.

    Raises
    ------
    UserError
        Naming the file and what is wrong with it: no such column, or the first record and cell that cannot be read.
    """
    source = open_source(path, [column.name for column in columns])
    columns = _present(source, columns)
    roles = _settled(source, columns)
    table = None
    for whole_numbers in (True, False):
        table = table or _assembled(source, roles, _fast_pieces(source, roles, whole_numbers))
    return table or _assembled(source, roles, _slow_pieces(source, roles)) or Table({}, {}, set(), source.names)


def match_name(asked: str, names: Sequence[str]) -> str:
    """Return the column of a file that is meant: by its name, or by its name in small letters with underscores."""
    alike = [name for name in names if name.lower().replace(" ", "_") == asked.lower().replace(" ", "_")]
    return asked if asked in names or len(alike) != 1 else alike[0]


def _present(source: Source, columns: Sequence[Column]) -> list[Column]:
    for column in columns:
        count = source.names.count(column.name)
        if count > 1:
            raise UserError(f"{source.path}: has {count} columns called '{column.name}'")
        if count or column.optional or not source.names:
            continue
        some = ", ".join(shown(name) for name in source.names[:12]) + (", ..." if len(source.names) > 12 else "")
        alike = [kind for kind, names in _KNOWN.items() if names <= set(source.names)]
        raise UserError(
            f"{source.path}: has no column '{column.name}'{nearest(column.name, source.names)}; "
            f"its columns are {some}"
            + (f"; name yours with {column.key}=NAME" if column.key else "")
            + (f"; it looks like a file for workload={alike[0]}" if alike else "")
        )
    return [column for column in columns if column.name in source.names]


def _settled(source: Source, columns: Sequence[Column]) -> dict[str, str]:
    """Look at the first record to learn whether times are numbers or dates, and dates have an offset from UTC."""
    roles = {column.name: column.role for column in columns}
    timed = [name for name, role in roles.items() if role in ("time", "date")]
    if timed:
        try:
            first: Mapping[str, Any] = next(source.cells(), ("", {}))[1]
        except UserError:
            first = {}  # named when it is read
        for name in timed:
            date = date_role(first.get(name))
            roles[name] = date or ("naive_date" if roles[name] == "date" else "time_number")
    return roles


def _fast_pieces(source: Source, roles: Mapping[str, str], whole_numbers: bool) -> Iterator[dict[str, Any]]:
    """Yield columns in pieces as a library reads them; a `ValueError` says that some cell is not what it should be."""
    for piece in source.pieces(roles, whole_numbers) or ():
        yield {name: _values(piece[name], role) for name, role in roles.items()}


def _values(column: Any, role: str) -> Any:
    if role == "text":
        return np.asarray(column.indices.fill_null(-1)), column.dictionary.to_pylist()
    if role == "tokens":
        values = column.fill_null(NO_TOKENS).to_numpy()
        if values.dtype == np.float64:
            values = np.where(np.isnan(values), NO_TOKENS, values)
        if len(values) and not (values.min() >= NO_TOKENS and values.max() <= MAX_TOKENS):
            raise ValueError("not tokens")
        tokens = values.astype(np.int32)
        if values.dtype == np.float64 and not np.all(tokens == values):
            raise ValueError("not whole numbers")
        return tokens
    if column.null_count:
        raise ValueError("no value")
    if role in ("naive_date", "zoned_date"):
        import pyarrow as pa

        return column.cast(pa.int64()).to_numpy()
    values = column.to_numpy()
    if len(values) and not (values.min() >= 0 and values.max() < math.inf):  # a NaN fails both
        raise ValueError("not a finite number, 0 or more")
    return values


def _slow_pieces(source: Source, roles: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield columns in pieces, read cell by cell; the first that is at fault is named."""
    found: dict[str, list[Any]] = {name: [] for name in roles}
    for count, (place, record) in enumerate(source.cells(), 1):
        for name, role in roles.items():
            try:
                if name not in record and role != "text" and not (role == "tokens" and "." in name):
                    raise UserError(f"{source.path} {place}: has no '{name}'{nearest(name, record)}")
                found[name].append(read_cell(record.get(name), role))
            except BadCellError as error:
                raise UserError(f"{source.path} {place}: '{name}' is {describe(record[name])}{error}") from None
        if count % RECORDS_AT_ONCE == 0:
            yield _as_arrays(found, roles)
            found = {name: [] for name in roles}
    yield _as_arrays(found, roles)


def _as_arrays(found: dict[str, list[Any]], roles: Mapping[str, str]) -> dict[str, Any]:
    types = {"tokens": np.int32, "naive_date": np.int64, "zoned_date": np.int64}
    return {
        name: (np.arange(len(cells), dtype=np.int32), cells)
        if roles[name] == "text"
        else np.array(cells, types.get(roles[name], np.float64))
        for name, cells in found.items()
    }


def _assembled(source: Source, roles: Mapping[str, str], pieces: Iterator[dict[str, Any]]) -> Table | None:
    """Join pieces; None where there is none, or where some cell is not what it should be."""
    import pyarrow as pa

    parts: dict[str, list[Array]] = {name: [] for name in roles}
    encoders = {name: TextEncoder() for name, role in roles.items() if role == "text"}
    dates = {name for name, role in roles.items() if role in ("naive_date", "zoned_date")}
    origin: dict[str, int] = {}
    any_piece = False
    with reading(source.path):
        try:
            for piece in pieces:
                any_piece = True
                for name, values in piece.items():
                    if name in encoders:
                        values = encoders[name].encode(*values)
                    elif name in dates and len(values):
                        values = (values - origin.setdefault(name, int(values[0]))) / 1e9
                    parts[name].append(values)
        except (pa.ArrowException, ValueError):
            return None
    if not any_piece:
        return None
    joined = {name: all_[0] if len(all_) == 1 else np.concatenate(all_) for name, all_ in parts.items()}
    return Table(
        {name: values for name, values in joined.items() if name not in encoders},
        {name: encoder.finish(joined[name]) for name, encoder in encoders.items()},
        dates,
        source.names,
    )
