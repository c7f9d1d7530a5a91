"""One check of the simulator: configurations that everyone can run, and the values that theory gives for them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mbexp.results.statistics import Interval, mean_interval

if TYPE_CHECKING:
    from mbexp.results.result import Result

VERDICT_CONFIDENCE = 0.999  # some hundred comparisons are made: at 95 % several would be off by chance
SHOWN_CONFIDENCE = 0.95
PRECISION = 0.01  # share of the target that the verdict's half-width must stay below, so that such a bias shows
ROUNDING = 1e-5  # share of the target that lengths in whole tokens may cost
RECURSION_ROUNDING = 1e-7  # share that two ways of adding the same times up may differ by

FAST_REPLICATIONS = 8
FAST_REQUESTS = 25_000

Quantities = dict[str, float]


@dataclass(frozen=True)
class Case:
    """What to simulate and what must come out.

    Attributes
    ----------
    group, name : str
        Heading and row of the table.
    values : dict
        Keys of `mbexp.simulate`.
    measure : function
        Of a `Result`: the quantities of one run, by name.
    targets : dict of str to float
        True value of each quantity, the same for every seed.
    reference : function, optional
        Of a `Result`: values computed from that run's own requests, for quantities without a known mean. The simulated
        ones must agree with them run by run.
    source : str
        Where the targets come from.
    requests, replications : int
        Length of a run and number of seeds.
    fast : bool
        Whether the case belongs to the fast subset too.
    """

    group: str
    name: str
    values: Mapping[str, Any]
    measure: Callable[[Result], Quantities]
    source: str
    targets: Mapping[str, float] = field(default_factory=dict)
    reference: Callable[[Result], Quantities] | None = None
    requests: int = 1_000_000
    replications: int = 20
    fast: bool = False


@dataclass(frozen=True)
class Outcome:
    """A row of the table.

    Attributes
    ----------
    simulated : Interval
        At 95 %, shown.
    decisive_half_width : float
        At 99.9 %, what the verdict uses.
    verdict : str
        ``ok``, ``off``, or ``too wide`` where the interval could hide a bias of 1 %.
    """

    group: str
    name: str
    quantity: str
    target: float
    source: str
    simulated: Interval
    decisive_half_width: float
    requests: int
    verdict: str

    @property
    def ok(self) -> bool:
        """Whether the case passed."""
        return self.verdict == "ok"


def check(case: Case, fast: bool = False) -> list[Outcome]:
    """Run a case and judge each of its quantities.

    Parameters
    ----------
    fast
        Short runs, judged by their own, wider intervals without asking for the precision of the long ones.
    """
    replications = FAST_REPLICATIONS if fast else case.replications
    requests = min(FAST_REQUESTS, case.requests) if fast else case.requests
    measured: list[Quantities] = []
    expected: list[Quantities] = []
    for result in seeds(case.values, requests, replications):
        measured.append(case.measure(result))
        expected.append(dict(case.targets) if case.reference is None else case.reference(result))
    total = requests * replications
    outcomes = []
    for quantity in expected[0]:
        runs = [run[quantity] for run in measured]
        goals = [run[quantity] for run in expected]
        target = math.fsum(goals) / len(goals)
        shown = mean_interval(runs, SHOWN_CONFIDENCE)
        if case.reference is None:
            decisive = mean_interval(runs, VERDICT_CONFIDENCE).half_width
            verdict = judge(shown.mean, decisive, target, precise=not fast)
        else:
            decisive = RECURSION_ROUNDING * abs(target)
            worst = max(abs(run - goal) for run, goal in zip(runs, goals, strict=True))
            verdict = "ok" if worst <= decisive else "off"
        outcomes.append(Outcome(case.group, case.name, quantity, target, case.source, shown, decisive, total, verdict))
    return outcomes


def seeds(values: Mapping[str, Any], requests: int, replications: int) -> Iterator[Result]:
    """Run one configuration with seeds 0, 1, ...; the same as `mbexp.simulate` for each, but composed once."""
    from mbexp.config.compose import configure
    from mbexp.run import run

    config = configure(num_requests=requests, **values)
    for seed in range(replications):
        yield run(dataclasses.replace(config, seed=seed))


def judge(mean: float, half_width: float, target: float, precise: bool) -> str:
    """Return ``ok``, ``off`` or ``too wide``."""
    if not abs(mean - target) <= half_width + ROUNDING * abs(target):
        return "off"
    if precise and half_width > PRECISION * abs(target):
        return "too wide"
    return "ok"
