"""A row of docs/papers.md, and how rows become a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mbexp.results.statistics import Interval, rounded_pair

HEADER = ("| setting | printed | exact | simulated | reproduced | why |", "|---|---|---|---|---|---|")


@dataclass(frozen=True)
class Effort:
    """How much is simulated.

    Attributes
    ----------
    replications : int
        Seeds of each configuration.
    share : float
        Share of the full length of each run.
    """

    replications: int = 5
    share: float = 1.0

    def requests(self, full: int) -> int:
        """Return the length of a run that is `full` long at full effort."""
        return max(round(full * self.share), min(full, 1500))


@dataclass(frozen=True)
class Row:
    """One number of a paper.

    Attributes
    ----------
    setting : str
    printed : str
        What the paper gives: a number, "curve" where it draws without numbers, "-" where it says nothing.
    exact : str
        What theory gives, "-" where nothing exact is known.
    simulated : str
    reproduced : str
        ``yes``, ``no`` or ``partly``.
    why : str
        One phrase.
    """

    setting: str
    printed: str
    exact: str
    simulated: str
    reproduced: str
    why: str

    def __str__(self) -> str:
        cells = (self.setting, self.printed, self.exact, self.simulated, self.reproduced, self.why)
        return "| " + " | ".join(cells) + " |"


def table(rows: Iterable[Row]) -> str:
    """Return the Markdown table of `rows`."""
    return "\n".join([*HEADER, *(str(row) for row in rows)])


def shown(interval: Interval) -> str:
    """Return mean and 95 % half-width, with the decimals that the half-width calls for."""
    mean, half_width = rounded_pair(interval.mean, interval.half_width)
    return f"{mean} ± {half_width}"


def agrees(value: float, printed: float, tolerance: float) -> bool:
    """Whether a value is within a relative `tolerance` of a printed one."""
    return abs(value - printed) <= tolerance * abs(printed)
