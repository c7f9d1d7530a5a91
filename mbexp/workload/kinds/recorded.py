"""The requests of a recorded run: what genai-perf, guidellm, AIPerf, vLLM's benchmark or LLMServingSim's writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mbexp.config.workload_keys import MAX_TOKENS, WorkloadConfig
from mbexp.errors import UserError
from mbexp.workload.clock import refuse_unit
from mbexp.workload.recorded import FORMATS, Options, read_records
from mbexp.workload.rows import Rows

DEFAULT_FILE = None
CLOCK_RESOLUTION_S = 0.0
VERSION = 1
KEEPS_COLUMNS = False
READS = ("prompt.value_tokens",)

_KEYS = ("workload.prompt.value_tokens", "workload.where.benchmark")


def cache_settings(workload: WorkloadConfig) -> tuple[object, ...]:
    """Return what the rows depend on besides the file and what all kinds depend on."""
    return (workload.prompt.value_tokens,)


def read(path: Path, workload: WorkloadConfig) -> Rows:
    """Read when requests were sent and their lengths; what the engine did with them is left out.

    The format is told from the file. Where it has no lengths of prompts, all have ``workload.prompt.value_tokens``;
    where it has several benchmarks, ``workload.where.benchmark`` says which, from 1.
    """
    refuse_unit(workload, "whose formats have units of their own")
    if workload.columns.extra:
        raise UserError(f"workload.columns.extra={workload.columns.extra}: workload=recorded keeps no further columns")
    for name, values in workload.where.items():
        if name != "benchmark" or len(values) != 1 or not str(values[0]).isdecimal():
            raise UserError(f"workload.where.{name}={','.join(values)}: workload=recorded knows benchmark=NUMBER alone")
    benchmark = int(workload.where["benchmark"][0]) if workload.where else None
    told = read_records(str(path), path, Options(workload.prompt.value_tokens, benchmark, _KEYS))
    if told is None:
        raise UserError(f"{path}: is no record of {', '.join(FORMATS)}; workload=csv reads tables, by their columns")
    name, found = told
    columns = np.array([(each.arrival_s, each.prompt_tokens, each.output_tokens) for each in found.records])
    arrival_s, prompt, output = columns.reshape(-1, 3).T
    for record, *lengths in zip(found.records, prompt, output, strict=True):
        if not all(0 <= length <= MAX_TOKENS and length == int(length) for length in lengths):
            raise UserError(f"{path}, {record.place}: a length is no number of tokens up to {MAX_TOKENS}")
    if not np.isfinite(arrival_s).all():
        raise UserError(f"{path}: when a request was sent is not finite")
    return Rows(
        arrival_s=arrival_s,
        prompt_tokens=prompt.astype(np.int32),
        output_tokens=output.astype(np.int32),
        source=f"requests of a recorded run ({name})",
        notes=found.notes,
    )
