"""GPU time that the requests of a run need when every batch leaves full: the numerator of the offered load."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from mbexp.compiled.decorators import compiled_late
from mbexp.hardware.law import LAW_TYPE, LatencyLaw
from mbexp.simulator.admission import queue_starts
from mbexp.simulator.batches.outcome import BatchesOutcome


def work_at_full_batches_s(records: BatchesOutcome, law: LatencyLaw, limits: npt.NDArray[np.int64]) -> float:
    """Return the GPU-seconds that all accepted requests need in full batches, taken in order of arrival in their queue.

    Parameters
    ----------
    limits : int64 array, shape (queues,)
        Size of a full batch of each queue; memory trims it as in the run.

    Notes
    -----
    A queue whose last batch would not be full is scaled up from its full ones; one too short for any is priced as is.
    """
    start = queue_starts(records.queue_of, len(limits))
    price = law.require_batch()
    total_s = 0.0
    for queue, limit in enumerate(limits):
        first, last = int(start[queue]), int(start[queue + 1])
        full_s, in_full, rest_s = full_batch_work(
            price.function, price.parameters, records.index, records.prompt_tokens, records.output_tokens,
            records.predicted_tokens, first, last, int(limit), records.kv_capacity_tokens,
        )  # fmt: skip
        total_s += full_s * (last - first) / in_full if in_full else rest_s
    return total_s


_i4 = types.Array(types.int32, 1, "C")


@compiled_late(
    types.Tuple((types.float64, types.int64, types.float64))(
        LAW_TYPE, types.Array(types.float64, 1, "C"), *[_i4] * 4, *[types.int64] * 4
    ),
    _nrt=False,
)
def full_batch_work(law, law_parameters, index, prompt, output, predicted, first, last, limit, capacity):  # type: ignore[no-untyped-def]
    """Price the requests `index[first:last]` in consecutive batches of `limit`, trimmed by memory.

    Returns
    -------
    (float, int, float)
        Seconds of all batches that are not the last, how many requests they hold, and seconds of the last, partial one.
    """
    full_s = 0.0
    place = first
    while place < last:
        size, need, longest_prompt, longest_output, longest_total, sum_prompt, sum_output = 0, 0, 0, 0, 0, 0, 0
        while size < limit and place + size < last:
            request = np.uint64(index[np.uint64(place + size)])
            prompt_tokens, output_tokens = int(prompt[request]), int(output[request])
            need += prompt_tokens + int(predicted[request])
            if need > capacity:
                break
            size += 1
            longest_prompt = max(longest_prompt, prompt_tokens)
            longest_output = max(longest_output, output_tokens)
            longest_total = max(longest_total, prompt_tokens + output_tokens)
            sum_prompt += prompt_tokens
            sum_output += output_tokens
        service_s, _, _ = law(
            law_parameters, size, longest_prompt, longest_output, longest_total, sum_prompt, sum_output
        )
        if size < limit and place + size == last:
            return full_s, place - first, service_s
        full_s += service_s
        place += size
    return full_s, place - first, 0.0
