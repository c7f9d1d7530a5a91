"""Time between tokens, counted without storing tokens: exact sums and violations, and a histogram of fine bins."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mbexp.compiled.decorators import called, inlined
from mbexp.simulator.continuous.layout import LOWEST_OCTAVE, NUM_BINS, PER_OCTAVE, gap_count


def bin_edges_s() -> npt.NDArray[np.float64]:
    """Return the lower edge of each bin and the upper one of the last, shape (NUM_BINS + 1,)."""
    octave, part = np.divmod(np.arange(NUM_BINS + 1), PER_OCTAVE)
    edges: npt.NDArray[np.float64] = np.ldexp(1.0 + part / PER_OCTAVE, octave + LOWEST_OCTAVE)
    return edges


@inlined
def bin_of(gap_s):
    """Return the bin of the histogram in which a gap counts."""
    mantissa, exponent = math.frexp(gap_s)
    gap_bin = (exponent - 1 - LOWEST_OCTAVE) * PER_OCTAVE + int((mantissa - 0.5) * (2 * PER_OCTAVE))
    return min(max(gap_bin, 0), NUM_BINS - 1) if gap_s > 0.0 else 0


@inlined
def _edge_s(gap_bin):
    """Return the lower edge of a bin of the histogram, as `bin_edges_s` does."""
    return math.ldexp(1.0 + (gap_bin % PER_OCTAVE) / PER_OCTAVE, gap_bin // PER_OCTAVE + LOWEST_OCTAVE)


@inlined
def add_gap(gap_s, weight, run):
    """Count `weight` gaps of one length: `weight` requests emit a token so long after their last one."""
    run.gaps += weight
    run.gap_sum_s += weight * gap_s
    run.gap_max_s = max(run.gap_max_s, gap_s)
    if gap_s > run.token_sla_s:
        run.gaps_above += weight
    gap_count(run, bin_of(gap_s)).value += weight


@inlined
def add_gaps(first_s, growth_s, begin, end, weight, run):
    """Count `weight` gaps of each length ``first_s + growth_s i``, i from `begin` to `end` - 1: steps without stall."""
    number = end - begin
    run.gaps += weight * number
    run.gap_sum_s += weight * (number * first_s + growth_s * (0.5 * (begin + end - 1) * number))
    low_s, high_s = first_s + growth_s * begin, first_s + growth_s * (end - 1)
    run.gap_max_s = max(run.gap_max_s, low_s, high_s)
    above = _count_above(first_s, growth_s, begin, end, run.token_sla_s)
    run.gaps_above += weight * above

    # Lengths rise or fall, so that a bin takes all the gaps from the first that is not counted yet up to its edge.
    uncounted = begin
    gap_bin = bin_of(low_s)
    last_bin = bin_of(high_s)
    while gap_bin != last_bin:
        # The first gap beyond the edge that the line crosses next.
        if growth_s > 0.0:
            edge_s = _edge_s(gap_bin + 1)
            beyond = begin + int(np.ceil((edge_s - low_s) / growth_s))
        else:
            edge_s = _edge_s(gap_bin)
            beyond = begin + int(np.floor((edge_s - low_s) / growth_s)) + 1
        beyond = min(max(beyond, uncounted + 1), end)
        gap_count(run, gap_bin).value += weight * (beyond - uncounted)
        uncounted = beyond
        if uncounted == end:
            return
        gap_bin = bin_of(first_s + growth_s * uncounted)
    gap_count(run, last_bin).value += weight * (end - uncounted)


@called
def _count_above(first_s, growth_s, begin, end, limit_s):
    """Return for how many i in [begin, end) ``first_s + growth_s i`` lies above `limit_s`; one division."""
    low_above = first_s + growth_s * begin > limit_s
    high_above = first_s + growth_s * (end - 1) > limit_s
    if low_above == high_above:
        return end - begin if low_above else 0
    cross = min(max(int((limit_s - first_s) / growth_s), begin), end - 1)
    # Rounding may leave the quotient one off.
    while cross > begin and (first_s + growth_s * (cross - 1) > limit_s) != low_above:
        cross -= 1
    while (first_s + growth_s * cross > limit_s) == low_above:
        cross += 1
    return cross - begin if low_above else end - cross
