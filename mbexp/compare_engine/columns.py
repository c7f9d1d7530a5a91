"""Tables of requests with named columns: the names that people use, with their units; never by position."""

from __future__ import annotations

from pathlib import Path

from mbexp.errors import UserError, nearest
from mbexp.hardware.grid import read_rows
from mbexp.workload.recorded import RawRecord

UNITS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
LENGTHS = {
    "prompt_tokens": ("prompt_tokens", "input_tokens", "input_toks", "num_prefill_tokens", "prompt_len", "input_len"),
    "output_tokens": (
        "output_tokens", "generation_tokens", "output_toks", "num_decode_tokens", "output_len", "completion_tokens",
    ),
}  # fmt: skip
# An instant is given as such, or as a time since the arrival. A name may end in its unit; without one it is seconds.
INSTANTS = {
    "arrival": ("arrival", "arrival_time", "arrived_at", "launch_time", "start_time"),
    "first_token": ("first_token", "first_token_time", "first_token_ts"),
    "last_token": ("last_token", "last_token_time", "last_token_ts", "finish_time", "finish", "end_time"),
}
SINCE_ARRIVAL = {
    "first_token": ("ttft", "time_to_first_token", "prefill_e2e_time"),
    "last_token": ("latency", "e2e", "e2e_latency", "end_to_end", "request_e2e_time", "generation_time_total"),
}


def read_table(file: Path) -> list[RawRecord]:
    """Return the requests of a CSV file.

    Raises
    ------
    UserError
        In one line, naming the file, the line and the column; a missing column with the names it may have.
    """
    names, rows = read_rows(file)
    columns = {role: _pick(file, names, role, aliases) for role, aliases in LENGTHS.items()}
    instants = {role: _pick_instant(file, names, role) for role in INSTANTS}
    records = []
    for line, row in enumerate(rows, 2):
        prompt, output = (_number(file, line, row, column) for column in columns.values())
        values: dict[str, float] = {}
        for role, (column, unit, since) in instants.items():
            value = _number(file, line, row, column) * unit
            values[role] = values["arrival"] + value if since else value
        records.append(
            RawRecord(f"line {line}", prompt, output, values["arrival"], values["first_token"], values["last_token"])
        )
    return records


def _pick(file: Path, names: list[str], role: str, aliases: tuple[str, ...]) -> str:
    for alias in aliases:
        if alias in names:
            return alias
    raise UserError(
        f"{file}: no column {role}{nearest(role, names)}; it may be called {', '.join(aliases)}; "
        f"the file has {', '.join(names) or 'none'}"
    )


def _pick_instant(file: Path, names: list[str], role: str) -> tuple[str, float, bool]:
    """Return the column of an instant, the seconds in its unit, and whether it counts from the arrival."""
    for aliases, since in ((INSTANTS[role], False), (SINCE_ARRIVAL.get(role, ()), True)):
        for alias in aliases:
            if alias in names:
                return alias, 1.0, since
            for unit, seconds in UNITS.items():
                if f"{alias}_{unit}" in names:
                    return f"{alias}_{unit}", seconds, since
    may = (f"{INSTANTS[role][0]}_s", *(f"{alias}_s" for alias in SINCE_ARRIVAL.get(role, ())[:1]))
    raise UserError(
        f"{file}: no column {role}_s{nearest(f'{role}_s', names)}; it may be called {' or '.join(may)}, or end in "
        f"_ms, _us or _ns; the file has {', '.join(names) or 'none'}"
    )


def _number(file: Path, line: int, row: dict[str, str], column: str) -> float:
    """Return a number; instants of wall clocks in nanoseconds are larger than a latency may be."""
    try:
        return float(row.get(column) or "")
    except ValueError:
        raise UserError(f"{file}, line {line}: {column}={row.get(column)!r} is not a number") from None
