"""Compares a replay with the simulation of the same window: batch times, metrics, and the order of the schedulers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.config.keys import Config
from mbexp.hardware.law import LatencyLaw
from mbexp.modes.problem import make_problem
from mbexp.results.result import Result
from mbexp.run import summarize
from mbexp.simulator.batches.outcome import BatchesOutcome

FloatArray = npt.NDArray[np.float64]

METRICS = (
    "makespan_s",
    "latency_mean_s",
    "latency_p50_s",
    "latency_p95_s",
    "latency_p99_s",
    "queue_delay_mean_s",
    "ttft_mean_s",
    "tbt_mean_ms",
    "throughput_requests_per_s",
    "batch_size_mean",
    "request_sla_violation_pct",
)
RANKED = ("latency_mean_s", "latency_p99_s", "makespan_s")  # lower is better


@dataclass(frozen=True)
class Comparison:
    """One scheduler, simulated and replayed.

    Attributes
    ----------
    scheduler : str
    simulated, replayed : BatchesOutcome
    predicted_s, measured_s : float64 arrays, shape (batches of the replay,)
        Time of each replayed batch by the law, and on the GPU.
    metrics : dict of str to (float, float)
        Simulated and replayed.
    paused_s : float
        How long the clock of the replay was stopped for preparing.
    """

    scheduler: str
    simulated: BatchesOutcome
    replayed: BatchesOutcome
    predicted_s: FloatArray
    measured_s: FloatArray
    metrics: dict[str, tuple[float, float]]
    paused_s: float

    @property
    def error_pct(self) -> FloatArray:
        """Relative error of each predicted batch time, signed."""
        return 100 * (self.predicted_s / self.measured_s - 1)


def compare(simulation: Result, replayed: BatchesOutcome, paused_s: float = 0.0) -> Comparison:
    """Compare a simulation with the replay of the same requests under the same scheduler."""
    config: Config = simulation.config
    summary = summarize(make_problem(config, simulation.trace, simulation.prediction), replayed)
    return Comparison(
        scheduler=config.scheduler.name,
        simulated=simulation.outcome,
        replayed=replayed,
        predicted_s=_law_times(simulation.law, replayed),
        measured_s=replayed.batches["finish_s"] - replayed.batches["start_s"],
        metrics={name: (float(simulation.summary[name]), float(summary[name])) for name in METRICS},
        paused_s=paused_s,
    )


def latencies_s(records: BatchesOutcome) -> FloatArray:
    """Return the latency of each accepted request."""
    finish_s: FloatArray = records.batches["finish_s"][records.batch_of]
    return finish_s - records.arrival_s


def rows(comparisons: list[Comparison]) -> list[dict[str, Any]]:
    """Return the table: a row a scheduler and quantity."""
    table = []
    for each in comparisons:
        error = np.abs(each.error_pct)
        for name, value in (
            ("batch_time_error_median_pct", float(np.median(error))),
            ("batch_time_error_p95_pct", float(np.quantile(error, 0.95))),
            ("batch_time_bias_pct", float(np.median(each.error_pct))),
        ):
            table.append({"scheduler": each.scheduler, "quantity": name, "simulated": value, "replayed": None,
                          "difference_pct": None})  # fmt: skip
        for name, (simulated, replayed) in each.metrics.items():
            difference = 100 * (simulated / replayed - 1) if replayed else None
            table.append({"scheduler": each.scheduler, "quantity": name, "simulated": simulated, "replayed": replayed,
                          "difference_pct": difference})  # fmt: skip
    return table


def rankings(comparisons: list[Comparison]) -> list[tuple[str, list[str], list[str]]]:
    """Return for each ranked metric the schedulers from best to worst, as simulated and as replayed."""

    def order(metric: str, side: int) -> list[str]:
        return [each.scheduler for each in sorted(comparisons, key=lambda each: each.metrics[metric][side])]

    return [(metric, order(metric, 0), order(metric, 1)) for metric in RANKED]


def text(comparisons: list[Comparison]) -> str:
    """Return the comparison in words and a table."""
    lines = []
    for each in comparisons:
        error = np.abs(each.error_pct)
        lines += [
            f"{each.scheduler}: {len(each.measured_s)} batches replayed, {len(each.simulated.batches)} simulated; "
            f"time of a batch by the law: median error {np.median(error):.2f} %, p95 {np.quantile(error, 0.95):.2f} %, "
            f"bias {np.median(each.error_pct):+.2f} %",
            f"  {'':<28}{'simulated':>12}{'replayed':>12}{'difference':>13}",
        ]
        for name, (simulated, replayed) in each.metrics.items():
            difference = f"{100 * (simulated / replayed - 1):+.2f} %" if replayed else ""
            lines.append(f"  {name:<28}{simulated:>12.4g}{replayed:>12.4g}{difference:>13}".rstrip())
    if len(comparisons) > 1:
        lines.append("order of the schedulers, best first")
        for metric, first, second in rankings(comparisons):
            same = "the same" if first == second else "NOT the same"
            lines.append(f"  {metric}: {' < '.join(first)} simulated, {' < '.join(second)} replayed: {same}")
    return "\n".join(lines)


def _law_times(law: LatencyLaw, records: BatchesOutcome) -> FloatArray:
    def longest(values: npt.NDArray[Any]) -> list[int]:
        result: list[int] = records.per_batch(values, np.maximum, np.int64).tolist()
        return result

    def total(values: npt.NDArray[Any]) -> list[int]:
        result: list[int] = records.per_batch(values, np.add, np.int64).tolist()
        return result

    prompt, output = records.prompt_tokens.astype(np.int64), records.output_tokens.astype(np.int64)
    columns = (
        records.batches["size"].tolist(), longest(prompt), longest(output), longest(prompt + output), total(prompt),
        total(output),
    )  # fmt: skip
    return np.array([law.service(*batch)[0] for batch in zip(*columns, strict=True)])
