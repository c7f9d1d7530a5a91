"""A schedule: GPUs by interval, beside a fixed fleet; as a sentence, a table, a file, a row and a data frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mbexp.capacity.answer import HOUR_S, Answer, Probe, drawn_parts, in_words, plain
from mbexp.capacity.judge import PASS
from mbexp.config.keys import Config

if TYPE_CHECKING:
    import pandas as pd

    from mbexp.capacity.options import Options

SHOWN = 48  # rows in a terminal


@dataclass(frozen=True)
class Interval:
    """A stretch of time and the GPUs that it needs.

    Attributes
    ----------
    start_s, length_s : float
        On the trace's own clock, from its first request.
    requests : int
    rate_per_s : float
        Requests per second, at ``workload.rate_scaling`` times the trace's rate.
    num_gpus : int
    probe : Probe or None
        The simulation of the interval alone at `num_gpus`; None where no request arrives.
    """

    start_s: float
    length_s: float
    requests: int
    rate_per_s: float
    num_gpus: int
    probe: Probe | None

    def row(self) -> dict[str, Any]:
        """Return the interval as a flat row."""
        found: dict[str, Any] = {
            "start_h": self.start_s / HOUR_S,
            "length_h": self.length_s / HOUR_S,
            "requests": self.requests,
            "rate_per_s": self.rate_per_s,
            "num_gpus": self.num_gpus,
            "verdict": self.probe.verdict if self.probe else None,
        }
        return found | ({each.target.metric: each.mean for each in self.probe.judged} if self.probe else {})


class Schedule:
    """GPUs by interval.

    Attributes
    ----------
    intervals : list of Interval
    num_gpus : int
        The peak, which is the fixed fleet.
    low, mean_gpus : float
        The fewest GPUs of an interval, and the mean over time.
    gpu_hours, fixed_gpu_hours : float
        Of the schedule and of the fixed fleet; a card of tensor parallelism counts as one GPU.
    carried_per_s : float
        The highest rate that one GPU carries with the requests of the busiest interval.
    fixed : Probe
        The simulation of the whole trace by the fixed fleet.
    price, fixed_price : float
        Dollars of all GPU-hours; nan where the card has no price.
    next_command : str or None
        The command to ask next, ready to paste.
    """

    find = "schedule"

    def __init__(
        self,
        config: Config,
        options: Options,
        intervals: Sequence[Interval],
        one: Answer,
        carried_per_s: float,
        fixed: Probe,
        runs: Sequence[str],
    ) -> None:
        self.intervals, self.fixed, self.carried_per_s = list(intervals), fixed, carried_per_s
        self.targets, self.gpu, self.interval_s = one.targets, config.gpu.name, options.interval_s
        self.choices: dict[str, Any] = {}
        self.next_command: str | None = None
        self.runs = list(runs)
        self.num_gpus = max(each.num_gpus for each in self.intervals)
        self.low = min(each.num_gpus for each in self.intervals)
        cards = config.gpu.law.tensor_parallel or 1
        self.hours = sum(each.length_s for each in self.intervals) / HOUR_S
        busy = sum(each.num_gpus * each.length_s for each in self.intervals) / HOUR_S
        self.mean_gpus = busy / self.hours
        self.gpu_hours, self.fixed_gpu_hours = cards * busy, cards * self.num_gpus * self.hours
        price = math.nan if config.gpu.price_per_hour is None else config.gpu.price_per_hour
        self.price, self.fixed_price = price * self.gpu_hours, price * self.fixed_gpu_hours
        self.warnings = self._warnings(config, one)

    def _warnings(self, config: Config, one: Answer) -> list[str]:
        found = []
        if (drawn := drawn_parts(config)) is not None:
            found.append(f"generated workload: {drawn}; judge a trace of your own traffic before you buy")
        failing = [each for each in self.intervals if each.probe and each.probe.verdict != PASS]
        if failing:
            first = failing[0]
            assert first.probe is not None
            several = f"{len(failing)} of {len(self.intervals)} intervals fail" if len(failing) > 1 else "one fails"
            found.append(
                f"simulated alone, {several}; at {first.start_s / HOUR_S:.4g} h with {first.num_gpus} "
                f"GPU{'s' * (first.num_gpus != 1)}: "
                f"{first.probe.why()}"
            )
        if self.fixed.verdict != PASS:
            found.append(f"the fixed fleet of {self.num_gpus} fails: {self.fixed.why()}; find=gpus finds one that does")
        if not one.monotone:
            found.append("not monotone: one GPU fails at 1 % less than the rate that it is said to carry")
        found.append("one trace, no interval: traffic of another day asks for another schedule")
        if (outside := self.fixed.mean("extrapolated_batches_pct")) > 1:
            found.append(f"{outside:.3g} % of the batches lie outside the range that the law was measured in")
        if rejected := self.fixed.mean("rejected_requests"):
            found.append(f"{rejected:.4g} requests are rejected; percentiles are of the others")
        return found

    def rank(self) -> tuple[float, ...]:
        """Return what orders several schedules: the cheapest first, and without a price the fewest GPU-hours."""
        return (math.inf if math.isnan(self.price) else self.price, self.gpu_hours)

    def sentence(self) -> str:
        """Return the schedule in one sentence."""
        few = f"{self.num_gpus}" if self.low == self.num_gpus else f"{self.low} to {self.num_gpus}"
        often = "by the hour" if self.interval_s == HOUR_S else f"by intervals of {self.interval_s:g} s"
        meets = f"meets {in_words(self.targets)} in simulation"
        fixed = meets if self.fixed.verdict == PASS else f"fails in simulation ({self.fixed.why()})"
        said = (
            f"{few} x {self.gpu} {often}, {self.mean_gpus:.3g} in the mean: {self.gpu_hours:.4g} GPU-hours against "
            f"{self.fixed_gpu_hours:.4g} of a fixed fleet of {self.num_gpus}, which {fixed}"
        )
        if not math.isnan(self.price):
            said += f"; ${self.price:.2f} against ${self.fixed_price:.2f}"
        return f"{said}; one GPU carries {self.carried_per_s:.4g} requests/s."

    def table(self) -> list[str]:
        """Return the first intervals as lines of a terminal."""
        from mbexp.sweep.text import text_table

        rows = [each.row() for each in self.intervals]
        lines = text_table(
            rows[:SHOWN], list(dict.fromkeys(name for row in rows for name in row if name != "length_h"))
        )
        left = len(rows) - SHOWN
        return [*lines, f"  ... and {left} more, in schedule.csv"] if left > 0 else lines

    def row(self) -> dict[str, Any]:
        """Return the schedule as a flat row, without its intervals."""
        return {
            **self.choices,
            "num_gpus": self.num_gpus,
            "mean_gpus": self.mean_gpus,
            "hours": self.hours,
            "gpu_hours": self.gpu_hours,
            "fixed_gpu_hours": self.fixed_gpu_hours,
            "rate_of_one_gpu_per_s": self.carried_per_s,
            "price": self.price,
            "fixed_price": self.fixed_price,
            "fixed_verdict": self.fixed.verdict,
            **{f"{each.target}": each.mean for each in self.fixed.judged},
        }

    @property
    def frame(self) -> pd.DataFrame:
        """The intervals: a row each, with rate, GPUs, verdict and the value of each target."""
        import pandas as pd

        return pd.DataFrame([{**self.choices, **each.row()} for each in self.intervals])

    def as_dict(self) -> dict[str, Any]:
        """Return what ``answer.json`` holds; what is not known is null."""
        value: dict[str, Any] = plain(
            {
                **self.row(),
                "find": self.find,
                "choices": self.choices,
                "targets": self.targets,
                "interval_s": self.interval_s,
                "confidence": None,
                "verdicts": {
                    str(each.target): {"verdict": each.verdict, "mean": each.mean, "half_width": each.half_width}
                    for each in self.fixed.judged
                },
                "intervals": [each.row() for each in self.intervals],
                "runs": self.runs,
                "warnings": self.warnings,
                "next_command": self.next_command,
                "sentence": self.sentence(),
            }
        )
        return value
