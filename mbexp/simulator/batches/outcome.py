"""What a simulation leaves: one record a batch, and from it, on demand, what happened to each request."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

from mbexp.compiled.decorators import compiled
from mbexp.simulator.batches.state import BATCHES_TYPE

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]

REJECTIONS = ("predicted_need_exceeds_memory", "true_need_exceeds_memory")


@dataclass(frozen=True)
class Records:
    """Outcome of a run-to-completion simulation.

    Attributes
    ----------
    arrival_s, prompt_tokens, output_tokens, predicted_tokens : arrays, shape (accepted,)
        The accepted requests in trace order.
    accepted : int32 array, shape (accepted,), or None
        Place of each accepted request in the trace; None where all were accepted.
    rejected : dict of str to int32 array
        Places in the trace of the rejected requests, by reason.
    queue_of : uint16 array, shape (accepted,)
        Queue that each accepted request joined.
    index : int32 array, shape (accepted,)
        Accepted requests sorted by queue, then by trace order; a batch is a window of it.
    batches : structured array, shape (batches,)
        One record a batch in order of formation, of `BATCH_DTYPE`.
    num_gpus, kv_capacity_tokens : int
        The hardware that ran.
    """

    arrival_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    predicted_tokens: IntArray
    accepted: IntArray | None
    queue_of: npt.NDArray[np.uint16]
    index: IntArray
    batches: npt.NDArray[Any]
    num_gpus: int
    kv_capacity_tokens: int
    rejected: dict[str, IntArray] = field(default_factory=dict)

    @property
    def by_window(self) -> npt.NDArray[np.int64]:
        """Batch numbers in the order of their windows: together they cover `index` from 0 to its end."""
        # Windows of one queue follow each other in order of formation; 16 bits sort in two passes.
        return np.argsort(self.batches["queue"].astype(np.uint16), kind="stable")

    @cached_property
    def batch_of(self) -> IntArray:
        """Number of the batch that served each accepted request, shape (accepted,), trace order."""
        served = np.empty(len(self.index), np.int32)
        _number(self.batches, self.index, served)
        return served

    def per_batch(self, values: npt.NDArray[Any], reduce: np.ufunc, dtype: Any = None) -> npt.NDArray[Any]:
        """Reduce a column of the accepted requests over the members of each batch.

        Parameters
        ----------
        values : array, shape (accepted,), trace order
        reduce : ufunc
            ``np.add``, ``np.maximum``, ...

        Returns
        -------
        array, shape (batches,), in order of formation
        """
        result = np.empty(len(self.batches), dtype or values.dtype)
        if len(result):
            order = self.by_window
            windows = self.batches["first"][order].astype(np.int64)
            result[order] = reduce.reduceat(values[self.index], windows, dtype=dtype)
        return result


@compiled(types.void(BATCHES_TYPE, types.Array(types.int32, 1, "C"), types.Array(types.int32, 1, "C")), _nrt=False)
def _number(batches, index, served):  # type: ignore[no-untyped-def]
    """Write the number of its batch to every request."""
    for number in range(len(batches)):
        batch = batches[number]
        first = np.uint64(batch["first"])
        for place in range(first, first + np.uint64(batch["size"])):
            served[np.uint64(index[place])] = number
