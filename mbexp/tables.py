"""The two tables of a run, one row a batch and one row a request, as Arrow tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mbexp.arrow import column, list_column, text_column
from mbexp.simulator.records import Records

if TYPE_CHECKING:
    import pyarrow as pa

    from mbexp.workload.trace import Trace


def batches_table(records: Records) -> pa.Table:
    """Return one row a batch in order of formation.

    Columns: ``batch gpu bin start_s finish_s size limit b_mem b_sla controller_low controller_high first_token_s
    step_ms longest_prompt_tokens longest_output_tokens longest_tokens total_prompt_tokens total_output_tokens
    total_tokens kv_overflow``. Tokens are true lengths; ``longest_tokens`` is the longest prompt + output.
    """
    import pyarrow as pa

    rows = records.batches
    total = records.prompt_tokens + records.output_tokens
    prompt_sum = records.per_batch(records.prompt_tokens, np.add, np.int64)
    output_sum = records.per_batch(records.output_tokens, np.add, np.int64)
    columns = {
        "batch": np.arange(len(rows), dtype=np.int32),
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
        "longest_prompt_tokens": records.per_batch(records.prompt_tokens, np.maximum),
        "longest_output_tokens": records.per_batch(records.output_tokens, np.maximum),
        "longest_tokens": records.per_batch(total, np.maximum),
        "total_prompt_tokens": prompt_sum,
        "total_output_tokens": output_sum,
        "total_tokens": prompt_sum + output_sum,
        "kv_overflow": prompt_sum + output_sum > records.kv_capacity_tokens,
    }
    return pa.table({name: column(values) for name, values in columns.items()})


def requests_table(records: Records, trace: Trace) -> pa.Table:
    """Return one row a request of the trace, rejected ones included, in trace order.

    Columns: ``request arrival_s prompt_tokens output_tokens predicted_tokens bin batch gpu start_s first_token_s
    finish_s status`` and the trace's optional columns. What a rejected request never had is null.
    """
    import pyarrow as pa

    rows = records.batches
    served_by = records.batch_of
    start_s = rows["start_s"][served_by]
    served = {
        "predicted_tokens": records.predicted_tokens,
        "bin": records.queue_of,
        "batch": served_by,
        "gpu": rows["gpu"][served_by],
        "start_s": start_s,
        "first_token_s": start_s + rows["first_token_s"][served_by],
        "finish_s": rows["finish_s"][served_by],
    }
    everything: dict[str, np.ndarray] = {
        "request": np.arange(len(trace), dtype=np.int32),
        "arrival_s": trace.arrival_s,
        "prompt_tokens": trace.prompt_tokens,
        "output_tokens": trace.output_tokens,
    }
    columns = {name: column(values) for name, values in everything.items()}
    for name, values in served.items():
        columns[name] = column(values) if records.accepted is None else _spread(values, records.accepted, len(trace))
    columns["status"] = _status(records, len(trace))
    for name, values in trace.extra.items():
        columns.setdefault(name, column(values))
    return pa.table(columns)


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


def _status(records: Records, length: int) -> pa.Array:
    import pyarrow as pa

    names = ["completed", *records.rejected]
    code = np.zeros(length, np.int8)
    for number, places in enumerate(records.rejected.values(), start=1):
        code[places] = number
    return pa.DictionaryArray.from_arrays(column(code), text_column(names))
