"""What the members of each batch come to, in one pass over them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types

from mbexp.compiled.decorators import compiled_late
from mbexp.simulator.batches.outcome import BatchesOutcome
from mbexp.simulator.batches.state import BATCHES_TYPE


class Lengths(NamedTuple):
    """Lengths of the members of each batch, in tokens; arrays of shape (batches,)."""

    longest_prompt: npt.NDArray[np.int32]
    longest_output: npt.NDArray[np.int32]
    longest_total: npt.NDArray[np.int32]
    sum_prompt: npt.NDArray[np.int64]
    sum_output: npt.NDArray[np.int64]


class Totals(NamedTuple):
    """Sums over the batches of a run.

    Attributes
    ----------
    tokens, padded_tokens : int
        Lengths of all members, and what they come to when each is as long as the longest of its batch.
    overflowing : int
        Batches whose true KV need exceeds the memory.
    outside : int
        Batches whose size or longest length lies outside a range.
    largest : int
        Most members of a batch.
    formed, limits : int64 arrays, shape (queues,)
        Batches of each queue, and the sum of their limits.
    """

    tokens: int
    padded_tokens: int
    overflowing: int
    outside: int
    largest: int
    formed: npt.NDArray[np.int64]
    limits: npt.NDArray[np.int64]


def lengths(records: BatchesOutcome, first_batch: int = 0, last_batch: int | None = None) -> Lengths:
    """Return the lengths of the batches from `first_batch` up to, without, `last_batch`."""
    batches = records.batches[first_batch:last_batch]
    count = len(batches)
    columns = Lengths(
        longest_prompt=np.empty(count, np.int32),
        longest_output=np.empty(count, np.int32),
        longest_total=np.empty(count, np.int32),
        sum_prompt=np.empty(count, np.int64),
        sum_output=np.empty(count, np.int64),
    )
    _lengths(batches, records.index, records.prompt_tokens, records.output_tokens, *columns)
    return columns


def totals(
    records: BatchesOutcome,
    first_request: int,
    counts_prompt: bool,
    size_range: tuple[int, int],
    length_range: tuple[int, int],
) -> tuple[Totals, npt.NDArray[np.float64]]:
    """Return sums over all batches, and the gaps between tokens in each.

    Parameters
    ----------
    first_request
        Only the gaps of requests from this one of the trace order on count.
    counts_prompt
        Whether a length is prompt + output, or the output alone.
    size_range, length_range
        Inclusive; a batch outside one is counted.

    Returns
    -------
    Totals
    float64 array, shape (batches,)
        Whole numbers: one less than its output tokens for each member.
    """
    queues = int(records.queue_of.max(initial=0)) + 1
    gaps, formed, limits = np.empty(len(records.batches)), np.zeros(queues, np.int64), np.zeros(queues, np.int64)
    tokens, padded_tokens, overflowing, outside, largest = _totals(
        records.batches, records.index, records.prompt_tokens, records.output_tokens, records.kv_capacity_tokens,
        first_request, counts_prompt, *size_range, *length_range, gaps, formed, limits,
    )  # fmt: skip
    return Totals(tokens, padded_tokens, overflowing, outside, largest, formed, limits), gaps


_i4, _i8, _f8 = (types.Array(dtype, 1, "C") for dtype in (types.int32, types.int64, types.float64))


@compiled_late(types.void(BATCHES_TYPE, _i4, _i4, _i4, _i4, _i4, _i4, _i8, _i8), _nrt=False)
def _lengths(batches, index, prompt, output, longest_prompt, longest_output, longest_total, sum_prompt, sum_output):  # type: ignore[no-untyped-def]
    for number in range(len(batches)):
        first = np.uint64(batches[number]["first"])
        most_prompt, most_output, most_total, all_prompt, all_output = 0, 0, 0, 0, 0
        for place in range(first, first + np.uint64(batches[number]["size"])):
            request = np.uint64(index[place])
            prompt_tokens, output_tokens = int(prompt[request]), int(output[request])
            most_prompt = max(most_prompt, prompt_tokens)
            most_output = max(most_output, output_tokens)
            most_total = max(most_total, prompt_tokens + output_tokens)
            all_prompt += prompt_tokens
            all_output += output_tokens
        longest_prompt[number] = most_prompt
        longest_output[number] = most_output
        longest_total[number] = most_total
        sum_prompt[number] = all_prompt
        sum_output[number] = all_output


@compiled_late(
    types.UniTuple(types.int64, 5)(
        BATCHES_TYPE, _i4, _i4, _i4, types.int64, types.int64, types.boolean, *[types.int64] * 4, _f8, _i8, _i8
    ),
    _nrt=False,
)
def _totals(  # type: ignore[no-untyped-def]
    batches,
    index,
    prompt,
    output,
    capacity,
    first_request,
    counts_prompt,
    smallest,
    largest,
    shortest,
    longest,
    gaps,
    formed,
    limits,
):
    tokens, padded, overflowing, outside, largest_size = 0, 0, 0, 0, 0
    for number in range(len(batches)):
        first, size = np.uint64(batches[number]["first"]), int(batches[number]["size"])
        most, need, counted, between = 0, 0, 0, 0
        for place in range(first, first + np.uint64(size)):
            request = int(index[place])
            output_tokens = int(output[np.uint64(request)])
            total = int(prompt[np.uint64(request)]) + output_tokens
            length = total if counts_prompt else output_tokens
            most = max(most, length)
            counted += length
            need += total
            if request >= first_request:
                between += output_tokens - 1
        tokens += counted
        padded += most * size
        overflowing += int(need > capacity)
        outside += int(size < smallest or size > largest or most < shortest or most > longest)
        largest_size = max(largest_size, size)
        gaps[number] = between
        formed[batches[number]["queue"]] += 1
        limits[batches[number]["queue"]] += batches[number]["limit"]
    return tokens, padded, overflowing, outside, largest_size
