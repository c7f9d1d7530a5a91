"""The two tables of a run, one row a batch and one row a request, as Arrow tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mbexp.results.arrow import column, list_column, text_column
from mbexp.simulator.outcome import Outcome

if TYPE_CHECKING:
    import pyarrow as pa

    from mbexp.workload.trace import Trace


FEW_TEXTS = 1000  # of a column that is stored as codes and their texts
ROWS_AT_ONCE = 1 << 17  # of a table that are made and written together

# Rising or all different: a dictionary would only be built to be thrown away.
_RISING = ("request", "batch")
_INSTANTS = ("arrival_s", "start_s", "finish_s")


class BatchTable(Protocol):
    """What a result asks of its mode of execution."""

    def rows(self, outcome: Any) -> int:
        """Return how many rows `table` has."""
        ...

    def table(self, outcome: Any, first: int = 0, last: int | None = None) -> pa.Table:
        """Return the rows of batches.parquet from `first` up to, without, `last`."""
        ...


def requests_table(outcome: Outcome, trace: Trace, first: int = 0, last: int | None = None) -> pa.Table:
    """Return one row a request of the trace, rejected ones included, in trace order; all or from `first` up to `last`.

    Columns: ``request arrival_s prompt_tokens output_tokens predicted_tokens bin batch gpu start_s first_token_s
    finish_s status``; of a continuous run ``preemptions`` in place of ``batch``. Then the trace's optional columns,
    text as text; one that has a name of ours is called ``trace_NAME``. What a rejected request never had is null.
    """
    import pyarrow as pa

    last = len(trace) if last is None else min(last, len(trace))
    chosen: Any = slice(first, last)
    places = None
    if outcome.accepted is not None and outcome.by_arrival:
        chosen = np.flatnonzero((outcome.accepted >= first) & (outcome.accepted < last))
        places = outcome.accepted[chosen] - first
    elif outcome.accepted is not None:
        chosen = slice(*np.searchsorted(outcome.accepted, [first, last]))
        places = outcome.accepted[chosen] - first
    served: dict[str, np.ndarray] = {
        "predicted_tokens": outcome.predicted_tokens[chosen],
        "bin": outcome.queue_of[chosen],
    }
    for name in outcome.REQUEST_COLUMNS:
        served[name] = outcome.column(name, chosen)
    if outcome.users is None and not outcome.by_arrival:
        arrival = column(trace.arrival_s[first:last])
    else:
        known = outcome.arrival_s[chosen]
        arrival = column(known) if places is None else _spread(known, places, last - first)
    columns = {
        "request": column(np.arange(first, last, dtype=np.int32)),
        "arrival_s": arrival,
        "prompt_tokens": column(trace.prompt_tokens[first:last]),
        "output_tokens": column(trace.output_tokens[first:last]),
    }
    for name, values in served.items():
        columns[name] = column(values) if places is None else _spread(values, places, last - first)
    columns["status"] = _status(outcome, first, last)
    for own, values in trace.extra.items():
        name = own
        while name in columns:
            name = f"trace_{name}"
        columns[name] = _extra(values[first:last], trace.categories.get(own))
    return pa.table(columns)


def _extra(values: np.ndarray, texts: Sequence[str] | None) -> pa.Array:
    """Return a column of the trace: numbers as they are, codes as the texts behind them, null where blank."""
    import pyarrow as pa

    if texts is None:
        return column(values)
    if len(texts) <= FEW_TEXTS:
        return pa.DictionaryArray.from_arrays(column(np.maximum(values, 0), values < 0), text_column(texts))
    used, places = np.unique(values, return_inverse=True)  # each part of the table would repeat all the texts
    names = [None if code < 0 else texts[code] for code in used]
    return text_column([names[place] for place in places])


def write_batches(mode: BatchTable, outcome: Outcome, path: Path) -> None:
    """Write a mode's table of batches as Parquet, a part at a time."""
    _write(path, mode.rows(outcome), _INSTANTS, lambda first, last: mode.table(outcome, first, last))


def write_requests(outcome: Outcome, trace: Trace, path: Path) -> None:
    """Write `requests_table` as Parquet, a part at a time."""
    different = (*_INSTANTS, "first_token_s")
    _write(path, len(trace), different, lambda first, last: requests_table(outcome, trace, first, last))


def _write(path: Path, count: int, different: Sequence[str], part: Callable[[int, int], pa.Table]) -> None:
    import pyarrow.parquet as parquet

    table = part(0, ROWS_AT_ONCE)
    names = table.schema.names
    options = {
        "compression": "zstd",
        "use_dictionary": [name for name in names if name not in (*_RISING, *different)],
        "column_encoding": {name: "DELTA_BINARY_PACKED" for name in _RISING if name in names},
    }
    with parquet.ParquetWriter(path, table.schema, **options) as writer:
        writer.write_table(table)
        for first in range(ROWS_AT_ONCE, count, ROWS_AT_ONCE):
            writer.write_table(part(first, first + ROWS_AT_ONCE))


def replications_table(summaries: Sequence[dict[str, Any]]) -> pa.Table:
    """Return one row a seed: ``seed`` and every metric of its summary, NaN as null."""
    import pyarrow as pa

    plain = {
        name: [None if isinstance(each[name], float) and np.isnan(each[name]) else each[name] for each in summaries]
        for name in summaries[0]
    }
    return pa.table({name: list_column(values) for name, values in plain.items()})


def _spread(values: np.ndarray, places: np.ndarray, length: int) -> pa.Array:
    full = np.zeros(length, values.dtype)
    missing = np.ones(length, bool)
    full[places] = values
    missing[places] = False
    return column(full, missing)


def _status(outcome: Outcome, first: int, last: int) -> pa.Array:
    import pyarrow as pa

    names = ["completed", *outcome.rejected]
    code = np.zeros(last - first, np.int8)
    for number, places in enumerate(outcome.rejected.values(), start=1):
        code[places[slice(*np.searchsorted(places, [first, last]))] - first] = number
    return pa.DictionaryArray.from_arrays(column(code), text_column(names))
