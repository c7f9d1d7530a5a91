"""The plain case of continuous batching in C (`continuous_loop.c`): the floor of the continuous event loop."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import c_form
from mbexp.compiled.least_tree import leaves_of
from mbexp.hardware.law import LatencyLaw
from mbexp.simulator.continuous.layout import NUM_BINS
from mbexp.simulator.continuous.outcome import ContinuousOutcome
from mbexp.workload.trace import Trace

SOURCE = Path(__file__).with_name("continuous_loop.c")
GPU_BYTES, REQUEST_BYTES, GAPS_BYTES = 272, 24, 32
Arrays = dict[str, npt.NDArray[Any]]

# The fields of `Run`, in its order: numbers, then arrays of numbers by their type, or of records by their bytes.
_SIZES = ("n", "gpus", "capacity", "limit", "slots", "leaves")
_GIVEN = ("price", "arrival_s", "prompt", "output")
_MADE = (
    *("requests", "gpu", "leave", "ages", "event", "standing", "loads", "histogram"),
    *("start_s", "first_token_s", "finish_s", "gpu_of", "gaps"),
)


class _Run(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_int64) for name in _SIZES],
        ("token_sla_s", ctypes.c_double),
        *[(name, ctypes.c_void_p) for name in (*_GIVEN, *_MADE)],
        *[(name, ctypes.c_int64) for name in ("events", "stands", "instants")],
    ]


def prepare(
    trace: Trace, gpus: int, limit: int, capacity_tokens: int, law: LatencyLaw, token_sla_s: float
) -> Callable[[], Arrays]:
    """Return a function that simulates the trace once, set-up included, and returns what it found.

    Every request must fit into the memory. Lengths are known, queues first in, first out, and prefills whole.
    """
    function = c_form.build(source=SOURCE).simulate
    function.restype = None
    n, leaves = len(trace), leaves_of(gpus)
    slots = min(limit, n) + 2
    columns: Arrays = {
        "price": law.require_iteration().parameters,
        "arrival_s": trace.arrival_s,
        "prompt": np.ascontiguousarray(trace.prompt_tokens, np.int32),
        "output": np.ascontiguousarray(trace.output_tokens, np.int32),
    }

    def simulate() -> Arrays:
        made: Arrays = {
            "requests": np.empty(REQUEST_BYTES * n, np.uint8),
            "gpu": np.empty(GPU_BYTES * gpus, np.uint8),
            "leave": np.empty(16 * gpus * slots, np.uint8),
            "ages": np.empty(16 * gpus * slots, np.uint8),
            "event": np.empty(16 * gpus, np.uint8),
            "standing": np.empty(gpus, np.int64),
            "loads": np.empty(2 * leaves, np.int64),
            "histogram": np.zeros(NUM_BINS, np.int64),
            **{name: np.empty(n) for name in ("start_s", "first_token_s", "finish_s")},
            "gpu_of": np.empty(n, np.int32),
            "gaps": np.zeros(GAPS_BYTES, np.uint8),
        }
        arrays = {**columns, **made}
        run = _Run(n, gpus, capacity_tokens, limit, slots, leaves, token_sla_s)
        for name, array in arrays.items():
            setattr(run, name, array.ctypes.data)
        function(ctypes.byref(run))
        return made

    return simulate


def difference(records: ContinuousOutcome, found: Arrays) -> str | None:
    """Say where what mbexp's loop and the C form found differs, bit for bit; None where it does not."""
    pairs = {
        "start_s": records.start_s,
        "first_token_s": records.first_token_s,
        "finish_s": records.finish_s,
        "gpu_of": records.gpu,
    }
    for name, ours in pairs.items():
        if not np.array_equal(ours, found[name]):
            place = int(np.flatnonzero(ours != found[name])[0])
            return f"{name} of request {place}: {ours[place]} and {found[name][place]}"
    if not np.array_equal(records.gaps.counts, found["histogram"]):
        return "the histogram of gaps"
    sums, counts = found["gaps"].view(np.float64), found["gaps"].view(np.int64)
    if (records.gaps.max_s, records.gaps.count, records.gaps.above) != (sums[1], counts[2], counts[3]):
        return "the longest gap, the number of gaps, or those above the token SLA"
    return None
