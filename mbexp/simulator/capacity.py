"""GPU time that the requests of a run need when every batch leaves full: the numerator of the offered load."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mbexp.hardware.law import LatencyLaw
from mbexp.simulator.batch_loop import full_batch_work
from mbexp.simulator.records import Records


def work_at_full_batches_s(records: Records, law: LatencyLaw, limits: npt.NDArray[np.int64]) -> float:
    """Return the GPU-seconds that all accepted requests need in full batches, taken in order of arrival in their queue.

    Parameters
    ----------
    limits : int64 array, shape (queues,)
        Size of a full batch of each queue; memory trims it as in the run.

    Notes
    -----
    A queue whose last batch would not be full is scaled up from its full ones; one too short for any is priced as is.
    """
    index = records.index
    prompt, output = records.prompt_tokens[index], records.output_tokens[index]
    need = prompt + records.predicted_tokens[index]
    sizes = np.bincount(records.queue_of, minlength=len(limits))
    total_s = 0.0
    first = 0
    for queue, size in enumerate(sizes):
        last = first + int(size)
        full_s, in_full, rest_s = full_batch_work(
            law.function, law.parameters, prompt, output, need, first, last, int(limits[queue]),
            records.kv_capacity_tokens,
        )  # fmt: skip
        total_s += full_s * size / in_full if in_full else rest_s
        first = last
    return total_s
