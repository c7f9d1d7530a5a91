"""What a cell of a trace may be, by the role of its column, and what is wrong with one that may not."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from typing import Any

from mbexp.config.workload_keys import MAX_TOKENS
from mbexp.workload.sources import MISSING, shown

NO_TOKENS = -1  # of a cell that is blank, null, NaN or -1: the call failed, or was not counted
_MISSING = {text.lower() for text in MISSING}
_DATE_EXAMPLE = "a date and time such as 2023-11-16 18:15:46.68"
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2})?)(?:\.(\d{1,9}))?)?\s*(Z|[+-]\d{2}(?::?\d{2})?)?")
_DATE_START = re.compile(r"\s*\d{4}-\d{2}-\d{2}")


class BadCellError(ValueError):
    """A cell that its column may not have; the text follows its value in a message."""


def read_cell(value: Any, role: str) -> Any:
    """Return the value of a cell: tokens or nanoseconds as int, numbers as float, text as str.

    Raises
    ------
    BadCellError
        If a column of that role may not have it.
    """
    if role == "text":
        return _text(value).strip()
    if role in ("naive_date", "zoned_date"):
        return _nanoseconds(value, role == "zoned_date")
    number = _number(value, role)
    if role == "tokens":
        if number is None or math.isnan(number) or number == NO_TOKENS:
            return NO_TOKENS
        if number < 0:
            raise BadCellError(", below 0")
        if number == math.inf or number != int(number):
            raise BadCellError(", not a whole number")
        if number > MAX_TOKENS:
            raise BadCellError(f", above {MAX_TOKENS}")
        return int(number)
    if number is None:
        raise BadCellError("")
    number = math.inf if number > 1e300 else float(number)  # a whole number can be beyond the largest double
    if not math.isfinite(number):
        raise BadCellError(", not a finite number")
    if number < 0:
        raise BadCellError(", below 0")
    return number


def date_role(value: Any) -> str | None:
    """Return ``zoned_date`` or ``naive_date`` for a cell that looks like a date, None for any other."""
    if isinstance(value, datetime):
        return "naive_date" if value.tzinfo is None else "zoned_date"
    if not isinstance(value, str) or not _DATE_START.match(value):
        return None
    return "zoned_date" if re.search(r"(Z|[+-]\d{2}(:?\d{2})?)\s*$", value.strip()[10:]) else "naive_date"


def describe(value: Any) -> str:
    """Return a cell for a message."""
    if isinstance(value, str) and not value.strip():
        return "empty"
    return shown(value if isinstance(value, (str, datetime)) else json.dumps(value, default=str))


def _number(value: Any, role: str) -> float | None:
    """Return a cell as a number, None where it is blank or says that there is none."""
    if value is None:
        return None
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in _MISSING and (role == "tokens" or not text):
            return None
        try:
            if "_" not in text:
                return _parsed(text)
        except ValueError:
            pass
    elif not isinstance(value, bool):
        try:
            return value if isinstance(value, int) else float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    if role == "time_number":
        raise BadCellError(f", neither a number nor {_DATE_EXAMPLE}")
    raise BadCellError(f", not a {'whole ' if role == 'tokens' else ''}number")


def _parsed(text: str) -> float:
    return int(text) if text.isdecimal() and len(text) < 400 else float(text)


def _nanoseconds(value: Any, zoned: bool) -> int:
    """Return the nanoseconds of a date and time since 1970."""
    if value is None or (isinstance(value, str) and not value.strip()):
        raise BadCellError("")
    here = date_role(value)
    if here is None:
        raise BadCellError(f", not {_DATE_EXAMPLE}")
    if (here == "zoned_date") != zoned:
        raise BadCellError(f", {'without' if zoned else 'with'} an offset from UTC, unlike the first row")
    if isinstance(value, datetime):
        moment, nanoseconds = value.replace(microsecond=0), value.microsecond * 1000
    else:
        match = _DATE.fullmatch(value.strip())
        if match is None:
            raise BadCellError(f", not {_DATE_EXAMPLE}")
        date, time, fraction, zone = match.groups()
        try:
            moment = datetime.fromisoformat(f"{date} {time or '00:00:00'}{zone or ''}")
        except ValueError:
            raise BadCellError(f", not {_DATE_EXAMPLE}") from None
        nanoseconds = int((fraction or "0").ljust(9, "0"))
    since = (moment if zoned else moment.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    found = (since.days * 86_400 + since.seconds) * 10**9 + nanoseconds
    if not -(2**63) <= found < 2**63:
        raise BadCellError(f", not {_DATE_EXAMPLE} between 1677 and 2262")
    return found


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, (str, datetime)) else json.dumps(value, default=str)
