"""A finished run, as a notebook holds it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mbexp.config.keys import Config
from mbexp.hardware.law import LatencyLaw
from mbexp.prediction import Prediction
from mbexp.results.tables import BatchTable, requests_table
from mbexp.workload.trace import Trace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes
    ----------
    config : Config
    trace : Trace
    prediction : Prediction
    law : LatencyLaw
    outcome : Outcome
        What the event loop left (`mbexp.simulator.outcome`); `batches` and `requests` are its tables.
    summary : dict
        Flat; every metric is defined in docs/metrics.md.
    warnings : tuple of str
        Sentences that change how the numbers should be read.
    mode : BatchTable
        The mode of execution, which makes the table of batches.
    """

    config: Config
    trace: Trace
    prediction: Prediction
    law: LatencyLaw
    outcome: Any
    summary: dict[str, Any]
    warnings: tuple[str, ...]
    mode: BatchTable

    @cached_property
    def batches(self) -> pd.DataFrame:
        """The rows of batches.parquet: one a batch, or, under continuous batching, one a run of like iterations."""
        frame: pd.DataFrame = self.mode.table(self.outcome).to_pandas()
        return frame

    @cached_property
    def requests(self) -> pd.DataFrame:
        """One row a request, in trace order."""
        frame: pd.DataFrame = requests_table(self.outcome, self.trace).to_pandas()
        return frame
