"""The arrays that the continuous event loop works on, before a run."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mbexp.simulator.continuous.layout import (
    BOUNDARY_S,
    CACHE_LINE,
    EVENT_DTYPE,
    FRONT_LANES,
    FRONT_ROWS,
    GPU_DTYPE,
    GROUP_DTYPE,
    HEAD,
    LEAVE_DTYPE,
    LIMIT,
    LONG_PAST_S,
    NEVER_SURE,
    NOBODY,
    NUM_BINS,
    QUEUE_ROWS,
    REQUEST_DTYPE,
    ROOM,
    SAMPLE_DTYPE,
    SAMPLES,
    SEGMENT_DTYPE,
    SET_DTYPE,
    SLACK,
    TAIL,
)


class State(NamedTuple):
    """Everything that changes during a run: G GPUs, K bins, n requests, Q sets of queues (1, or one a GPU)."""

    run: npt.NDArray[Any]  # (1,)
    requests: npt.NDArray[Any]  # (n,)
    gpus: npt.NDArray[Any]  # (G,)
    leaves: npt.NDArray[Any]  # (G, width)
    groups: npt.NDArray[Any]  # (G, width)
    phases: npt.NDArray[np.int64]  # (G, block_tokens), or (G, 1)
    events: npt.NDArray[Any]  # (G,)
    fronts: npt.NDArray[np.float64]  # (6, G or a few more): when each could admit
    sets: npt.NDArray[Any]  # (Q,)
    queues: npt.NDArray[np.int64]  # (Q, 5, K)
    heads_s: npt.NDArray[np.float64]  # (Q, K): arrival of the heads
    memory: npt.NDArray[np.float64]  # (Q + 1, ...): of the selection rule; the last row is scratch
    given: npt.NDArray[np.int64]  # (2, G): requests given to a GPU and not finished, and their predicted KV need
    gap_counts: npt.NDArray[np.int64]  # (bins of the histogram,)
    segments: npt.NDArray[Any]  # (room for the log,)
    samples: npt.NDArray[Any]  # (SAMPLES,)

    start_s: npt.NDArray[np.float64]  # (n,)
    first_token_s: npt.NDArray[np.float64]  # (n,)
    finish_s: npt.NDArray[np.float64]  # (n,)
    gpu_of: npt.NDArray[np.int32]  # (n,)
    preemptions_of: npt.NDArray[np.int32]  # (n,)


def empty_state(
    run: npt.NDArray[Any], num_requests: int, num_gpus: int, num_bins: int, width: int, memory: int, log: int
) -> State:
    """Return the arrays of a run before it begins, set up by `run`; `width` entries a GPU for what it runs."""
    sets = 1 if run["central"][0] else num_gpus
    queues = np.zeros((sets, QUEUE_ROWS, num_bins), np.int64)
    queues[:, [HEAD, TAIL]] = NOBODY
    queues[:, LIMIT] = run["limit_max"][0]
    gpus = _records(num_gpus, GPU_DTYPE)
    gpus["room"] = run["capacity"]
    gpus["boundary_s"] = LONG_PAST_S
    gpus["next_update"] = run["interval_steps"]
    gpus["first_slot"] = np.arange(num_gpus) * width
    phases = int(run["block_tokens"][0]) if run["paged"][0] else 1
    gpus["first_phase"] = np.arange(num_gpus) * phases
    for name in ("place", "taken_bin", "youngest", "first_prefill"):
        gpus[name] = NOBODY
    fronts = np.zeros((FRONT_ROWS, -(-num_gpus // FRONT_LANES) * FRONT_LANES))
    fronts[ROOM] = -1
    fronts[ROOM, :num_gpus] = run["capacity"]
    fronts[BOUNDARY_S] = LONG_PAST_S
    fronts[SLACK] = NEVER_SURE
    return State(
        run=run.view(np.recarray),
        requests=_records(num_requests, REQUEST_DTYPE, filled=False),
        gpus=gpus,
        leaves=_records((num_gpus, width), LEAVE_DTYPE),
        groups=_records((num_gpus, width), GROUP_DTYPE),
        phases=np.zeros((num_gpus, phases), np.int64),
        events=_records(num_gpus, EVENT_DTYPE),
        fronts=fronts,
        sets=_records(sets, SET_DTYPE),
        queues=queues,
        heads_s=np.full((sets, num_bins), np.inf),
        memory=np.zeros((sets + 1, memory)),
        given=np.zeros((2, num_gpus), np.int64),
        gap_counts=np.zeros(NUM_BINS, np.int64),
        segments=_records(log, SEGMENT_DTYPE),
        samples=_records(SAMPLES, SAMPLE_DTYPE),
        start_s=np.empty(num_requests),
        first_token_s=np.empty(num_requests),
        finish_s=np.full(num_requests, np.nan),
        gpu_of=np.empty(num_requests, np.int32),
        preemptions_of=np.zeros(num_requests, np.int32),
    )


def _records(shape: Any, dtype: np.dtype[Any], filled: bool = True) -> Any:
    """Return records that begin at a line of the cache, of zeros unless `filled` is false."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = (np.zeros if filled else np.empty)(size + CACHE_LINE, np.uint8)
    first = -memory.ctypes.data % CACHE_LINE
    return memory[first : first + size].view(dtype).reshape(shape).view(np.recarray)
