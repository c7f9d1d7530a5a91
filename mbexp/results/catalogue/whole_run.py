"""What is said of the run itself."""

from __future__ import annotations

from functools import partial

from mbexp.results.catalogue.metric import HALF_WIDTH, Metric

row = partial(Metric, section="The run itself")

ROWS = (
    row(
        "jain_index",
        "",
        "Jain's index",
        "How equally classes are served while requests arrive: 1 where all get the same, 1/k where one of k gets all. "
        "The service of a class is prompt + 2 output tokens, over `weight`, of its measured requests that finish by "
        "the last arrival. Only with `workload.classes`.",
        better="higher",
    ),
    row(
        "invariants_checked",
        "",
        "Invariants checked",
        "The number of invariants that were checked and hold. A run that breaks one stops with an error and has no "
        "summary.",
    ),
    row(
        "requests_waiting_max",
        "requests",
        "Most requests waiting",
        "The largest number of requests that waited at one time.",
        better="lower",
    ),
    row(
        "wall_time_s",
        "s",
        "Time to simulate",
        "The real time that loading, simulating and summarising took. With replications, it is the sum over the seeds. "
        "It is in no table of a sweep, because it differs each time.",
        better="lower",
        column=None,
    ),
    row("warnings", "", "Warnings", "Every warning that the terminal showed, one on each line."),
    row(
        f"<metric>{HALF_WIDTH}",
        "",
        "Half width",
        "The half width of the 95 % confidence interval of a metric, in the metric's unit. It exists with "
        "`replications` of 2 or more, where each metric is the mean over the seeds. Seeds with identical results are "
        "one observation, which has none. Flags and `wall_time_s` have none; a flag is true if it is true for any "
        "seed.",
        column=None,
    ),
)
