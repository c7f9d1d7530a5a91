"""What a law costs the continuous event loop: the law of a step beside the linear law, on the same requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.continuous import CAP, forms
from benchmarks.report import Table
from benchmarks.timing import NOISE, in_turn, ratio

LINEAR = "linear"
STEP = {"gpu": "h100_llama31_8b"}
# The linear law takes as long a step as the law of a step does at some 1,000 tokens of context a sequence.
LAWS: Mapping[str, dict[str, Any]] = {
    LINEAR: {"gpu": "linear_p2", "gpu.law.c0_ms": 6.37, "gpu.law.c1_ms": 0.053},
    "step": {**STEP, "gpu.law.mixed_context_us": 0},
    "step, mixed term": {**STEP, "gpu.law.mixed_context_us": 0.04},
    "step, experts": {**STEP, "gpu.law.experts_ms": 4, "gpu.law.experts_active_share": 0.0625},
}
CASES: Sequence[tuple[str, int, dict[str, Any]]] = (
    ("1 GPU", 1, {}),
    ("16 GPUs", 16, {}),
    ("16 GPUs, chunked prefill", 16, {"execution.prefill": "chunked"}),
)
RATE_PER_S = 25.0  # of one GPU


def table(requests: int, rounds: int) -> Table:
    """Return the time of the loop under each law, and its ratio to that under the linear law."""
    found = Table(
        "The law of a step beside the linear law",
        ["case", "law", "M requests/s", "instants a request", "times linear, a request", "times linear, an instant"],
    )
    for name, gpus, keys in CASES:
        runs = {law: forms(requests, gpus, RATE_PER_S, {**CAP, **keys, **of}) for law, of in LAWS.items()}
        instants = {law: run().instants for law, run in runs.items()}
        times = in_turn(runs, dict.fromkeys(runs, max(rounds, 1)), warm=True)
        each = {law: times[law] / instants[law] for law in runs}
        for law in runs:
            # How many times as long the loop takes under `law`.
            costs = [ratio(times[LINEAR], times[law]), ratio(each[LINEAR], each[law])]
            speed = requests / float(np.min(times[law])) / 1e6
            row = [f"{speed:.2f}", f"{instants[law] / requests:.1f}"]
            found.rows.append([name, law, *row, *(["-", "-"] if law == LINEAR else costs)])
            found.numbers[f"{name}, {law}"] = {
                "million_requests_per_s": speed,
                "instants": instants[law],
                "times_linear": [cost.median for cost in costs],
            }
    found.remarks.append(
        f"Continuous batching of {requests:,} requests with BurstGPT-like lengths, {RATE_PER_S:.0f} a second for each "
        f"GPU; {max(rounds, 1)} rounds taken in turn, processor time of the loop and its set-up. Above 1, the loop "
        f"takes longer under the law than under the linear law; {NOISE}. Requests meet one another otherwise under "
        "each law, so that instants differ; what an arrival costs is spread over the instants of its request."
    )
    return found
