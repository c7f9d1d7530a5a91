"""Admission by the future peak of memory (docs/semantics/memory.md#admission-by-the-future-peak)."""

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called, inlined
from mbexp.simulator.continuous.estimates import left_of, lists_of
from mbexp.simulator.continuous.layout import IN_PREFILL, NOBODY, TO_COPY, request_at

_LOW = (1 << 32) - 1  # a row is what is left, then what is held: both fit into 32 bits


@inlined
def _ahead(run, item):
    """Return how many tokens of a request in prefill count as held at once: the next, where nobody else emits then."""
    return 0 if run.chunked and not run.alone else 1


@inlined
def _insert(rows, count, held, left):
    """Insert a request that holds so many tokens and has so many left into the rows, those with most left first."""
    row = (left << 32) | held
    place = count
    while place > 0 and rows[place - 1] < row:
        rows[place] = rows[place - 1]
        place -= 1
    rows[place] = row


@inlined
def _peak_of(run, order, gpu, request, candidate, sample):
    """Return the most memory that the requests of a GPU and a candidate will take, with the lengths of one list.

    Memory is most when a request ends: those with at least as much left as it hold what they hold now, and each as many
    tokens more as it has left.
    """
    rows = order.rows
    count = 0
    other = gpu.youngest
    while other != NOBODY:
        item = request_at(run, other)
        emitted, decodes = np.int64(item.emitted), item.stage != IN_PREFILL
        emitted += gpu.step - item.joined_step if decodes else _ahead(run, item)
        left = left_of(run, gpu, item, other, emitted, sample, decodes)
        _insert(rows, count, np.int64(item.prompt) + emitted, left)
        count += 1
        other = np.int64(item.previous)
    emitted = np.int64(candidate.emitted)
    if candidate.stage != TO_COPY:
        emitted += _ahead(run, candidate)
    left = left_of(run, gpu, candidate, request, emitted, sample, False)
    _insert(rows, count, np.int64(candidate.prompt) + emitted, left)
    held, peak = 0, 0
    for place in range(count + 1):
        held += rows[place] & _LOW
        peak = max(peak, held + (place + 1) * (rows[place] >> 32))
    return peak


@called
def fits_at_its_peak(run, order, gpu, request, candidate, spare):
    """Return whether the requests of a GPU and a candidate fit until the last of them ends, if estimates hold.

    Where lengths are drawn, the largest peak of all lists counts.
    """
    for sample in range(lists_of(run, gpu)):
        if _peak_of(run, order, gpu, request, candidate, sample) + spare > run.capacity:
            return False
    return True
