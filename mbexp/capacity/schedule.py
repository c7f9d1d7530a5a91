"""GPUs over time: the trace in intervals, what each needs, and simulations that confirm it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.capacity.answer import Probe
from mbexp.capacity.judge import judge
from mbexp.capacity.options import Options
from mbexp.capacity.probes import Prober
from mbexp.capacity.question import STEP, Question, Say
from mbexp.capacity.timetable import Interval, Schedule
from mbexp.config.keys import Config
from mbexp.errors import UserError

MOST_INTERVALS = 10_000
AFTER_LAST_S = 1e-3  # the trace ends so long after its last request, so that the last interval holds it
WHOLE_PART = 0.5  # of an interval: a shorter last one joins the one before it
ROUNDING = 1e-9  # a rate that is a whole number of GPUs but for the last bits takes no further one


@dataclass(frozen=True)
class Part:
    """A stretch of the trace.

    Attributes
    ----------
    start_s, length_s : float
        On the trace's own clock, from its first request.
    requests : int
    """

    start_s: float
    length_s: float
    requests: int


def plan(config: Config, options: Options, prober: Prober, say: Say | None = None) -> Schedule:
    """Return how many GPUs each interval of the trace needs.

    The highest rate that one GPU carries is looked for with the requests of the busiest interval. An interval needs
    its own rate over that rate, rounded up. Each interval is then simulated alone at its number, and the whole trace
    at the highest of them.

    Raises
    ------
    UserError
        Where the workload has no hours of its own, and where one GPU carries no rate within the targets.
    """
    times_s = own_times_s(config)
    begin_s, end_s = _span_s(config, times_s)
    parts = split_time(times_s, begin_s, end_s, options.interval_s)
    scaling = config.workload.rate_scaling if config.workload.timestamps == "scaled" else 1.0
    rates = [scaling * part.requests / part.length_s for part in parts]
    busiest = max(range(len(parts)), key=lambda place: rates[place])
    alone = narrowed(config, parts[busiest], 1)
    by_rate = dataclasses.replace(options, find="rate")
    question = Question(alone, by_rate, prober, say, one_trace=True, changed=changes(parts[busiest], 1))
    one = question.answer()
    carried = rates[busiest] * STEP**one.probe.number
    numbers = [math.ceil(rate / carried - ROUNDING) for rate in rates]
    if (peak := max(numbers)) > options.max_gpus:
        raise UserError(
            f"max_gpus={options.max_gpus}: not enough, the busiest interval needs {peak}; raise it, or the bound"
        )
    asked = [place for place, number in enumerate(numbers) if number]
    runs = [(narrowed(config, parts[at], numbers[at]), changes(parts[at], numbers[at])) for at in asked]
    summaries = prober.alone([*runs, (with_gpus(config, peak), {"num_gpus": peak})])
    probes = []
    for number, summary in zip([*(numbers[at] for at in asked), peak], summaries, strict=True):
        verdict, judged = judge(question.targets, [summary], question.error, False)
        probes.append(Probe(number, verdict, judged, [summary]))
    found = dict(zip(asked, probes[:-1], strict=True))
    intervals = [
        Interval(part.start_s, part.length_s, part.requests, rates[at], numbers[at], found.get(at))
        for at, part in enumerate(parts)
    ]
    return Schedule(config, options, intervals, one, carried, probes[-1], list(prober.keys))


def _span_s(config: Config, times_s: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return where the first interval begins, and where the last one ends."""
    window = config.workload.window
    end_s = float(times_s[-1]) + AFTER_LAST_S
    if window.kind != "time":
        return 0.0, end_s
    if window.start_s >= end_s:
        raise UserError(
            f"workload.window.start_s={window.start_s:g}: no request arrives then; the trace lasts {end_s:,.0f} s"
        )
    return window.start_s, end_s if window.duration_s is None else min(end_s, window.start_s + window.duration_s)


def own_times_s(config: Config) -> npt.NDArray[np.float64]:
    """Return the arrivals of the whole trace on its own clock, seconds after its first request; non-decreasing.

    Raises
    ------
    UserError
        Where they are not the trace's own, or a part of it is chosen by a number of requests.
    """
    from mbexp.workload import load_trace

    workload = config.workload
    if workload.kind == "synthetic":
        raise UserError("find=schedule: workload=synthetic has one rate at all hours; find=gpus answers for it")
    if workload.timestamps == "generated":
        raise UserError(
            "workload.timestamps=generated: find=schedule needs the trace's own times; take real, or scaled with "
            "workload.rate_scaling"
        )
    if workload.window.kind == "rows" and workload.window.start_row:
        raise UserError(
            f"workload.window.start_row={workload.window.start_row}: find=schedule splits the trace by time; "
            "workload.window.kind=time with start_s and duration_s takes a part of it"
        )
    window = dataclasses.replace(workload.window, kind="rows", start_row=0)
    plain = dataclasses.replace(workload, window=window, timestamps="real", spread_ties_s=0.0)
    return load_trace(plain, None, config.seed, "seeds").arrival_s


def split_time(times_s: npt.NDArray[np.float64], begin_s: float, end_s: float, interval_s: float) -> list[Part]:
    """Return the intervals from `begin_s` up to `end_s`; a last one shorter than half an interval joins the one before.

    Parameters
    ----------
    times_s : float64 array, shape (n,)
        Arrivals, non-decreasing.
    """
    whole, left_s = divmod(end_s - begin_s, interval_s)
    count = max(1, int(whole) + (left_s >= WHOLE_PART * interval_s))
    if count > MOST_INTERVALS:
        raise UserError(f"interval_s={interval_s:g}: makes {count:,} intervals; {MOST_INTERVALS:,} are the most")
    edges = np.append(begin_s + interval_s * np.arange(count), end_s)
    counts = np.diff(np.searchsorted(times_s, edges, side="left"))
    return [Part(float(edges[at]), float(edges[at + 1] - edges[at]), int(number)) for at, number in enumerate(counts)]


def changes(part: Part, num_gpus: int) -> dict[str, Any]:
    """Return the keys, with their values, of a number of GPUs that serve one interval alone."""
    window = {"kind": "time", "start_s": part.start_s, "duration_s": part.length_s}
    return {"num_gpus": num_gpus, **{f"workload.window.{key}": value for key, value in window.items()}}


def narrowed(config: Config, part: Part, num_gpus: int) -> Config:
    """Return the configuration of a number of GPUs that serve one interval alone."""
    window = dataclasses.replace(
        config.workload.window, kind="time", start_s=part.start_s, duration_s=part.length_s, start_row=0
    )
    return dataclasses.replace(
        with_gpus(config, num_gpus), workload=dataclasses.replace(config.workload, window=window)
    )


def with_gpus(config: Config, num_gpus: int) -> Config:
    """Return the configuration with another number of GPUs."""
    return dataclasses.replace(config, num_gpus=num_gpus, gpu=dataclasses.replace(config.gpu, count=num_gpus))
