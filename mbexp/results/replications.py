"""Repeats a run with other seeds and gives means with their intervals; says once what several runs say."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mbexp.config.keys import Config
from mbexp.results.result import Result
from mbexp.results.statistics import distinct, mean_interval

Summary = dict[str, Any]
NO_INTERVAL = ("wall_time_s",)
NUMBER = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?(?:e[+-]?\d+)?")
RANGE = re.compile(rf"(?:{NUMBER.pattern})(?: to (?:{NUMBER.pattern}))?")


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
    warnings: list[Sequence[str]] = []
    further: list[Result] = []
    seeds = range(config.seed, config.seed + config.replications)
    ahead: dict[int, Result] = {}
    if config.replicate == "windows":  # a trace that holds too few says so with the last, before all others are run
        ahead[seeds[-1]] = run_one(dataclasses.replace(config, seed=seeds[-1], replications=1))
    for seed in seeds:
        result = ahead.pop(seed, None) or run_one(dataclasses.replace(config, seed=seed, replications=1))
        if first is None:
            first = result
        elif config.output.every_replication:
            further.append(result)
        summaries.append({"seed": seed, **result.summary})
        warnings.append(result.warnings)
    assert first is not None
    if config.replications == 1:
        return dataclasses.replace(first, config=config), summaries
    told = [sentence for sentence, _ in said_once(warnings)]
    if what := _what_seeds_change(config, summaries, bool(first.trace.file_sha256)):
        told.append(what)
    kept = dataclasses.replace(first, config=config, warnings=tuple(told), further_seeds=tuple(further))
    return dataclasses.replace(kept, summary=combine(summaries)), summaries


def combine(summaries: list[Summary]) -> Summary:
    """Return the mean of each metric over the seeds with its half width; a flag is set where any seed set it.

    Seeds with identical summaries are one observation; where there is only one, half widths are nan.
    """
    seen = [summaries[place] for place in distinct(summaries)]
    combined: Summary = {}
    for name in summaries[0]:
        if name == "seed":
            continue
        values = [summary[name] for summary in seen]
        if isinstance(values[0], bool):
            combined[name] = any(values)
        elif name in NO_INTERVAL:
            combined[name] = sum(summary[name] for summary in summaries)
        elif all(math.isfinite(value) for value in values):
            interval = mean_interval(values)
            whole = all(isinstance(value, int) and value == values[0] for value in values)
            combined[name] = values[0] if whole else interval.mean
            combined[f"{name}_half_width"] = interval.half_width
        else:
            combined[name] = combined[f"{name}_half_width"] = math.nan
    return combined


def said_once(warnings: Iterable[Iterable[str]]) -> list[tuple[str, int]]:
    """Return each sentence of several runs once, with how many of the runs say it (`said_by`)."""
    return [(sentence, len(places)) for sentence, places in said_by(warnings)]


def said_by(warnings: Iterable[Iterable[str]]) -> list[tuple[str, list[int]]]:
    """Return each sentence of several runs once, with the places of the runs that say it.

    Sentences that differ in numbers alone are one, in which these are ranges: "the offered load is 1.2 to 5.1". A run
    that says it with several numbers stands there once for each.

    Parameters
    ----------
    warnings
        The sentences of each run.
    """
    alike: dict[str, list[tuple[str, int]]] = {}
    for place, sentences in enumerate(warnings):
        for sentence in dict.fromkeys(sentences):
            alike.setdefault(RANGE.sub("#", sentence), []).append((sentence, place))
    return [(_joined([text for text, _ in told]), [place for _, place in told]) for told in alike.values()]


def _joined(sentences: Sequence[str]) -> str:
    """Return sentences that differ in numbers alone as one."""
    ranges = []
    for texts in zip(*(RANGE.findall(sentence) for sentence in sentences), strict=True):
        ordered = sorted(NUMBER.findall(" ".join(texts)), key=lambda text: float(text.replace(",", "")))
        ranges.append(ordered[0] if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}")
    found = iter(ranges)
    return RANGE.sub(lambda _: next(found), sentences[0])


def _what_seeds_change(config: Config, summaries: Sequence[Summary], from_file: bool) -> str:
    """Return what must be said of intervals over these seeds, or an empty string."""
    cure = "; replicate=windows takes other requests of the file for each" if from_file else ""
    if len(distinct(summaries)) == 1:
        return (
            f"all {config.replications} seeds gave the same numbers, which are one observation without an interval: "
            f"nothing in this configuration is random{cure}"
        )
    if from_file and config.replicate == "seeds":
        return (
            "seeds: all of them meet the same requests of a trace file, so intervals tell of random draws at these "
            f"requests, not of other traffic{cure}"
        )
    return ""
