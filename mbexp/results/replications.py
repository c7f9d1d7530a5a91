"""Repeats a run with other seeds and gives means with their intervals."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

from mbexp.config.keys import Config
from mbexp.results.result import Result
from mbexp.results.statistics import mean_interval

Summary = dict[str, Any]
NO_INTERVAL = ("wall_time_s",)


def run_replications(config: Config, run_one: Callable[[Config], Result]) -> tuple[Result, list[Summary]]:
    """Run `config` with the seeds seed, seed + 1, ..., seed + replications - 1.

    Parameters
    ----------
    run_one
        Makes one run of a configuration with ``replications=1``.

    Returns
    -------
    result : Result
        Trace, prediction and records of the first seed, and the summary of all: means, and the half width of the 95 %
        interval of each as ``<metric>_half_width``. For a single replication the run as it is.
    summaries : list of dict
        One for each seed, ``seed`` first.
    """
    first: Result | None = None
    summaries: list[Summary] = []
    warnings: dict[str, str] = {}
    for seed in range(config.seed, config.seed + config.replications):
        result = run_one(dataclasses.replace(config, seed=seed, replications=1))
        first = first or result
        summaries.append({"seed": seed, **result.summary})
        for warning in result.warnings:  # the same sentence with other numbers is said once
            warnings.setdefault(re.sub(r"[\d.,]+", "#", warning), warning)
    assert first is not None
    if config.replications == 1:
        return dataclasses.replace(first, config=config), summaries
    if _all_the_same(summaries):
        warnings["same"] = (
            f"all {config.replications} seeds gave the same numbers: nothing in this configuration is random, "
            "so the intervals of width 0 say nothing"
        )
    result = dataclasses.replace(first, config=config, summary=combine(summaries), warnings=tuple(warnings.values()))
    return result, summaries


def combine(summaries: list[Summary]) -> Summary:
    """Return the mean of each metric over the seeds with its half width; a flag is set where any seed set it."""
    combined: Summary = {}
    for name in summaries[0]:
        if name == "seed":
            continue
        values = [summary[name] for summary in summaries]
        if isinstance(values[0], bool):
            combined[name] = any(values)
        elif name in NO_INTERVAL:
            combined[name] = sum(values)
        elif all(math.isfinite(value) for value in values):
            interval = mean_interval(values)
            whole = all(isinstance(value, int) and value == values[0] for value in values)
            combined[name] = values[0] if whole else interval.mean
            combined[f"{name}_half_width"] = interval.half_width
        else:
            combined[name] = combined[f"{name}_half_width"] = math.nan
    return combined


def _all_the_same(summaries: list[Summary]) -> bool:
    left_out = ("seed", *NO_INTERVAL)
    seen = [{name: repr(value) for name, value in summary.items() if name not in left_out} for summary in summaries]
    return all(other == seen[0] for other in seen)
