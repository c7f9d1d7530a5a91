"""Processor times of things run in turn, and whether they differ by more than chance."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
DRAWS = 4000  # of the bootstrap
SMALL = 0.02  # code laid out differently in memory differs by as much
NOISE = f"'noise' where the 99 % interval holds 1, or is within {SMALL:.0%} of it"


@dataclass(frozen=True)
class Ratio:
    """How many times as fast one thing is as another, from rounds in which both ran one after the other.

    Attributes
    ----------
    median : float
    low, high : float
        Bootstrap interval of the median, 99 %.
    rounds : int
    """

    median: float
    low: float
    high: float
    rounds: int

    @property
    def is_noise(self) -> bool:
        """Whether the two may be equally fast."""
        return self.low <= 1.0 + SMALL and self.high >= 1.0 - SMALL

    def __str__(self) -> str:
        spread = f"{_short(self.median)} ({_short(self.low)}-{_short(self.high)})"
        return f"{spread}, noise" if self.is_noise else spread


def seconds(run: Callable[[], object]) -> float:
    """Return the processor time of one run; others on the machine lengthen it only by the caches that they empty."""
    began = time.process_time()
    run()
    return time.process_time() - began


def in_turn(
    runs: Mapping[str, Callable[[], object]], rounds: Mapping[str, int], warm: bool = False
) -> dict[str, FloatArray]:
    """Run everything in turn, each in as many rounds as it is given, and once before unless it is `warm`; return times.

    Neighbours in time share what the machine is doing besides, so that their ratio means more than their times.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for run in () if warm else runs.values():
            run()
        for number in range(max(rounds.values())):
            for name, run in runs.items():
                if number < rounds[name]:
                    times[name].append(seconds(run))
    finally:
        if collecting:
            gc.enable()
    return {name: np.array(found) for name, found in times.items()}


def ratio(times: FloatArray, base: FloatArray) -> Ratio:
    """Return how many times as fast `times` are as `base`, over the rounds that both have."""
    count = min(len(times), len(base))
    ratios = base[:count] / times[:count]
    rng = np.random.default_rng(0)
    medians = np.median(ratios[rng.integers(0, count, (DRAWS, count))], axis=1)
    low, high = np.quantile(medians, [0.005, 0.995])
    return Ratio(float(np.median(ratios)), float(low), float(high), count)


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}" if value >= 3 else f"{value:.2f}"
