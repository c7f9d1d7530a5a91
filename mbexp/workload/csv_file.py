"""Reads columns of a CSV file by name, fast, with every bad cell named by file, line and value."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.config.keys import MAX_TOKENS
from mbexp.errors import UserError, nearest
from mbexp.workload.text_column import TextColumn, TextEncoder
from mbexp.workload.text_file import LINE_BYTES, BadRowsError, body_start, first_lines, parse_in_pieces, shown

Array = npt.NDArray[Any]
_BLOCK_BYTES = LINE_BYTES  # pyarrow's unit of work; it rejects a longer line
_KNOWN_HEADERS = {
    "burstgpt": {"Timestamp", "Request tokens", "Response tokens"},
    "azure": {"TIMESTAMP", "ContextTokens", "GeneratedTokens"},
}
_DATE_EXAMPLE = "a date and time such as 2023-11-16 18:15:46.68"
_DATE = re.compile(r"\s*\d{4}-\d{2}-\d{2}")
_ZONE = re.compile(r"(Z|[+-]\d{2}(:?\d{2})?)\s*$")


@dataclass(frozen=True)
class Column:
    """A column wanted: its name in the header, and how its cells are read.

    `role` is ``tokens`` (whole numbers from 0 to 2^31 - 1), ``number`` (finite, 0 or more), ``date`` (a date and time,
    with or without offset from UTC), ``time`` (either of the two, as the first row has it; numbers are multiples of
    `unit_s` seconds) or ``text``.
    """

    name: str
    role: str
    optional: bool = False
    unit_s: float = 1.0


def read_csv(path: Path, columns: Sequence[Column]) -> tuple[dict[str, Array], dict[str, TextColumn]]:
    """Return columns of numbers and columns of text, by name.

    Tokens come as int32; numbers as float64; dates as float64 seconds after the first row; texts as `TextColumn`.
    One line is one record. Columns may stand in any order; a BOM, any line ends and a missing last one are fine.

    Raises
    ------
    UserError
        Naming the file and what is wrong with it: no such column, or the first line and cell that cannot be read.
    """
    header, columns = _header(path, columns)
    positions = {column.name: header.index(column.name) for column in columns}
    roles = _settle_roles(path, columns, positions)
    parser = _Parser(header, positions, roles)
    start = body_start(path)
    pieces: dict[str, list[Array]] = {column.name: [] for column in columns}
    encoders = {column.name: TextEncoder() for column in columns if roles[column.name] == "text"}
    origin: int | None = None
    for parsed in parse_in_pieces(path, start, 1, parser.parse, parser.explain):
        for name, values in parsed.items():
            if name in encoders:
                values = encoders[name].encode(*values)
            elif roles[name] in ("naive_date", "zoned_date"):
                origin = int(values[0]) if origin is None else origin
                values = (values - origin) / 1e9
            pieces[name].append(values)
    numbers: dict[str, Array] = {}
    texts: dict[str, TextColumn] = {}
    for column in columns:
        parts = pieces.pop(column.name)
        empty = np.empty(0, np.int32 if roles[column.name] in ("tokens", "text") else np.float64)
        values = parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else empty
        del parts
        if column.name in encoders:
            texts[column.name] = encoders[column.name].finish(values)
        else:
            if roles[column.name] == "time_number" and column.unit_s != 1.0:
                with np.errstate(over="ignore"):
                    values = np.multiply(values, column.unit_s)
            numbers[column.name] = values
    return numbers, texts


def _header(path: Path, columns: Sequence[Column]) -> tuple[list[str], list[Column]]:
    lines = first_lines(path, 1)
    if not lines:
        raise UserError(f"{path}: is empty")
    try:
        text = lines[0].decode("utf-8-sig")
        header = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
    except UnicodeDecodeError:
        raise UserError(f"{path} line 1: is not UTF-8 text") from None
    except csv.Error as error:
        raise UserError(f"{path} line 1: the header cannot be read ({error})") from None
    if not any(header):
        raise UserError(f"{path} line 1: is blank; the names of the columns are expected there")
    present = [column for column in columns if column.name in header]
    for column in columns:
        if header.count(column.name) > 1:
            raise UserError(f"{path}: has {header.count(column.name)} columns called '{column.name}'")
        if column.name not in header and not column.optional:
            some = ", ".join(shown(name) for name in header[:12]) + (", ..." if len(header) > 12 else "")
            raise UserError(
                f"{path}: has no column '{column.name}'{nearest(column.name, header)}; "
                f"its columns are {some}{_looks_like(header)}"
            )
    return header, present


def _looks_like(header: list[str]) -> str:
    """Return a hint where the header is that of another kind of file, or not separated by commas."""
    for kind, names in _KNOWN_HEADERS.items():
        if names <= set(header):
            return f"; it looks like a file for workload={kind}"
    if header[0].startswith("{"):
        return "; it looks like JSON lines, as workload=mooncake reads them"
    for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(header) == 1 and separator in header[0]:
            return f"; it is separated by {name}, commas are needed"
    return ""


def _settle_roles(path: Path, columns: Sequence[Column], positions: dict[str, int]) -> dict[str, str]:
    """Look at the first row to learn whether times are numbers or dates, and dates have an offset from UTC."""
    roles = {column.name: column.role for column in columns}
    head = first_lines(path, 2)
    cells: list[str] = []
    if len(head) > 1:
        try:
            cells = next(csv.reader([head[1].decode("utf-8", "replace")]), [])
        except csv.Error:
            cells = []
    for name, role in roles.items():
        if role in ("time", "date"):
            cell = cells[positions[name]] if positions[name] < len(cells) else ""
            if role == "date" or _DATE.match(cell):
                roles[name] = "zoned_date" if _ZONE.search(cell[10:].strip()) else "naive_date"
            else:
                roles[name] = "time_number"
    return roles


class _Parser:
    """Parses whole lines with pyarrow, and explains one line that it rejects."""

    def __init__(self, header: list[str], positions: dict[str, int], roles: dict[str, str]) -> None:
        import pyarrow as pa

        self.header, self.positions, self.roles = header, positions, roles
        self.types = {
            "tokens": pa.int64(),
            "number": pa.float64(),
            "time_number": pa.float64(),
            "naive_date": pa.timestamp("ns"),
            "zoned_date": pa.timestamp("ns", "UTC"),
            "text": pa.dictionary(pa.int32(), pa.utf8()),
        }

    def parse(self, piece: memoryview) -> dict[str, Any]:
        import pyarrow as pa

        try:
            table = self._table(piece, whole_numbers=True)
        except pa.ArrowException:
            try:
                table = self._table(piece, whole_numbers=False)  # "12.0" is a whole number too
            except pa.ArrowException as error:
                raise BadRowsError(str(error).splitlines()[0] if str(error) else type(error).__name__) from None
        if _has_quotes(piece) and table.num_rows != _filled_lines(piece):
            raise BadRowsError("a quoted field runs over several lines")
        return {name: self._values(name, table.column(f"c{at}")) for name, at in self.positions.items()}

    def _table(self, piece: memoryview, whole_numbers: bool) -> Any:
        import pyarrow as pa
        import pyarrow.csv as pa_csv

        names = [f"c{index}" for index in range(len(self.header))]
        types = {f"c{at}": self.types[self.roles[name]] for name, at in self.positions.items()}
        if not whole_numbers:
            types = {name: pa.float64() if type_ == pa.int64() else type_ for name, type_ in types.items()}
        return pa_csv.read_csv(
            pa.BufferReader(pa.py_buffer(piece)),
            read_options=pa_csv.ReadOptions(column_names=names, block_size=_BLOCK_BYTES),
            convert_options=pa_csv.ConvertOptions(
                column_types=types, include_columns=list(types), null_values=[], strings_can_be_null=False
            ),
        )

    def _values(self, name: str, column: Any) -> Any:
        role = self.roles[name]
        if role == "text":
            unified = column.unify_dictionaries()
            texts = unified.chunk(0).dictionary.to_pylist() if unified.num_chunks else []
            codes = [np.asarray(chunk.indices) for chunk in unified.chunks]
            return (np.concatenate(codes) if codes else np.empty(0, np.int32)), texts
        if role in ("naive_date", "zoned_date"):
            import pyarrow as pa

            return column.cast(pa.int64()).to_numpy()
        values = column.to_numpy()
        if role == "tokens":
            if not len(values) or (values.min() >= 0 and values.max() <= MAX_TOKENS):
                tokens = values.astype(np.int32)
                if values.dtype == np.int64 or bool(np.all(tokens == values)):
                    return tokens
            raise BadRowsError(f"'{name}' is not a whole number from 0 to {MAX_TOKENS}")
        if len(values) and not (values.min() >= 0 and values.max() < math.inf):  # a NaN fails both
            raise BadRowsError(f"'{name}' is not a finite number, 0 or more")
        return values

    def explain(self, line: bytes) -> str | None:
        try:
            text = line.decode("utf-8")
            cells = next(csv.reader([text]), [])
        except UnicodeDecodeError:
            return "is not UTF-8 text"
        except csv.Error as error:
            return f"cannot be read ({error})"
        if "\0" in text:
            return "holds NUL bytes"
        if text.count('"') % 2:
            return "has a quote that is not closed"
        if len(cells) != len(self.header):
            return f"has {len(cells)} column{'s' * (len(cells) != 1)}, the header has {len(self.header)}"
        for name, at in self.positions.items():
            fault = _fault(cells[at].strip(), self.roles[name])
            if fault is not None:
                return f"'{name}' is {shown(cells[at]) if cells[at].strip() else 'empty'}{fault}"
        return None


def _fault(cell: str, role: str) -> str | None:
    """Return what is wrong with a cell, to follow its value, or None."""
    if role == "text":
        return None
    if not cell:
        return ""
    if role in ("naive_date", "zoned_date"):
        if not _DATE.match(cell):
            return f", not {_DATE_EXAMPLE}"
        zoned = bool(_ZONE.search(cell[10:]))
        if zoned != (role == "zoned_date"):
            return f", {'with' if zoned else 'without'} an offset from UTC, unlike the first row"
        return f", not {_DATE_EXAMPLE}"
    kind = {"tokens": "a whole number", "number": "a number", "time_number": f"a number nor {_DATE_EXAMPLE}"}[role]
    nor = "neither" if role == "time_number" else "not"
    try:
        value = float(cell) if "_" not in cell else None
    except ValueError:
        value = None
    if value is None:
        return f", {nor} {kind}"
    if not math.isfinite(value):
        return f", not {kind}" if role == "tokens" else ", not a finite number"
    if value < 0:
        return ", below 0"
    if role == "tokens":
        if value != int(value):
            return ", not a whole number"
        if value > MAX_TOKENS:
            return f", above {MAX_TOKENS}"
    return None


def _has_quotes(piece: memoryview) -> bool:
    return bool(np.any(np.frombuffer(piece, np.uint8) == ord('"')))


def _filled_lines(piece: memoryview) -> int:
    data = np.frombuffer(piece, np.uint8)
    inside = (data != ord("\n")) & (data != ord("\r"))
    return int(inside[0]) + int(np.count_nonzero(inside[1:] & ~inside[:-1]))
