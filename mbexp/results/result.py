"""A finished run, as a notebook holds it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mbexp.config.keys import Config
from mbexp.hardware.law import LatencyLaw
from mbexp.prediction import Prediction
from mbexp.results.tables import BatchTable, requests_table
from mbexp.workload.trace import Trace, as_html

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes
    ----------
    config : Config
        The checked configuration of the run.
    trace : Trace
        The requests.
    prediction : Prediction
        The predicted length and the bin of each request.
    law : LatencyLaw
        The execution-time model of the GPU.
    outcome : Outcome
        The records of the event loop (`mbexp.simulator.outcome`). `batches` and `requests` are its tables.
    summary : dict
        Every metric by its name. docs/metrics.md defines the metrics.
    warnings : tuple of str
        Sentences that change how the numbers should be read.
    mode : BatchTable
        The mode of execution. It makes the table of batches.
    further_seeds : tuple of Result
        The results of the other seeds, if ``output.every_replication`` keeps them.
    """

    config: Config
    trace: Trace
    prediction: Prediction
    law: LatencyLaw
    outcome: Any
    summary: dict[str, Any]
    warnings: tuple[str, ...]
    mode: BatchTable
    further_seeds: tuple[Result, ...] = ()

    def __repr__(self) -> str:
        return f"Result({'; '.join(f'{name} {text}' for name, text in self._shown().items())})"

    def _repr_html_(self) -> str:
        more = {"": "summary, warnings, batches and requests hold the rest"}
        return as_html(
            "Result", self._shown() | {f"! {number}": text for number, text in enumerate(self.warnings, 1)} | more
        )

    def _shown(self) -> dict[str, str]:
        from mbexp.results.shown import number

        summary, config = self.summary, self.config
        return {
            "of": f"{config.scheduler.name} on {config.gpu.count} x {config.gpu.name}",
            "on": f"{len(self.trace):,} requests, {self.trace.source}",
            "completed": f"{summary['completed_requests']:,}",
            "throughput": f"{number(summary['throughput_requests_per_s'])} requests/s",
            "latency": f"p50 {number(summary['latency_p50_s'])}, p99 {number(summary['latency_p99_s'])} s",
            "SLA violations": f"{number(summary['request_sla_violation_pct'])} % of requests",
            "warnings": str(len(self.warnings)),
        }

    @cached_property
    def batches(self) -> pd.DataFrame:
        """One row a batch, as in batches.parquet; under continuous batching, one row a run of similar iterations."""
        frame: pd.DataFrame = self.mode.table(self.outcome).to_pandas()
        return frame

    @cached_property
    def requests(self) -> pd.DataFrame:
        """One row a request, in trace order."""
        frame: pd.DataFrame = requests_table(self.outcome, self.trace).to_pandas()
        return frame
