"""Lays out rows for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

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


def text_table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[str]:
    """Return a head line and a line for each row; a half width is shown beside its mean."""
    columns = [name for name in dict.fromkeys(columns) if any(name in row for row in rows)]
    cells = [[_title(name) for name in columns]]
    cells += [[_cell(row, name) for name in columns] for row in rows]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    right = [all(isinstance(row.get(name), (int, float, type(None))) for row in rows) for name in columns]
    return [
        "  "
        + "  ".join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in cells
    ]


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
    return f"{short_number(value)} +- {half:.2g}"
