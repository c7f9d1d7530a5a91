"""Opens a file of requests, whatever it is: comma- or otherwise separated text, JSON, Parquet; packed or not.

A source gives its column names. It gives its records one by one, each with the place where it stands (`cells`, slow).
Where a library reads it fast, it gives its columns in pieces (`pieces`).
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbexp.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

NESTED_LOOKED_AT = 1000  # records from which the names of nested fields are taken
LINE_BYTES = 1 << 20  # longest line, or cell, that is read
_SEPARATORS = (",", ";", "\t", "|")
MISSING = ("", "nan", "NaN", "null", "NULL", "None", "NA", "N/A")
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
_MAGIC = {
    b"PK\x03\x04": "is a zip archive: unpack it first",
    b"\xfd7zXZ": "is compressed (xz): unpack it first",
    b"\xff\xfe": "is UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "is UTF-16 text: save it as UTF-8",
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself: fetch the file",
    b"<!DOCTYPE": "is a web page, not a trace",
    b"<html": "is a web page, not a trace",
}

Record = tuple[str, Mapping[str, Any]]  # where it stands in the file ("line 7"), and its cells by name


class Source:
    """A file of records with named cells."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path, self.names = path, list(names)

    def cells(self) -> Iterator[Record]:
        """Yield every record; raises `UserError` at the first that is none."""
        raise NotImplementedError

    def pieces(self, roles: Mapping[str, str], whole_numbers: bool) -> Iterator[Mapping[str, pa.Array]] | None:
        """Return the named columns in pieces, of types that suit their roles, or None where there is no fast way."""
        return None


def open_source(path: Path, wanted: Sequence[str]) -> Source:
    """Return a file as a source; `wanted` names columns by which the separator of a text is recognised.

    Raises
    ------
    UserError
        If it is empty, or of no kind that is read.
    """
    with reading(path), _stream(path) as stream:
        head = stream.read(LINE_BYTES + 4)
    if head.startswith(b"PAR1"):
        return ParquetSource(path)
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise UserError(f"{path}: {what}")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head:
        raise UserError(f"{path}: is empty")
    if text.startswith(b"{"):
        lists = [name for name in wanted[:3] if re.search(rb'"%s"\s*:\s*\[' % re.escape(name.encode()), text)]
        if len(lists) > 1:
            return JsonColumnsSource(path, wanted)
        return JsonLinesSource(path)
    if text.startswith(b"["):
        return JsonArraySource(path)
    return SeparatedSource(path, wanted)


def refuse_all_but_text(path: Path) -> None:
    """Refuse a file that is no plain text: compressed, Parquet, or of another kind that its first bytes tell."""
    with reading(path), path.open("rb") as file:
        head = file.read(64)
    packed = {magic: f"is compressed ({name}): unpack it first" for magic, name in _PACKED.items()}
    for magic, what in {**packed, b"PAR1": "is a Parquet file, not text", **_MAGIC}.items():
        if head.startswith(magic):
            raise UserError(f"{path}: {what}")
    if b"\0" in head:
        raise UserError(f"{path}: holds NUL bytes; it is not a text file")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a file cannot be read for into a line."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({_reason(error)})") from None


def _stream(path: Path) -> Any:
    import pyarrow as pa

    with path.open("rb") as file:
        head = file.read(4)
    packed = next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)
    return pa.input_stream(str(path), compression=packed)


class SeparatedSource(Source):
    """Text with a header, cells separated by commas, semicolons, tabs or bars; quoted ones may run over lines."""

    def __init__(self, path: Path, wanted: Sequence[str]) -> None:
        with _lines(path) as lines:
            first = next(lines, "")
        if not first.strip():
            raise UserError(f"{path} line 1: is blank; the names of the columns are expected there")
        found: dict[str, list[str]] = {}
        for separator in _SEPARATORS:
            try:
                row = next(csv.reader([first], delimiter=separator, skipinitialspace=True, strict=False), [])
            except csv.Error as error:
                raise UserError(f"{path} line 1: the header cannot be read ({error})") from None
            found[separator] = [name.strip() for name in row]
        # The first of those that find most of the columns asked for.
        self.separator = max(_SEPARATORS, key=lambda each: len(set(wanted) & set(found[each])))
        super().__init__(path, found[self.separator])

    def cells(self) -> Iterator[Record]:
        count, before = len(self.names), csv.field_size_limit(LINE_BYTES)
        try:
            with _lines(self.path) as lines:
                reader = csv.reader(lines, delimiter=self.separator, strict=True)
                next(lines)
                while True:
                    place = f"line {reader.line_num + 2}"
                    try:
                        row = next(reader)
                    except StopIteration:
                        return
                    except csv.Error as error:
                        fault = {
                            "unexpected end of data": "has a quote that is not closed",
                            f"field larger than field limit ({LINE_BYTES})": (
                                f"has a quote that is not closed, or a cell longer than {LINE_BYTES:,} characters"
                            ),
                        }.get(str(error), f"cannot be read ({error})")
                        raise UserError(f"{self.path} {place}: {fault}") from None
                    if len(row) == count:
                        yield place, dict(zip(self.names, row, strict=True))
                    elif row:
                        has = f"has {len(row)} column{'s' * (len(row) != 1)}"
                        raise UserError(f"{self.path} {place}: {has}, the header has {count}")
        finally:
            csv.field_size_limit(before)

    def pieces(self, roles: Mapping[str, str], whole_numbers: bool) -> Iterator[Mapping[str, pa.Array]]:
        import pyarrow as pa
        import pyarrow.csv as pa_csv

        types = {
            "tokens": pa.int64() if whole_numbers else pa.float64(),  # "12.0" is a whole number too
            "naive_date": pa.timestamp("ns"),
            "zoned_date": pa.timestamp("ns", "UTC"),
            "text": pa.dictionary(pa.int32(), pa.utf8()),
        }
        columns = {f"c{self.names.index(name)}": types.get(role, pa.float64()) for name, role in roles.items()}
        reader = pa_csv.open_csv(
            _stream(self.path),
            read_options=pa_csv.ReadOptions(
                column_names=[f"c{at}" for at in range(len(self.names))], skip_rows=1, block_size=LINE_BYTES
            ),
            parse_options=pa_csv.ParseOptions(delimiter=self.separator, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types=columns, include_columns=list(columns), null_values=MISSING, strings_can_be_null=False
            ),
        )
        for batch in reader:
            yield dict(zip(roles, batch.columns, strict=True))


class JsonLinesSource(Source):
    """One JSON object a line."""

    # Python's own parser: pyarrow's crashes the process on some malformed files (found by tests/workload/test_fuzz.py)

    def __init__(self, path: Path) -> None:
        super().__init__(path, [])
        # a call that failed may lack what others have: the first is not always like the rest
        some = itertools.islice(self.cells(), NESTED_LOOKED_AT)
        self.names = list(next(some, ("", {}))[1])
        if any("." in name for name in self.names):
            self.names = list(dict.fromkeys([*self.names, *(name for _, record in some for name in record)]))

    def cells(self) -> Iterator[Record]:
        with _lines(self.path) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield f"line {number}", _record(self.path, f"line {number}", line)


def _whole(path: Path, what: str) -> Any:
    """Return what a file of one JSON value holds; `what` it should be is said of a file that is none."""
    with reading(path), _stream(path) as stream:
        data = stream.read()
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not {what} ({str(error)[:80]})") from None


class JsonArraySource(Source):
    """One JSON array of objects."""

    def __init__(self, path: Path) -> None:
        records = _whole(path, "a JSON array")
        self.records = records
        super().__init__(path, list(_flat(records[0])) if records and isinstance(records[0], dict) else [])

    def cells(self) -> Iterator[Record]:
        for number, record in enumerate(self.records, 1):
            if not isinstance(record, dict):
                raise UserError(f"{self.path} record {number}: is not a JSON object ({shown(record)})")
            yield f"record {number}", _flat(record)


class JsonColumnsSource(Source):
    """One JSON object whose fields are lists, one entry a request."""

    def __init__(self, path: Path, wanted: Sequence[str]) -> None:
        record = _whole(path, "one JSON object of lists")
        self.columns = {name: values for name, values in record.items() if isinstance(values, list)}
        lengths = {name: len(self.columns[name]) for name in wanted if name in self.columns}
        self.count = next(iter(lengths.values()), 0)
        for name, length in lengths.items():
            if length != self.count:
                raise UserError(f"{path}: '{name}' has {length:,} entries, '{next(iter(lengths))}' {self.count:,}")
        super().__init__(path, [name for name, values in self.columns.items() if len(values) == self.count])

    def cells(self) -> Iterator[Record]:
        for number in range(self.count):
            yield f"entry {number + 1}", {name: self.columns[name][number] for name in self.names}


class ParquetSource(Source):
    """A Parquet file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, self._file(path).schema_arrow.names)

    def cells(self) -> Iterator[Record]:
        number = 0
        for batch in self._batches(self.names):
            for record in batch.to_pylist():
                number += 1
                yield f"row {number}", record

    def pieces(self, roles: Mapping[str, str], whole_numbers: bool) -> Iterator[Mapping[str, pa.Array]]:
        import pyarrow as pa

        for batch in self._batches(list(roles)):
            columns = {}
            for name, role in roles.items():
                column = batch.column(batch.schema.names.index(name))
                if pa.types.is_dictionary(column.type):
                    column = column.dictionary_decode()
                if role == "text":
                    column = column.cast(pa.utf8()).fill_null("").dictionary_encode()
                elif role == "tokens":
                    column = column.cast(pa.int64() if pa.types.is_integer(column.type) else pa.float64())
                elif role in ("naive_date", "zoned_date"):
                    column = column.cast(pa.timestamp("ns", "UTC" if role == "zoned_date" else None))
                else:
                    column = column.cast(pa.float64())
                columns[name] = column
            yield columns

    def _batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        yield from self._file(self.path).iter_batches(columns=list(names))

    @staticmethod
    def _file(path: Path) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        try:
            return parquet.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path}: is no Parquet file that can be read ({_reason(error)})") from None


def _record(path: Path, place: str, line: str) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise UserError(f"{path} {place}: is not a JSON object ({shown(line)})")
    return _flat(record)


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with the fields of objects inside it beside its own, by dotted names."""
    found = record
    for name, value in record.items():
        if isinstance(value, dict):
            found = found if found is not record else dict(record)
            found |= {f"{name}.{inner}": each for inner, each in _flat(value).items()}
    return found


@contextlib.contextmanager
def _lines(path: Path) -> Iterator[Iterator[str]]:
    """Give the lines of a text with their ends (LF, CRLF or CR), each checked."""
    with reading(path), _stream(path) as stream:
        text = io.TextIOWrapper(io.BufferedReader(stream), "utf-8", errors="surrogateescape", newline="")
        yield _checked(path, text)


def _checked(path: Path, text: io.TextIOWrapper) -> Iterator[str]:
    number = 0
    while line := text.readline(LINE_BYTES + 1):
        number += 1
        if number == 1:
            line = line.removeprefix("\ufeff")
        fault = ""
        if len(line) > LINE_BYTES:
            fault = f"is longer than {LINE_BYTES:,} bytes"
        elif "\0" in line:
            fault = "holds NUL bytes" + ("; it is not a text file" if number == 1 else "")
        elif not line.isascii() and any("\udc80" <= character <= "\udcff" for character in line):
            fault = "is not UTF-8 text"
        if fault:
            raise UserError(f"{path} line {number}: {fault}")
        yield line


def shown(value: object) -> str:
    """Return a value for a message, quoted, on one line and not too long."""
    text = str(value).rstrip("\r\n")
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _reason(error: Exception) -> str:
    lines = str(getattr(error, "strerror", None) or error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
