"""Stationary distributions of long Markov chains on 0, 1, 2, ... whose steps are short: banded linear algebra."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError

FloatArray = npt.NDArray[np.float64]
LARGEST_SYSTEM = 80_000_000  # numbers in the banded matrix: 640 MB


def stationary_distribution(
    column: Callable[[int], tuple[int, FloatArray]], states: int, down: int, up: int, typical: int
) -> FloatArray:
    """Return the stationary distribution of a chain cut off after `states` states.

    Parameters
    ----------
    column
        Of a state n: the lowest state that a step from n reaches, and the probabilities (discrete time) or rates
        (continuous time, without the rate of staying) of reaching it and the states above it.
    states
        Number of states kept; what would step beyond goes to the last.
    down, up
        Furthest that one step falls and rises.
    typical
        A state of ordinary probability. Its own equation is the one left out, which keeps the system well conditioned.

    Notes
    -----
    The balance equations are solved by banded elimination (LAPACK ``gbsv`` through SciPy); nothing is iterated, so
    the only error beyond rounding is the cut.
    """
    from scipy.linalg import solve_banded

    if states * (2 * up + down + 3) > LARGEST_SYSTEM:
        raise UserError(
            f"the exact chain needs {states} states with steps of up to {up}: too many; "
            "lower the load or the batch size"
        )
    lower, upper = up + 1, down + 1  # leaving one state out can widen the band by one
    size = states - 1
    matrix = np.zeros((lower + upper + 1, size))
    right = np.zeros(size)
    for n in range(states):
        first, masses = column(n)
        reached = masses
        if first + len(masses) > states:
            reached = masses[: states - first].copy()
            reached[-1] += masses[states - first :].sum()
        targets = np.arange(first, first + len(reached))
        moved = targets != n
        rows = targets[moved] - (targets[moved] > typical)
        kept = targets[moved] != typical
        if n == typical:
            right[rows[kept]] += reached[moved][kept]
            continue
        place = n - (n > typical)
        matrix[upper + rows[kept] - place, place] -= reached[moved][kept]
        matrix[upper, place] += reached[moved].sum()
    solution = solve_banded((lower, upper), matrix, right, overwrite_ab=True, overwrite_b=True, check_finite=False)
    distribution = np.insert(solution, typical, 1.0)
    distribution = np.maximum(distribution, 0.0)  # rounding far in the tails
    return np.asarray(distribution / distribution.sum(), dtype=np.float64)
