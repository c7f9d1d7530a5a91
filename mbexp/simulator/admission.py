"""Which requests are accepted, and their order by queue: what the event loop begins with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

from mbexp.compiled.decorators import compiled_late
from mbexp.simulator.batches.state import Requests
from mbexp.simulator.outcome import OF_ANY_MODE

IntArray = npt.NDArray[np.int32]

_CHUNK = 1 << 16  # requests looked at together, so that their needs take no memory to speak of


def rejected_requests(
    prompt_tokens: IntArray, output_tokens: IntArray, predicted_tokens: IntArray, kv_capacity_tokens: int
) -> dict[str, IntArray]:
    """Return the places of the requests that can never fit, by reason; nothing where all fit.

    Parameters
    ----------
    prompt_tokens, output_tokens, predicted_tokens : int32 arrays, shape (n,)
    """
    if not len(prompt_tokens):
        return {}
    longest = int(max(output_tokens.max(), predicted_tokens.max()))
    if int(prompt_tokens.max()) + longest <= kv_capacity_tokens:
        return {}
    found: tuple[list[IntArray], list[IntArray]] = ([], [])
    for first in range(0, len(prompt_tokens), _CHUNK):
        chunk = slice(first, first + _CHUNK)
        prompt = prompt_tokens[chunk].astype(np.int64)
        by_prediction = prompt + predicted_tokens[chunk] > kv_capacity_tokens
        by_truth = (prompt + output_tokens[chunk] > kv_capacity_tokens) & ~by_prediction
        for places, mask in zip(found, (by_prediction, by_truth), strict=True):
            places.append((first + np.flatnonzero(mask)).astype(np.int32))
    joined = {reason: np.concatenate(places) for reason, places in zip(OF_ANY_MODE, found, strict=True)}
    return {reason: places for reason, places in joined.items() if len(places)}


def all_but(rejected: dict[str, IntArray], count: int) -> IntArray:
    """Return the places of the requests, out of `count`, that were not rejected."""
    kept = np.ones(count, np.bool_)
    for places in rejected.values():
        kept[places] = False
    return np.flatnonzero(kept).astype(np.int32)


def sorted_by_queue(
    arrival_s: npt.NDArray[np.float64],
    queue_of: npt.NDArray[np.uint16],
    num_queues: int,
    prompt_tokens: IntArray,
    output_tokens: IntArray,
    predicted_tokens: IntArray,
) -> Requests:
    """Return the requests, given in trace order, as the loop takes them."""
    n = len(arrival_s)
    if num_queues == 1:
        index = np.arange(n, dtype=np.int32)
        start = np.array([0, n])
        return Requests(arrival_s, queue_of, start, index, prompt_tokens, output_tokens, predicted_tokens)
    start = queue_starts(queue_of, num_queues)
    index, prompt, output = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.int32)
    # Right predictions need no second copy.
    predicted = output if predicted_tokens is output_tokens else np.empty(n, np.int32)
    _sort(queue_of, start.copy(), prompt_tokens, output_tokens, predicted_tokens, index, prompt, output, predicted)
    return Requests(arrival_s, queue_of, start, index, prompt, output, predicted)


def own_copies(requests: Requests) -> Requests:
    """Return requests whose columns a loop may fill as they come, none of them an array of the trace."""
    copies: dict[str, Any] = {name: np.array(getattr(requests, name)) for name in Requests._fields}
    return Requests(**copies)


def queue_starts(queue_of: npt.NDArray[np.uint16], num_queues: int) -> npt.NDArray[np.int64]:
    """Return where each queue begins among the requests sorted by queue, and the end; shape (num_queues + 1,)."""
    start = np.zeros(num_queues + 1, np.int64)
    _count(queue_of, start[1:])
    np.cumsum(start, out=start)
    return start


_i4 = types.Array(types.int32, 1, "C")


@compiled_late(types.void(types.Array(types.uint16, 1, "C"), types.Array(types.int64, 1, "C")), _nrt=False)
def _count(queue_of, counts):  # type: ignore[no-untyped-def]
    """Count the requests of each queue; NumPy's own would first make eight bytes of each two."""
    for queue in queue_of:
        counts[queue] += 1


@compiled_late(types.void(types.Array(types.uint16, 1, "C"), types.Array(types.int64, 1, "C"), *[_i4] * 7), _nrt=False)
def _sort(queue_of, places, prompt_tokens, output_tokens, predicted_tokens, index, prompt, output, predicted):  # type: ignore[no-untyped-def]
    """Sort by queue, keeping the trace order inside each; `places` says where each queue's next request goes."""
    for request in range(len(queue_of)):
        queue = queue_of[request]
        place = np.uint64(places[queue])
        places[queue] += 1
        index[place] = request
        prompt[place] = prompt_tokens[request]
        output[place] = output_tokens[request]
        predicted[place] = predicted_tokens[request]
