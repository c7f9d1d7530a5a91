"""Invariants of every run, checked at its end: a violated one is an error, never a number."""

from __future__ import annotations

import numpy as np
from numba import from_dtype, types

from mbexp.compiled.decorators import compiled_late
from mbexp.errors import InvariantError
from mbexp.simulator.batches.outcome import BatchesOutcome
from mbexp.simulator.batches.state import BATCH_DTYPE

ARRIVED = "arrived = completed + rejected"
ONCE = "every request of the trace is accepted or rejected, once, in its order"
ARRIVALS = "time does not run back between arrivals"
KNOWN = "every request knows its batch"
BUSY_AND_IDLE = "busy + idle time = makespan x GPUs"
LITTLE = "Little's law: the area under the number in the system = the sum of latencies"

# What the scan over the batches can find; its verdict is a place in this list.
SCANNED = (
    "no batch is empty",
    "every batch has a queue",
    "the batches of a queue take all its requests, in order, each once",
    "no batch mixes queues, and a queue is first in, first out",
    "no request is served before it arrives",
    "the true need of every served request fits into memory",
    "the predicted need of a batch fits into memory",
    "no batch is larger than its limit",
    "time does not run back between starts",
    "a batch ends at or after its start",
    "every batch has a GPU",
    "a GPU runs one batch at a time",
)
(EMPTY, QUEUE, WINDOW, ORDER, EARLY, TRUE_NEED, MEMORY, LIMIT, START, FINISH, GPU, OVERLAP) = range(len(SCANNED))
HOLDS = -1
NOTHING = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0)  # in place of what is measured, where something does not hold

ROUNDING = 1e-9  # relative: two orders of summing millions of doubles differ by far less

_f8 = types.Array(types.float64, 1, "C")
_i4 = types.Array(types.int32, 1, "C")
_i8 = types.Array(types.int64, 1, "C")
_u2 = types.Array(types.uint16, 1, "C")
_batches = types.Array(from_dtype(BATCH_DTYPE), 1, "C")


def check(records: BatchesOutcome, arrived: int | None = None) -> dict[str, int]:
    """Check what must hold of every run-to-completion simulation; see docs/semantics/invariants.md.

    Parameters
    ----------
    records : BatchesOutcome
    arrived : int, optional
        Requests of the trace; None takes those that `records` accounts for.

    Returns
    -------
    dict of str to int
        ``invariants_checked``, and ``requests_waiting_max``: most requests that waited at one time.

    Raises
    ------
    InvariantError
        Naming the first invariant that does not hold, and where.
    """
    _check_counts(records, arrived)
    # Windows that follow each other inside each queue and hold as many requests as there are leave none out.
    queue_start = np.concatenate(([0], np.cumsum(np.bincount(records.queue_of)))).astype(np.int64)
    began_s = records.arrival_s[0] if len(records.arrival_s) else 0.0
    found = _scan(
        records.batches, queue_start, records.queue_of, records.index, records.arrival_s,
        records.prompt_tokens, records.output_tokens, records.predicted_tokens, records.kv_capacity_tokens,
        queue_start[:-1].copy(), np.full(len(queue_start) - 1, -1), np.full(records.num_gpus, began_s), records.is_fifo,
    )  # fmt: skip
    broken, where, busy_s, idle_s, available_s, waited_s, served_s, latencies_s, waiting_max = found
    if broken != HOLDS:
        raise InvariantError(f"{SCANNED[broken]} (batch {where})")
    if not records.is_fifo and np.any(np.bincount(records.index, minlength=len(records.index)) != 1):
        raise InvariantError(SCANNED[WINDOW])
    if not _known(records.batches, records.index, records.batch_of):  # only now are these safe to look up
        raise InvariantError(KNOWN)
    _require_equal(BUSY_AND_IDLE, busy_s + idle_s, available_s, available_s)
    _require_equal(LITTLE, waited_s + served_s, latencies_s, latencies_s + available_s)
    return {
        "invariants_checked": len((ARRIVED, ONCE, ARRIVALS, *SCANNED, KNOWN, BUSY_AND_IDLE, LITTLE)),
        "requests_waiting_max": waiting_max,
    }


def _check_counts(records: BatchesOutcome, arrived: int | None) -> None:
    accepted = len(records.arrival_s)
    rejected = sum(len(places) for places in records.rejected.values())
    completed = int(records.batches["size"].sum(dtype=np.int64))
    total = accepted + rejected if arrived is None else arrived
    if not (total == completed + rejected and accepted == completed == len(records.index) == len(records.queue_of)):
        raise InvariantError(
            f"{ARRIVED} ({total} arrived, {accepted} were accepted, {completed} completed, {rejected} were rejected)"
        )
    if records.accepted is not None or rejected:
        kept = np.arange(accepted) if records.accepted is None else records.accepted
        places = np.concatenate([kept, *records.rejected.values()])
        in_order = records.by_arrival or bool(np.all(np.diff(kept) > 0))
        if not (np.array_equal(np.sort(places), np.arange(total)) and in_order):
            raise InvariantError(ONCE)
    forward = np.diff(records.arrival_s) >= 0
    if not forward.all():
        raise InvariantError(f"{ARRIVALS} (after request {int(np.argmin(forward))})")


def _require_equal(invariant: str, one_s: float, other_s: float, scale_s: float) -> None:
    if not abs(one_s - other_s) <= ROUNDING * scale_s:
        raise InvariantError(f"{invariant} ({one_s} against {other_s} s)")


@compiled_late(
    types.Tuple((types.int64, types.int64, *[types.float64] * 6, types.int64))(
        _batches, _i8, _u2, _i4, _f8, _i4, _i4, _i4, types.int64, _i8, _i8, _f8, types.boolean
    ),
    _nrt=False,
)
def _scan(  # type: ignore[no-untyped-def]
    batches, queue_start, queue_of, index, arrival_s, prompt, output, predicted, capacity, next_place, newest, free_s,
    is_fifo,
):  # fmt: skip
    """Follow the batches in order of formation, queue by queue and GPU by GPU.

    Parameters
    ----------
    next_place, newest
        Scratch, one number a queue: where it begins, and the last request that it sent (-1).
    free_s
        Scratch, one number a GPU: the first arrival.

    Returns
    -------
    (int, int, float, float, float, float, float, float, int)
        Place in `SCANNED` or `HOLDS`, and the batch; busy and idle GPU time, and makespan x GPUs; the areas under the
        numbers waiting and in service; the sum of latencies; the largest number waiting.
    """
    num_queues, num_gpus = len(next_place), len(free_s)
    count = len(arrival_s)
    began_s = arrival_s[0] if count > 0 else 0.0
    busy_s, idle_s, waited_s, served_s, latencies_s = 0.0, 0.0, 0.0, 0.0, 0.0
    now_s = began_s
    joined, waiting, waiting_max = 0, 0, 0

    for number in range(len(batches)):
        batch = batches[number]
        broken = HOLDS
        start_s, finish_s, first, size = batch["start_s"], batch["finish_s"], int(batch["first"]), int(batch["size"])
        queue, gpu = batch["queue"], batch["gpu"]
        if size < 1:
            broken = EMPTY
        elif queue < 0 or queue >= num_queues:
            broken = QUEUE
        elif first != next_place[queue] or first + size > queue_start[queue + 1]:
            broken = WINDOW
        elif size > batch["limit"]:
            broken = LIMIT
        elif not start_s >= now_s:
            broken = START
        elif not (start_s <= finish_s < np.inf):
            broken = FINISH
        elif gpu < 0 or gpu >= num_gpus:
            broken = GPU
        elif start_s < free_s[gpu]:
            broken = OVERLAP
        if broken != HOLDS:
            return broken, number, *NOTHING

        need = 0
        for place in range(first, first + size):
            request = index[place]
            if request < 0 or (is_fifo and request <= newest[queue]) or request >= count or queue_of[request] != queue:
                return ORDER, number, *NOTHING
            if arrival_s[request] > start_s:
                return EARLY, number, *NOTHING
            if np.int64(prompt[request]) + output[request] > capacity:
                return TRUE_NEED, number, *NOTHING
            need += np.int64(prompt[request]) + predicted[request]
            newest[queue] = request
            latencies_s += finish_s - arrival_s[request]
        if need > capacity:
            return MEMORY, number, *NOTHING
        next_place[queue] += size

        idle_s += start_s - free_s[gpu]
        busy_s += finish_s - start_s
        free_s[gpu] = finish_s

        # The number waiting changes at arrivals and starts only, and both come in order of time.
        while joined < count and arrival_s[joined] <= start_s:
            waited_s += waiting * (arrival_s[joined] - now_s)
            now_s = arrival_s[joined]
            waiting += 1
            joined += 1
        waiting_max = max(waiting_max, waiting)
        waited_s += waiting * (start_s - now_s)
        now_s = start_s
        waiting -= size
        served_s += size * (finish_s - start_s)

    ended_s = free_s[0]
    for last_s in free_s:
        ended_s = max(ended_s, last_s)
    after_s = 0.0
    for last_s in free_s:
        after_s += ended_s - last_s
    idle_s += after_s
    available_s = num_gpus * (ended_s - began_s)
    return HOLDS, 0, busy_s, idle_s, available_s, waited_s, served_s, latencies_s, waiting_max


@compiled_late(types.boolean(_batches, _i4, _i4), _nrt=False)
def _known(batches, index, batch_of):  # type: ignore[no-untyped-def]
    """Whether `batch_of` names, for every request, the batch whose window holds it."""
    for number in range(len(batches)):
        first = int(batches[number]["first"])
        for place in range(first, first + int(batches[number]["size"])):
            if batch_of[index[place]] != number:
                return False
    return True
