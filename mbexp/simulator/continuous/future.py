"""Admission by the future peak of memory (docs/semantics/memory.md#admission-by-the-future-peak)."""

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called, inlined
from mbexp.simulator.continuous.layout import IN_PREFILL, NOBODY, TO_COPY, request_at

_LOW = (1 << 32) - 1  # a row is what is left, then what is held: both fit into 32 bits


@inlined
def _ahead(run, item):
    """Return how many tokens of a request in prefill count as held at once: the next, where nobody else emits then."""
    return 0 if run.chunked and not run.alone else 1


@inlined
def _insert(rows, count, item, emitted):
    """Insert a request that holds so many emitted tokens into the rows, those with most left first."""
    left = max(np.int64(item.predicted) - emitted, 0)
    row = (left << 32) | (np.int64(item.prompt) + emitted)
    place = count
    while place > 0 and rows[place - 1] < row:
        rows[place] = rows[place - 1]
        place -= 1
    rows[place] = row


@called
def fits_at_its_peak(run, order, gpu, candidate, spare):
    """Return whether the requests of a GPU and a candidate fit until the last of them ends, if predictions hold.

    Memory is most when a request ends: those with at least as much left as it hold what they hold now, and each as many
    tokens more as it has left.
    """
    rows = order.rows
    count = 0
    request = gpu.youngest
    while request != NOBODY:
        item = request_at(run, request)
        if item.stage == IN_PREFILL:
            emitted = np.int64(item.emitted) + _ahead(run, item)
        else:
            emitted = np.int64(item.emitted) + (gpu.step - item.joined_step)
        _insert(rows, count, item, emitted)
        count += 1
        request = np.int64(item.previous)
    emitted = np.int64(candidate.emitted)
    if candidate.stage != TO_COPY:
        emitted += _ahead(run, candidate)
    _insert(rows, count, candidate, emitted)
    held = 0
    for place in range(count + 1):
        held += rows[place] & _LOW
        if held + (place + 1) * (rows[place] >> 32) + spare > run.capacity:
            return False
    return True
