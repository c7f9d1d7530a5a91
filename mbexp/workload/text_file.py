"""Reads a text file of one record a line in large pieces, and finds the line at fault when a piece cannot be read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from mbexp.errors import UserError

PIECE_BYTES = 8 << 20  # read and parsed at a time: what bounds the memory, whatever the file holds
LINE_BYTES = 1 << 20  # longest line that is read

T = TypeVar("T")
_CONTENT = re.compile(rb"[^\r\n]")
_MAGIC = {
    b"\x1f\x8b": "is compressed (gzip): unpack it first",
    b"PK\x03\x04": "is a zip archive: unpack it first",
    b"\x28\xb5\x2f\xfd": "is compressed (zstd): unpack it first",
    b"BZh": "is compressed (bzip2): unpack it first",
    b"\xfd7zXZ": "is compressed (xz): unpack it first",
    b"PAR1": "is a Parquet file, not text",
    b"\xff\xfe": "is UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "is UTF-16 text: save it as UTF-8",
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself: fetch the file",
    b"<!DOCTYPE": "is a web page, not a trace",
    b"<html": "is a web page, not a trace",
}


class BadRowsError(Exception):
    """Some row among those given to a parser cannot be read; the text says what the parser found."""


def first_lines(path: Path, count: int) -> list[bytes]:
    """Return the first lines of a file without their ends; fewer where it has fewer, none where it is empty.

    Raises
    ------
    UserError
        If the file is no UTF-8 text file, or its first line is longer than `LINE_BYTES`.
    """
    head = _read(path, count * LINE_BYTES)
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise UserError(f"{path}: {what}")
    lines = re.split(rb"\r\n|\n|\r", head, maxsplit=count)
    for number, line in enumerate(lines[:count], 1):
        if len(line) >= LINE_BYTES:
            raise UserError(f"{path} line {number}: is longer than {LINE_BYTES:,} bytes")
        if b"\0" in line:
            raise UserError(f"{path} line {number}: holds NUL bytes; it is not a text file")
    return lines[:count] if head else []


def body_start(path: Path) -> int:
    """Return the offset behind the first line and its end (LF, CRLF or CR)."""
    end = re.search(rb"\r\n|\n|\r", _read(path, LINE_BYTES + 2))
    return end.end() if end else path.stat().st_size


def parse_in_pieces(
    path: Path,
    start: int,
    lines_before: int,
    parse: Callable[[memoryview], T],
    explain: Callable[[bytes], str | None],
) -> Iterator[T]:
    """Yield ``parse(piece)`` for pieces of whole lines from offset `start` on.

    Parameters
    ----------
    path, start, lines_before
        The file, the offset of its first record and the number of lines before it.
    parse
        Raises `BadRowsError` if any line of a piece is at fault. It is called again on parts of such a piece.
    explain
        Says what is wrong with one line, or None if it cannot tell.

    Raises
    ------
    UserError
        Naming file, line and fault.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            position, rest = start, b""
            while True:
                block = file.read(PIECE_BYTES)
                last = len(block) < PIECE_BYTES
                data = rest + block if rest else block
                cut = len(data) if last else data.rfind(b"\n") + 1
                if not cut and not last:
                    line = lines_before + _count_lines(path, start, position) + 1
                    raise UserError(f"{path} line {line}: is longer than {LINE_BYTES:,} bytes")
                if _CONTENT.search(data, 0, cut):
                    piece = memoryview(data)[:cut]
                    try:
                        parsed = parse(piece)
                    except BadRowsError as error:
                        line = lines_before + _count_lines(path, start, position)
                        raise _located(path, data[:cut], line, str(error), parse, explain) from None
                    yield parsed
                if last:
                    return
                position, rest = position + cut, data[cut:]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None


def _located(
    path: Path,
    data: bytes,
    lines_before: int,
    reason: str,
    parse: Callable[[memoryview], T],
    explain: Callable[[bytes], str | None],
) -> UserError:
    """Halve the piece until one line is left: exactly what the parser rejects, found with the parser itself."""

    def fails(low: int, high: int) -> str | None:
        if not _CONTENT.search(data, low, high):
            return None
        try:
            parse(memoryview(data)[low:high])
        except BadRowsError as error:
            return str(error)
        return None

    end = b"\n" if b"\n" in data else b"\r"
    low, high = 0, len(data)
    while True:
        middle = data.find(end, (low + high) // 2, high - 1) + 1
        if not middle:
            middle = data.rfind(end, low, (low + high) // 2) + 1
        if middle <= low:
            break
        first_half = fails(low, middle)
        if first_half is not None:
            high, reason = middle, first_half
            continue
        second_half = fails(middle, high)
        if second_half is None:  # each half is fine alone: a quoted field runs over lines
            number = lines_before + data.count(end, 0, low) + 1
            return UserError(f"{path} from line {number} on: a quoted field runs over several lines")
        low, reason = middle, second_half
    number = lines_before + data.count(end, 0, low) + 1
    line = data[low:high].rstrip(b"\r\n")
    if len(line) > LINE_BYTES:
        return UserError(f"{path} line {number}: is longer than {LINE_BYTES:,} bytes")
    return UserError(f"{path} line {number}: {explain(line) or f'cannot be read ({reason})'}")


def _count_lines(path: Path, start: int, stop: int) -> int:
    count = 0
    with path.open("rb") as file:
        file.seek(start)
        while start < stop:
            block = file.read(min(PIECE_BYTES, stop - start))
            if not block:
                break
            count += block.count(b"\n")
            start += len(block)
    return count


def _read(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None


def shown(value: object) -> str:
    """Return a value for a message, quoted, on one line and not too long."""
    text = str(value)
    return repr(text if len(text) <= 40 else text[:37] + "...")
