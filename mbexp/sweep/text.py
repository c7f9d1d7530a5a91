"""Lays out rows for a terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from mbexp.results.lines import terminal_width
from mbexp.results.shown import mean_and_half

UNITS = ("_requests_per_s", "_tokens_per_s", "_per_s", "_pct", "_tokens", "_ms", "_s")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a formula of a spreadsheet begins with
UNIT_NAMES = {
    "_pct": "%",
    "_ms": "ms",
    "_s": "s",
    "_per_s": "/s",
    "_requests_per_s": "req/s",
    "_tokens_per_s": "tok/s",
    "_tokens": "tokens",
}
TITLES = {
    "request_sla_violation": "request SLA violation",
    "token_sla_violation": "token SLA violation",
    "latency_p95": "p95 latency",
    "gpu_utilization": "GPUs busy",
    "meets_target": "meets target",
}

WIDEST_TABLE = 200  # characters


def text_table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[str]:
    """Return head lines and a line for each row; a half width is shown beside its mean.

    Where the table is wider than the terminal, the words of its head stand above one another. Columns that do not fit
    even so follow in a second table, below an empty line. The columns that name the rows come first there again, as
    many as leave room for others.
    """
    columns = [name for name in dict.fromkeys(columns) if any(name in row for row in rows)]
    heads = [_title(name) for name in columns]
    cells = [[_cell(row, name) for name in columns] for row in rows]
    right = [all(isinstance(row.get(name), (int, float, type(None))) for row in rows) for name in columns]
    body = [max((len(line[place]) for line in cells), default=0) for place in range(len(columns))]
    room = terminal_width(WIDEST_TABLE)
    if 2 * len(columns) + sum(max(len(head), size) for head, size in zip(heads, body, strict=True)) > room:
        wrapped = [_wrapped(head, size) for head, size in zip(heads, body, strict=True)]
    else:
        wrapped = [[head] for head in heads]
    tall = max((len(words) for words in wrapped), default=1)
    top = [[([""] * (tall - len(words)) + words)[place] for words in wrapped] for place in range(tall)]
    widths = [max(len(line[place]) for line in [*top, *cells]) for place in range(len(columns))]
    keys = [place for place, name in enumerate(columns) if "." in name or not name.endswith(UNITS)]
    lines: list[str] = []
    for places in _parts(widths, keys, room):
        head = [line for line in top if any(line[at] for at in places)]
        lines += [""] if lines else []
        lines += [
            "  "
            + "  ".join(
                line[at].rjust(widths[at]) if right[at] else line[at].ljust(widths[at]) for at in places
            ).rstrip()
            for line in [*head, *cells]
        ]
    return lines


def _wrapped(head: str, size: int) -> list[str]:
    """Return a head over several lines, broken at blanks and at the dots of a key, as narrow as its longest word."""
    words = head.replace(".", ". ").split() if " " not in head else head.split()
    joined = textwrap.wrap(" ".join(words), max(size, *map(len, words), 1), break_long_words=False)
    return [line.replace(". ", ".") for line in joined] if " " not in head else joined


def _parts(widths: Sequence[int], keys: Sequence[int], room: int) -> list[list[int]]:
    """Return the columns of each table that fits `room`: the leading columns that name rows stand in each.

    If they take more than two thirds of the room, the tables after the first have only as many of them as fit a third.
    A column that does not fit beside them stands alone.
    """
    leading = [at for at in range(len(widths)) if keys[: at + 1] == list(range(at + 1))]
    if sum(2 + widths[at] for at in leading) > 2 * room // 3:
        while leading and sum(2 + widths[at] for at in leading) > room // 3:
            leading.pop()
    parts: list[list[int]] = [[]]
    for at in range(len(widths)):
        taken = sum(2 + widths[each] for each in parts[-1])
        if parts[-1] and taken + 2 + widths[at] > room:
            beside = sum(2 + widths[each] for each in leading) + 2 + widths[at] <= room
            parts.append([*leading] if beside else [])
        parts[-1].append(at)
    return parts


def plain_text(value: Any) -> Any:
    """Return a value of a CSV cell, with an apostrophe before a text that a spreadsheet would run as a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in FORMULA else value


def short_number(value: float) -> str:
    """Return a number with three significant digits, or all digits of a whole number."""
    if not math.isfinite(value):
        return "-"
    if float(value).is_integer() and abs(value) < 1e9:
        return f"{int(value):,}"
    if 1e-3 <= abs(value) < 1e6:
        return f"{value:,.{min(max(0, 2 - math.floor(math.log10(abs(value)))), 5)}f}"
    return f"{value:.3g}"


def _title(name: str) -> str:
    for unit in UNITS:
        if name.endswith(unit) and "." not in name:
            stem = name.removesuffix(unit)
            return f"{TITLES.get(stem, stem.replace('_', ' '))} ({UNIT_NAMES[unit]})"
    return TITLES.get(name, name)


def _cell(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (int, float)):
        return str(value)
    half = row.get(f"{name}_half_width")
    if not isinstance(half, (int, float)) or not math.isfinite(half):
        return short_number(value)
    if half <= 1e-9 * abs(value):  # what the last bits of equal numbers leave, which is no estimate of a spread
        return short_number(value)
    return " ± ".join(mean_and_half(value, half))
