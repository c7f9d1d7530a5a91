"""Quantities of one run that the checks compare with theory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mbexp.policy.build import limit_max
from mbexp.results.statistics import growth_warnings
from mbexp.theory import sample_path
from mbexp.validate.case import Quantities

if TYPE_CHECKING:
    from mbexp.results.result import Result

WARM_UP = 0.05  # share of the first requests that steady-state means leave out
FloatArray = npt.NDArray[np.float64]


def from_summary(**keys: str) -> Callable[[Result], Quantities]:
    """Return a measure that takes quantities from the summary: ``from_summary(wait="queue_delay_mean_s")``."""
    return lambda result: {quantity: float(result.summary[key]) for quantity, key in keys.items()}


def saturated(result: Result) -> Quantities:
    """Return the throughput of the full batches over their busy time; the flushed partial batches are left out."""
    rows = result.outcome.batches
    full = rows["size"] == result.config.scheduler.fixed_batch_size
    busy_s = rows["finish_s"][full] - rows["start_s"][full]
    return {"throughput, 1/s": result.config.gpu.count * float(rows["size"][full].sum() / busy_s.sum())}


def full_batches(result: Result) -> Quantities:
    """Return the mean parts of the latency of requests served in full batches, warm-up left out.

    So is the batch that the last arrival fills: at that instant the end of the trace also flushes the partial batches,
    and one of them with an older head goes first (docs/semantics/selection.md), which no steady state has.
    """
    rows = result.outcome.batches
    served_by = result.outcome.batch_of
    full_at = result.outcome.per_batch(result.outcome.arrival_s, np.maximum)
    full = (rows["size"] == result.config.scheduler.fixed_batch_size) & (full_at < result.outcome.arrival_s[-1])
    kept = np.flatnonzero(full[served_by])
    kept = kept[kept >= WARM_UP * len(served_by)]
    batch = served_by[kept]
    arrival, start, finish = result.outcome.arrival_s[kept], rows["start_s"][batch], rows["finish_s"][batch]
    return _parts(full_at[batch] - arrival, start - full_at[batch], finish - start)


def grows(result: Result) -> bool:
    """Whether the number waiting climbs throughout the run."""
    start_s = result.outcome.batches["start_s"][result.outcome.batch_of]
    return any("climb" in warning for warning in growth_warnings(result.outcome.arrival_s, start_s))


def full_batch_recursion(seconds_per_token: float) -> Callable[[Result], Quantities]:
    """Return the same parts by the recursion of `mbexp.theory.sample_path` over the run's own requests."""

    def reference(result: Result) -> Quantities:
        trace = result.trace
        edges = result.prediction.bins.edges
        bins = np.searchsorted(edges, trace.output_tokens, side="left")
        path = sample_path.full_batches(
            trace.arrival_s,
            np.asarray(trace.output_tokens * seconds_per_token, dtype=np.float64),
            bins,
            limit_max(result.config.scheduler),
            result.config.gpu.count,
        )
        kept = np.flatnonzero(path.full_at < trace.arrival_s[-1])  # nan where a batch never fills
        kept = kept[kept >= WARM_UP * len(trace)]
        return _parts(path.formation[kept], path.batch_wait[kept], path.service[kept])

    return reference


def _parts(formation: FloatArray, batch_wait: FloatArray, service: FloatArray) -> Quantities:
    parts = {"formation, s": formation, "wait of the batch, s": batch_wait, "service, s": service}
    means = {name: float(values.mean()) for name, values in parts.items()}
    return {**means, "latency, s": sum(means.values())}
