"""Whether a run shows a queue that grows for as long as requests arrive."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mbexp.results.statistics import climbs
from mbexp.simulator.outcome import Outcome

# Divisions of a run into parts, and Student's t at the 0.1 % level, one-sided, for the changes between so many.
LEVELS = {40: 3.32, 20: 3.61, 10: 4.50}
LEAST, EACH = 4, 100  # requests looked at in each part; with fewer, a finer division is not made


def queue_grows(outcome: Outcome) -> bool:
    """Return whether the number waiting, as requests find it on arrival, climbs throughout the run.

    It must climb by rank (`climbs`), and by more than a queue would that only wanders: the mean change from one part of
    the run to the next is tested against the spread of these changes, at a fine or a coarse division into parts. With
    fewer than 40 requests nothing is said.
    """
    count = len(outcome.arrival_s)
    finest = next((parts for parts in LEVELS if count >= LEAST * parts), 0)
    if not finest:
        return False
    means = waiting_found(outcome, min(finest * EACH, count // finest * finest)).reshape(finest, -1).mean(axis=1)
    return climbs(means) and any(
        drifts(means.reshape(parts, -1).mean(axis=1)) > level for parts, level in LEVELS.items() if parts <= finest
    )


def waiting_found(outcome: Outcome, number: int) -> npt.NDArray[np.int64]:
    """Return how many wait as `number` requests, evenly spaced in the trace, arrive: int64 array, shape (number,).

    Those that arrive at the same instant do not wait for each other.
    """
    arrival_s = outcome.arrival_s
    instants_s = arrival_s[np.linspace(0, len(arrival_s) - 1, number).astype(np.int64)]
    waiting: npt.NDArray[np.int64] = np.searchsorted(arrival_s, instants_s) - outcome.started_before(instants_s)
    return waiting


def drifts(means: npt.NDArray[np.float64]) -> float:
    """Return the mean change between neighbouring parts, in standard errors; 0 where there is none.

    Of a queue that neither grows nor empties, changes of one part and the next are alike in sign or cancel; their mean
    is then that of a walk without drift, whose changes are independent.
    """
    changes = np.diff(means)
    mean, spread = float(changes.mean()), float(changes.std(ddof=1))
    if mean <= 0:
        return 0.0
    return mean / spread * math.sqrt(len(changes)) if spread else math.inf
