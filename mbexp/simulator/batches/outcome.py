"""What a simulation leaves: one record a batch, and from it, on demand, what happened to each request."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from numba import types

from mbexp.compiled.decorators import compiled_late
from mbexp.simulator.batches.state import BATCHES_TYPE
from mbexp.simulator.outcome import Outcome

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class BatchesOutcome(Outcome):
    """Outcome of batches that ran to completion.

    Attributes
    ----------
    index : int32 array, shape (accepted,)
        Accepted requests sorted by queue, then by trace order; a batch is a window of it.
    batches : structured array, shape (batches,)
        One record a batch in order of formation, of `BATCH_DTYPE`.
    """

    REQUEST_COLUMNS: ClassVar[tuple[str, ...]] = ("batch", *Outcome.REQUEST_COLUMNS)

    index: IntArray
    batches: npt.NDArray[Any]

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

    def column(self, name: str, chosen: slice | npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return a column of `REQUEST_COLUMNS` for some of the accepted requests."""
        served_by = self.batch_of[chosen]
        if name == "batch":
            return served_by
        values: npt.NDArray[Any] = self.batches[name][served_by]
        return self.batches["start_s"][served_by] + values if name == "first_token_s" else values

    def measured(self, first: int) -> MeasuredInBatches:
        """Return the instants of the accepted requests from `first` on."""
        return MeasuredInBatches(first, self.arrival_s[first:], self.batches, self.batch_of[first:])

    def started_before(self, instants_s: FloatArray) -> npt.NDArray[np.int64]:
        """Return how many requests had started before each instant."""
        before = np.searchsorted(self.batches["start_s"], instants_s)  # batches stand in order of their start
        started = np.cumsum(self.batches["size"], dtype=np.int64)
        return np.where(before > 0, started[before - 1], 0)

    def busy_while_arriving_s(self) -> float:
        """Return how long all GPUs together were busy up to the last arrival."""
        until_s = self.arrival_s[-1]
        busy_s = np.minimum(self.batches["finish_s"], until_s)
        busy_s -= np.minimum(self.batches["start_s"], until_s)
        return float(busy_s.sum())

    def last_completion_s(self, first: int = 0) -> float:
        """Return the last completion of the accepted requests from `first` on."""
        return _last_completion_s(self.batches, self.batch_of[first:] if first else None)

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


@dataclass(frozen=True)
class MeasuredInBatches:
    """Requests that were served in batches; one column at a time, so that a long run needs no memory for all.

    Attributes
    ----------
    first : int
    arrival_s : float64 array, shape (measured,)
    batches : structured array, shape (batches,)
    batch_of : int32 array, shape (measured,)
        Batch that served each.
    """

    first: int
    arrival_s: FloatArray
    batches: npt.NDArray[Any]
    batch_of: npt.NDArray[np.int32]

    def latency_s(self) -> FloatArray:
        """Completion - arrival; holds until the next column is asked for, as do all of these."""
        return self._since_arrival(self.batches["finish_s"])

    def ttft_s(self) -> FloatArray:
        """First token - arrival."""
        return self._since_arrival(self.batches["start_s"] + self.batches["first_token_s"])

    def queue_delay_s(self) -> FloatArray:
        """Start - arrival."""
        return self._since_arrival(self.batches["start_s"])

    def service_s(self) -> FloatArray:
        """Completion - start."""
        return of_requests(self.batches["finish_s"] - self.batches["start_s"], self.batch_of, self._column)

    def decode_s(self) -> FloatArray:
        """Completion - first token: the rest of the batch, whoever in it is the longest."""
        rest_s = self.batches["finish_s"] - self.batches["start_s"] - self.batches["first_token_s"]
        return of_requests(rest_s, self.batch_of, self._column)

    @property
    def end_s(self) -> float:
        """Last completion."""
        return _last_completion_s(self.batches, self.batch_of if self.first else None)

    def _since_arrival(self, instants: FloatArray) -> FloatArray:
        _since(np.ascontiguousarray(instants), self.batch_of, self.arrival_s, self._column)
        return self._column

    @cached_property
    def _column(self) -> FloatArray:
        return np.empty(len(self.arrival_s))


def _last_completion_s(batches: npt.NDArray[Any], batch_of: npt.NDArray[np.int32] | None) -> float:
    """Return the last completion of all batches, or of those that serve the given requests."""
    if batch_of is None:
        return float(batches["finish_s"].max())
    served = np.zeros(len(batches), np.bool_)
    served[batch_of] = True
    return float(batches["finish_s"].max(where=served, initial=-np.inf))


def of_requests(
    of_batches: npt.NDArray[Any], batch_of: npt.NDArray[np.int32], out: npt.NDArray[Any] | None = None
) -> npt.NDArray[Any]:
    """Return what holds of each batch, numbers or flags, for each of its requests.

    NumPy would first make eight bytes of each number of a batch.
    """
    found = np.empty(len(batch_of), of_batches.dtype) if out is None else out
    (_flags if of_batches.dtype == np.bool_ else _numbers)(of_batches, batch_of, found)
    return found


_i4, _f8, _bool = (types.Array(dtype, 1, "C") for dtype in (types.int32, types.float64, types.boolean))


@compiled_late(types.void(BATCHES_TYPE, _i4, _i4), _nrt=False)
def _number(batches, index, served):  # type: ignore[no-untyped-def]
    """Write the number of its batch to every request."""
    for number in range(len(batches)):
        batch = batches[number]
        first = np.uint64(batch["first"])
        for place in range(first, first + np.uint64(batch["size"])):
            served[np.uint64(index[place])] = number


@compiled_late(types.void(_f8, _i4, _f8, _f8), _nrt=False)
def _since(instants, batch_of, arrival_s, out):  # type: ignore[no-untyped-def]
    for request in range(len(batch_of)):
        out[request] = instants[np.uint64(batch_of[request])] - arrival_s[request]


@compiled_late(types.void(_f8, _i4, _f8), _nrt=False)
def _numbers(of_batches, batch_of, out):  # type: ignore[no-untyped-def]
    for request in range(len(batch_of)):
        out[request] = of_batches[np.uint64(batch_of[request])]


@compiled_late(types.void(_bool, _i4, _bool), _nrt=False)
def _flags(of_batches, batch_of, out):  # type: ignore[no-untyped-def]
    for request in range(len(batch_of)):
        out[request] = of_batches[np.uint64(batch_of[request])]
