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
def _insert(rows, count, item, emitted, ahead):
    """Insert a request that emitted so many tokens, and holds those `ahead`, into the rows: those with most left first.

    Who has outgrown its prediction emits one more at least.
    """
    left = max(np.int64(item.predicted) - emitted, 1) - ahead
    emitted += ahead
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
        emitted, ahead = np.int64(item.emitted), 0
        if item.stage == IN_PREFILL:
            ahead = _ahead(run, item)
        else:
            emitted += gpu.step - item.joined_step
        _insert(rows, count, item, emitted, ahead)
        count += 1
        request = np.int64(item.previous)
    ahead = _ahead(run, candidate) if candidate.stage != TO_COPY else 0
    _insert(rows, count, candidate, np.int64(candidate.emitted), ahead)
    held = 0
    for place in range(count + 1):
        held += rows[place] & _LOW
        if held + (place + 1) * (rows[place] >> 32) + spare > run.capacity:
            return False
    return True
