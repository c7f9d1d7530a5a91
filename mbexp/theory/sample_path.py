"""Batching queues by recursion over given arrivals, for what has no exact mean: several bins or servers, any lengths.

Nothing is drawn and no clock of events is kept: each batch's start follows from the arrivals and from when servers
become free (Lindley 1952; for several servers Kiefer and Wolfowitz 1955). Fed with random arrivals this is a Monte
Carlo value, with an error that `mbexp.results.statistics` can state.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FullBatchPath:
    """What every request meets, float64 arrays of shape (n,); nan for requests left in a batch that never fills.

    Attributes
    ----------
    formation, batch_wait, service : float64 array, shape (n,)
        Until its batch is full; from there until a server takes the batch; time of the batch.
    full_at : float64 array, shape (n,)
        Instant at which its batch became full.
    """

    formation: FloatArray
    batch_wait: FloatArray
    service: FloatArray
    full_at: FloatArray

    @property
    def latency(self) -> FloatArray:
        """Sum of the three, shape (n,)."""
        return self.formation + self.batch_wait + self.service


def full_batches(
    arrival: FloatArray, length: FloatArray, bin_index: npt.ArrayLike, batch: int, servers: int = 1
) -> FullBatchPath:
    """Return the path of P1's policy: full batches of one bin, served in the order in which they became full.

    Parameters
    ----------
    arrival, length : float64 array, shape (n,)
        Times of arrival, non-decreasing, and lengths as service times; a batch takes the longest of its members.
    bin_index : int array, shape (n,)
        Bin of each request.
    """
    bins = np.asarray(bin_index)
    members = []
    for index in np.unique(bins):
        own = np.flatnonzero(bins == index)
        members.append(own[: len(own) // batch * batch].reshape(-1, batch))
    batches = np.concatenate(members)
    batches = batches[np.argsort(batches[:, -1], kind="stable")]  # the last member is the one that fills the batch
    full_at = arrival[batches[:, -1]]
    time = length[batches].max(axis=1)
    start = start_times(full_at, time, servers)
    formation, batch_wait, service, filled = (np.full(len(arrival), np.nan) for _ in range(4))
    formation[batches] = full_at[:, None] - arrival[batches]
    batch_wait[batches] = (start - full_at)[:, None]
    service[batches] = time[:, None]
    filled[batches] = full_at[:, None]
    return FullBatchPath(formation, batch_wait, service, filled)


def start_times(ready: FloatArray, time: FloatArray, servers: int = 1) -> FloatArray:
    """Return when each job starts: first come first served on `servers`, shape (n,)."""
    if servers == 1:
        # Lindley: start_n = max over m <= n of ready_m + (time of jobs m..n-1)
        before = np.concatenate([[0.0], np.cumsum(time)[:-1]])
        return np.asarray(before + np.maximum.accumulate(ready - before), dtype=np.float64)
    free = [0.0] * servers
    starts = []
    for ready_at, duration in zip(ready.tolist(), time.tolist(), strict=True):
        begin = max(ready_at, free[0])
        heapq.heapreplace(free, begin + duration)
        starts.append(begin)
    return np.array(starts)


def greedy_batches(
    arrival: FloatArray, length: FloatArray, batch_max: int, servers: int = 1
) -> tuple[FloatArray, FloatArray]:
    """Return each request's start and end with one queue: a free server takes up to `batch_max` of what waits.

    A batch takes the longest of its members; a server that finds nothing waiting takes the next arrival alone.
    """
    start, end = np.empty(len(arrival)), np.empty(len(arrival))
    times, lengths = arrival.tolist(), length.tolist()
    free = [0.0] * servers
    head, count = 0, len(times)
    while head < count:
        begin = max(free[0], times[head])
        stop = head + 1
        while stop < count and stop < head + batch_max and times[stop] <= begin:
            stop += 1
        finish = begin + max(lengths[head:stop])
        heapq.heapreplace(free, finish)
        start[head:stop], end[head:stop] = begin, finish
        head = stop
    return start, end
