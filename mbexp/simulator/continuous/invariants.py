"""Invariants of every continuous run, checked at its end: a violated one is an error, never a number."""

from __future__ import annotations

import numpy as np

from mbexp.errors import InvariantError
from mbexp.simulator.continuous.outcome import ContinuousOutcome

ROUNDING = 1e-9  # relative: two orders of summing millions of doubles differ by far less

ARRIVED = "arrived = completed + rejected"
ONCE = "every request of the trace is accepted or rejected, once, in its order"
ARRIVALS = "time does not run back between arrivals"
ORDER = "arrival <= first admission <= first token <= completion"
GPU = "every request has a GPU"
FIFO = "the queue of a bin is first in, first out"
LEFT = "nothing is left on a GPU"
GAPS = "every token but the first of each request has a gap, lost ones too"
PROMPTS = "every prompt is computed or found computed, and only preemption does so twice"
MEMORY = "no GPU ever holds more than its memory"
LIMIT = "no GPU ever runs more than the limit"
BUSY = "a GPU is busy no longer than the run lasts"
LITTLE = "the time that requests run is the same, request by request and GPU by GPU"
ALL = (ARRIVED, ONCE, ARRIVALS, ORDER, GPU, FIFO, LEFT, GAPS, PROMPTS, MEMORY, LIMIT, BUSY, LITTLE)


def check(records: ContinuousOutcome, arrived: int, limit_max: int, central: bool) -> dict[str, int]:
    """Check what must hold of every continuous simulation; see docs/semantics/invariants.md.

    Parameters
    ----------
    arrived : int
        Requests of the trace.
    limit_max : int
        Most requests that a GPU may run.
    central : bool
        Whether the GPUs share their queues.

    Returns
    -------
    dict of str to int
        ``invariants_checked``, and ``requests_waiting_max``: most requests that waited at one time.

    Raises
    ------
    InvariantError
        Naming the first invariant that does not hold.
    """
    _check_requests(records, arrived)
    _check_queues(records, central)
    gpus = records.gpus
    for name in ("running", "decoding", "held", "context", "leaving", "prefilling"):
        _require(LEFT, not np.any(gpus[name]), f"{name}: {int(np.abs(gpus[name]).sum())}")
    if not np.any(gpus["busy_before_s"]):
        gaps = int((records.output_tokens - 1).sum(dtype=np.int64)) + records.lost_gaps
        counted = records.gaps.count, int(records.gaps.counts.sum())
        _require(GAPS, counted == (gaps, gaps), f"{gaps} against {counted[0]} and {counted[1]}")
    extra = records.recomputed_tokens
    _require(PROMPTS, extra == 0 or (extra > 0 and bool(np.any(records.preemptions))), f"{extra} tokens too many")
    capacity = records.kv_capacity_tokens // records.block_tokens
    _require(MEMORY, bool(np.all(gpus["held_max"] <= capacity)), f"{gpus['held_max'].max()} of {capacity}")
    _require(LIMIT, bool(np.all(gpus["running_max"] <= limit_max)), f"{gpus['running_max'].max()} of {limit_max}")
    if len(records.arrival_s):
        lasts_s = float(records.finish_s.max() - records.arrival_s[0])
        rounding_s = ROUNDING * float(records.finish_s.max())
        _require(BUSY, bool(np.all(gpus["busy_s"] <= lasts_s + rounding_s)), f"{gpus['busy_s'].max()} of {lasts_s} s")
        if not np.any(records.preemptions):
            by_request_s = float((records.finish_s - records.start_s).sum())
            by_gpu_s = float(gpus["running_s"].sum()) + records.paused_request_s
            near = abs(by_request_s - by_gpu_s) <= ROUNDING * by_gpu_s + rounding_s
            _require(LITTLE, near, f"{by_request_s} against {by_gpu_s} s")
    return {"invariants_checked": len(ALL), "requests_waiting_max": records.waiting_max}


def _check_requests(records: ContinuousOutcome, arrived: int) -> None:
    accepted = len(records.arrival_s)
    rejected = sum(len(places) for places in records.rejected.values())
    completed = int(np.count_nonzero(np.isfinite(records.finish_s)))
    _require(
        ARRIVED,
        arrived == completed + rejected and accepted == completed,
        f"{arrived} arrived, {accepted} were accepted, {completed} completed, {rejected} were rejected",
    )
    if records.accepted is not None or rejected:
        kept = np.arange(accepted) if records.accepted is None else records.accepted
        places = np.concatenate([kept, *records.rejected.values()])
        _require(
            ONCE,
            np.array_equal(np.sort(places), np.arange(arrived))
            and (records.by_arrival or bool(np.all(np.diff(kept) > 0))),
            "",
        )
    _require(ARRIVALS, bool(np.all(np.diff(records.arrival_s) >= 0)), "")
    in_order = (
        (records.arrival_s <= records.start_s)
        & (records.start_s <= records.first_token_s)
        & (records.first_token_s <= records.finish_s)
    )
    _require(ORDER, bool(in_order.all()), f"request {int(np.argmin(in_order)) if accepted else 0}")
    _require(GPU, bool(np.all((records.gpu >= 0) & (records.gpu < records.num_gpus))), "")


def _check_queues(records: ContinuousOutcome, central: bool) -> None:
    """First admissions of the requests of one queue come in order of arrival, where it has no order of its own."""
    if not records.is_fifo:
        return
    queue = records.queue_of.astype(np.int64)
    if not central:
        queue += records.gpu.astype(np.int64) * (int(queue.max(initial=0)) + 1)
    by_queue = np.argsort(queue, kind="stable")
    same = np.diff(queue[by_queue]) == 0
    back = same & (np.diff(records.start_s[by_queue]) < 0)
    _require(FIFO, not np.any(back), f"request {int(by_queue[1:][np.argmax(back)]) if len(back) else 0}")


def _require(invariant: str, holds: bool, what: str) -> None:
    if not holds:
        raise InvariantError(f"{invariant}{f' ({what})' if what else ''}")
