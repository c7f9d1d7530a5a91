"""The two tables of a run, one row a batch and one row a request, as Arrow tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mbexp.results.arrow import column, list_column, text_column
from mbexp.simulator.batches.members import lengths
from mbexp.simulator.batches.outcome import Records

if TYPE_CHECKING:
    import pyarrow as pa

    from mbexp.simulator.continuous.outcome import ContinuousRecords
    from mbexp.workload.trace import Trace


ROWS_AT_ONCE = 1 << 17  # of a table that are made and written together

# Rising or all different: a dictionary would only be built to be thrown away.
_RISING = ("request", "batch")
_INSTANTS = ("arrival_s", "start_s", "finish_s")


def batches_table(records: Records | ContinuousRecords, first: int = 0, last: int | None = None) -> pa.Table:
    """Return one row a batch in order of formation, of all batches or of those from `first` up to, without, `last`.

    For a continuous run see `mbexp.modes.continuous_tables`.

    Columns: ``batch gpu bin start_s finish_s size limit b_mem b_sla controller_low controller_high first_token_s
    step_ms longest_prompt_tokens longest_output_tokens longest_tokens total_prompt_tokens total_output_tokens
    total_tokens kv_overflow``. Tokens are true lengths; ``longest_tokens`` is the longest prompt + output.
    """
    import pyarrow as pa

    if not isinstance(records, Records):
        from mbexp.modes.continuous_tables import iterations_table

        return iterations_table(records, first, last)
    rows = records.batches[first:last]
    tokens = lengths(records, first, last)
    sum_total = tokens.sum_prompt + tokens.sum_output
    columns = {
        "batch": np.arange(first, first + len(rows), dtype=np.int32),
        "gpu": rows["gpu"],
        "bin": rows["queue"],
        "start_s": rows["start_s"],
        "finish_s": rows["finish_s"],
        "size": rows["size"],
        "limit": rows["limit"],
        "b_mem": rows["b_mem"],
        "b_sla": rows["b_sla"],
        "controller_low": rows["controller_low"],
        "controller_high": rows["controller_high"],
        "first_token_s": rows["first_token_s"],
        "step_ms": rows["step_s"] * 1000,
        "longest_prompt_tokens": tokens.longest_prompt,
        "longest_output_tokens": tokens.longest_output,
        "longest_tokens": tokens.longest_total,
        "total_prompt_tokens": tokens.sum_prompt,
        "total_output_tokens": tokens.sum_output,
        "total_tokens": sum_total,
        "kv_overflow": sum_total > records.kv_capacity_tokens,
    }
    return pa.table({name: column(values) for name, values in columns.items()})


def requests_table(
    records: Records | ContinuousRecords, trace: Trace, first: int = 0, last: int | None = None
) -> pa.Table:
    """Return one row a request of the trace, rejected ones included, in trace order; all or from `first` up to `last`.

    Columns: ``request arrival_s prompt_tokens output_tokens predicted_tokens bin batch gpu start_s first_token_s
    finish_s status`` and the trace's optional columns; of a continuous run ``preemptions`` in place of ``batch``. What
    a rejected request never had is null.
    """
    import pyarrow as pa

    last = len(trace) if last is None else min(last, len(trace))
    chosen, places = slice(first, last), None
    if records.accepted is not None:
        chosen = slice(*np.searchsorted(records.accepted, [first, last]))
        places = records.accepted[chosen] - first
    served: dict[str, np.ndarray] = {
        "predicted_tokens": records.predicted_tokens[chosen],
        "bin": records.queue_of[chosen],
    }
    if isinstance(records, Records):
        rows = records.batches
        served_by = records.batch_of[chosen]
        start_s = rows["start_s"][served_by]
        served |= {
            "batch": served_by,
            "gpu": rows["gpu"][served_by],
            "start_s": start_s,
            "first_token_s": start_s + rows["first_token_s"][served_by],
            "finish_s": rows["finish_s"][served_by],
        }
    else:
        for name in ("preemptions", "gpu", "start_s", "first_token_s", "finish_s"):
            served[name] = getattr(records, name)[chosen]
    columns = {
        "request": column(np.arange(first, last, dtype=np.int32)),
        "arrival_s": column(trace.arrival_s[first:last]),
        "prompt_tokens": column(trace.prompt_tokens[first:last]),
        "output_tokens": column(trace.output_tokens[first:last]),
    }
    for name, values in served.items():
        columns[name] = column(values) if places is None else _spread(values, places, last - first)
    columns["status"] = _status(records, first, last)
    for name, values in trace.extra.items():
        columns.setdefault(name, column(values[first:last]))
    return pa.table(columns)


def write_batches(records: Records | ContinuousRecords, path: Path) -> None:
    """Write `batches_table` as Parquet, a part at a time."""
    count = len(records.batches if isinstance(records, Records) else records.segments)
    _write(path, count, _INSTANTS, lambda first, last: batches_table(records, first, last))


def write_requests(records: Records | ContinuousRecords, trace: Trace, path: Path) -> None:
    """Write `requests_table` as Parquet, a part at a time."""
    different = (*_INSTANTS, "first_token_s")
    _write(path, len(trace), different, lambda first, last: requests_table(records, trace, first, last))


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


def _status(records: Records | ContinuousRecords, first: int, last: int) -> pa.Array:
    import pyarrow as pa

    names = ["completed", *records.rejected]
    code = np.zeros(last - first, np.int8)
    for number, places in enumerate(records.rejected.values(), start=1):
        code[places[slice(*np.searchsorted(places, [first, last]))] - first] = number
    return pa.DictionaryArray.from_arrays(column(code), text_column(names))
