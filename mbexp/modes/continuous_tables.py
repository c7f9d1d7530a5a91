"""What a continuous run stores in place of its batches: runs of like iterations, as an Arrow table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mbexp.results.arrow import column, text_column
from mbexp.simulator.continuous.outcome import ContinuousRecords

if TYPE_CHECKING:
    import pyarrow as pa

KINDS = ("empty", "decode", "prefill", "mixed", "mixed")  # by mbexp.simulator.continuous.layout


def iterations_table(records: ContinuousRecords, first: int = 0, last: int | None = None) -> pa.Table:
    """Return one row for each run of like iterations of a GPU, in order of their beginning, or a part of the rows.

    Columns: ``batch gpu bin start_s finish_s size kind iterations decoding context_tokens prompt_tokens limit step_ms
    step_growth_ms``. ``size``: requests on the GPU, ``decoding`` of them emit a token in each iteration; ``bin`` is -1
    where the GPU serves any; ``context_tokens`` are those of the first iteration, ``prompt_tokens`` those of each;
    iteration i (from 0) takes ``step_ms + i step_growth_ms``.
    """
    import pyarrow as pa

    rows = records.segments[first:last]
    columns = {
        "batch": np.arange(first, first + len(rows), dtype=np.int32),
        "gpu": rows["gpu"],
        "bin": rows["bin"],
        "start_s": rows["start_s"],
        "finish_s": rows["finish_s"],
        "size": rows["running"],
        "iterations": rows["iterations"],
        "decoding": rows["decoding"],
        "context_tokens": rows["context_tokens"],
        "prompt_tokens": rows["prompt_tokens"],
        "limit": rows["limit"],
        "step_ms": rows["first_s"] * 1000,
        "step_growth_ms": rows["growth_s"] * 1000,
    }
    table = pa.table({name: column(values) for name, values in columns.items()})
    return table.add_column(6, "kind", text_column([KINDS[kind] for kind in rows["kind"].tolist()]))
