"""What a request is expected to add (docs/semantics/memory.md#what-a-request-is-expected-to-add)."""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called, inlined
from mbexp.compiled.variants import variant
from mbexp.simulator.continuous.extended import PART, history_at, length_at, length_by_size

# What a request is expected to emit: its prediction; at least so many tokens; a length of the history.
AS_PREDICTED, AT_LEAST, OF_HISTORY = 0, 1, 2
LEAST_TOKENS = 1024  # that LightLLM expects of any output
LISTS_MAX, DRAWN_LENGTHS = 5, 200  # lists of lengths at most; lengths in all of them, at the least

_BITS = (1 << 32) - 1


@inlined
def _mixed(number, more):
    """Return 32 bits made of two numbers: the finalizer of MurmurHash3 after they are joined."""
    bits = int((number ^ more) & _BITS)
    bits = ((bits ^ (bits >> 16)) * 0x85EBCA6B) & _BITS
    bits = ((bits ^ (bits >> 13)) * 0xC2B2AE35) & _BITS
    return bits ^ (bits >> 16)


@inlined
def uniform(seed, gpu, iterations, request, sample):
    """Return the number in [0, 1) that the seed gives a request, in one list, after so many iterations of a GPU."""
    bits = _mixed(_mixed(_mixed(_mixed(_mixed(0, seed), gpu), iterations), request), sample + 1)
    return bits / 4294967296.0


@inlined
def _above(run, gpu, emitted):
    """Return the place of the first length of the history above a number of tokens, in order of size."""
    low, high = 0, history_at(run, gpu.index).count
    while low < high:
        middle = (low + high) // 2
        if length_by_size(run, gpu.index, middle).value > emitted:
            high = middle
        else:
            low = middle + 1
    return low


@called
def _drawn(run, gpu, item, request, emitted, sample, decodes):
    """Return a length for a request: of who decodes one above its tokens, of others one of the history.

    The former is drawn on the line through its tokens, the lengths above them, and its prediction.
    """
    count, longest = history_at(run, gpu.index).count, np.int64(item.predicted)
    part = uniform(run.estimate_seed, gpu.index, gpu.step + gpu.prefills, request, sample)
    if not decodes:
        return min(np.int64(length_by_size(run, gpu.index, int(part * count)).value), longest)
    above = _above(run, gpu, emitted)
    along = part * (count - above + 1)
    before = int(along)
    low, high = emitted, longest
    if before > 0:
        low = np.int64(length_by_size(run, gpu.index, above + before - 1).value)
    if above + before < count:
        high = np.int64(length_by_size(run, gpu.index, above + before).value)
    return min(int(np.floor(low + (high - low) * (along - before) + 0.5)), longest)


@called
def _left_as_estimated(run, gpu, item, request, emitted, sample, decodes):
    """Return what a request is expected to emit beyond what it has emitted."""
    expected = np.int64(item.predicted)
    if run.estimate == AT_LEAST:
        expected = min(expected, max(11 * emitted // 10, np.int64(LEAST_TOKENS)))
    elif run.estimate == OF_HISTORY:
        expected = _drawn(run, gpu, item, request, emitted, sample, decodes)
    return max(expected - emitted, 0)


@inlined
def _left_as_predicted(run, gpu, item, request, emitted, sample, decodes):
    """Return what a request is predicted to emit beyond what it has emitted."""
    return max(np.int64(item.predicted) - emitted, 0)


@inlined
def _lists(run, gpu):
    """Return how many lists of lengths are drawn: as many as hold `DRAWN_LENGTHS`, up to `LISTS_MAX`."""
    return min(DRAWN_LENGTHS // max(gpu.running, 1) + 1, LISTS_MAX) if run.estimate == OF_HISTORY else 1


@inlined
def _one_list(run, gpu):
    """Return that there is one list: predictions are not drawn."""
    return 1


@called
def _learn(run, gpu, item):
    """Put the output of a request that is answered into the history of its GPU; the oldest goes if it is full."""
    if run.estimate != OF_HISTORY:
        return
    history, row = history_at(run, gpu.index), gpu.index
    place = history.count
    if history.count == run.history_size:
        oldest = length_at(run, row, history.next).value
        place = 0
        while length_by_size(run, row, place).value != oldest:
            place += 1
        while place + 1 < history.count:  # close the gap: it is now the last
            length_by_size(run, row, place).value = length_by_size(run, row, place + 1).value
            place += 1
    else:
        history.count += 1
    while place > 0 and length_by_size(run, row, place - 1).value > item.output:
        length_by_size(run, row, place).value = length_by_size(run, row, place - 1).value
        place -= 1
    length_by_size(run, row, place).value = item.output
    length_at(run, row, history.next).value = item.output
    history.next += 1
    if history.next == run.history_size:
        history.next = 0


@inlined
def _nothing_learned(run, gpu, item):
    """Do nothing: nobody looks at lengths of the past."""


left_of = variant(PART, _left_as_estimated, _left_as_predicted)
lists_of = variant(PART, _lists, _one_list)
learn_length = variant(PART, _learn, _nothing_learned)
