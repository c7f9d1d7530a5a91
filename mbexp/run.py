"""One run, from a checked configuration to a result, in the order in which the data flows."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mbexp.config.keys import Config, ExecutionConfig, NoiseConfig
from mbexp.errors import UserError
from mbexp.hardware import build_law, check_sla, kv_capacity_tokens
from mbexp.hardware.law import LatencyLaw
from mbexp.policy import build_policy
from mbexp.prediction import Prediction, predict
from mbexp.results.metrics import Summary, summarize
from mbexp.simulator.batches.outcome import REJECTIONS, Records
from mbexp.simulator.batches.serve import run_to_completion
from mbexp.workload import load_trace
from mbexp.workload.trace import Trace

if TYPE_CHECKING:
    import pandas as pd

    from mbexp.simulator.continuous.outcome import ContinuousRecords

SHORT_RUN = 1000  # requests; of fewer, a 99th percentile rests on less than ten
NOISE_STREAM = 3  # random stream of the batch times, apart from those of the workload and the predictor


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes
    ----------
    config : Config
    trace : Trace
    prediction : Prediction
    law : LatencyLaw
    records : Records, or ContinuousRecords under ``execution=continuous``
        Raw outcome; `batches` and `requests` are its tables.
    summary : dict
        Flat; every metric is defined in docs/metrics.md.
    warnings : tuple of str
        Sentences that change how the numbers should be read.
    """

    config: Config
    trace: Trace
    prediction: Prediction
    law: LatencyLaw
    records: Any
    summary: Summary
    warnings: tuple[str, ...]

    @cached_property
    def batches(self) -> pd.DataFrame:
        """One row a batch, in order of formation; under ``execution=continuous`` a run of like iterations."""
        from mbexp.results.tables import batches_table

        frame: pd.DataFrame = batches_table(self.records).to_pandas()
        return frame

    @cached_property
    def requests(self) -> pd.DataFrame:
        """One row a request, in trace order."""
        from mbexp.results.tables import requests_table

        frame: pd.DataFrame = requests_table(self.records, self.trace).to_pandas()
        return frame


def run(config: Config, trace: Trace | None = None, prediction: Prediction | None = None) -> Result:
    """Run one configuration.

    Parameters
    ----------
    config
        As `mbexp.config.keys.load_config` returns it.
    trace
        Requests to use in place of those that `config.workload` names.
    prediction
        Predicted lengths and bins of `trace` under `config`, where they are known already.

    Raises
    ------
    UserError
        On a mistake in the configuration or the trace.
    """
    began = time.perf_counter()
    if trace is None:
        trace = load_trace(config.workload, config.num_requests, config.seed)
    if not len(trace):
        raise UserError(f"workload={config.workload.kind}: no usable request")
    if prediction is None:
        prediction = predict(config.predictor, config.bins, trace.prompt_tokens, trace.output_tokens, config.seed)
    law = build_law(config.gpu)
    capacity = kv_capacity_tokens(config.gpu)
    one_queue = config.scheduler.queue == "fifo"
    records: Records | ContinuousRecords
    if config.execution.name == "continuous":
        from mbexp.modes.continuous import continuous_warnings, run_continuous

        records, outcome = run_continuous(config, trace, prediction, law, capacity)
        own_warnings = continuous_warnings(config, records, law, outcome)
    else:
        from mbexp.simulator.batches import invariants

        records = run_to_completion(
            trace.arrival_s,
            trace.prompt_tokens,
            trace.output_tokens,
            prediction.tokens,
            np.zeros(len(trace), np.uint16) if one_queue else prediction.bin_of,
            1 if one_queue else prediction.bins.k,
            config.gpu.count,
            capacity,
            law,
            build_policy(config.scheduler, config.sla, capacity),
            noise_factors(config.gpu.noise, len(trace), config.seed),
        )
        outcome = {**invariants.check(records, len(trace)), **summarize(config, records, law)}
        own_warnings = _batch_warnings(config, law, outcome)
    summary = {
        **_counts(trace, records),
        **outcome,
        "misbin_pct": prediction.misbin_pct,
        "bins": 1 if one_queue else prediction.bins.k,
        "kv_capacity_tokens": capacity,
        "wall_time_s": time.perf_counter() - began,
    }
    warnings = (*_warnings(config, trace, prediction, law, summary), *own_warnings)
    return Result(config, trace, prediction, law, records, summary, warnings)


def noise_factors(noise: NoiseConfig, count: int, seed: int) -> npt.NDArray[np.float64] | None:
    """Return factors of mean 1 for the times of `count` batches, or None for none."""
    if noise.kind == "none":
        return None
    rng = np.random.default_rng(np.random.SeedSequence([seed, NOISE_STREAM]))
    if noise.kind == "exponential":
        return rng.exponential(size=count)
    sigma = np.sqrt(np.log1p(noise.cv**2))
    return np.exp(sigma * rng.standard_normal(count) - sigma**2 / 2)


def _counts(trace: Trace, records: Records | ContinuousRecords) -> Summary:
    rejected = {reason: len(records.rejected.get(reason, ())) for reason in REJECTIONS}
    completed = len(records.arrival_s)  # as the invariants say
    return {
        "arrived_requests": len(trace),
        "completed_requests": completed,
        "rejected_requests": sum(rejected.values()),
        **{f"rejected_{reason}": count for reason, count in rejected.items()},
        "dropped_rows": sum(trace.dropped.values()),
        "changed_rows": sum(trace.changed.values()),
    }


def _warnings(
    config: Config, trace: Trace, prediction: Prediction, law: LatencyLaw, summary: Summary
) -> tuple[str, ...]:
    """Collect what changes how the numbers should be read."""
    found = [*trace.notes, *prediction.bins.notes, *law.notes]
    if summary["rejected_requests"]:
        found.append(
            f"{summary['rejected_requests']} of {len(trace)} requests can never fit into the KV memory of "
            f"{summary['kv_capacity_tokens']} tokens and were rejected"
        )
    if summary["overloaded"]:
        load = summary["offered_load"]
        at_once = np.isnan(load)
        what = "all requests arrive at one instant" if at_once else f"the offered load is {load:.2f}"
        enough = "" if at_once else f"; {math.ceil(load * config.gpu.count)} GPUs is the least that could carry it"
        found.append(
            f"overload: {what}, so queues grow for as long as requests arrive; "
            f"latencies measure the length of the run{enough}"
        )
    elif summary["queue_climbing"]:
        found.append(
            "growth: the number waiting climbs throughout the run, although full batches would carry the offered load "
            f"of {summary['offered_load']:.2f}: the policy does not, or the run is too short to tell"
        )
    if summary["measured_requests"] < SHORT_RUN:
        found.append(
            f"short run: {summary['measured_requests']} requests, so its p99 rests on the slowest "
            f"{max(1, summary['measured_requests'] // 100)}"
        )
    return tuple(found)


def _batch_warnings(config: Config, law: LatencyLaw, summary: Summary) -> list[str]:
    """Collect what is said of batches that run to completion."""
    found = [*check_sla(law, config.sla, config.scheduler), *law.require_batch().notes]
    if summary["extrapolated_batches_pct"] > 0:
        sizes, lengths = law.batch_size_range, law.length_range_tokens
        found.append(
            f"extrapolation: {summary['extrapolated_batches_pct']:.1f} % of batches lie outside the range of the "
            f"latency law (batch size {sizes[0]}-{sizes[1]}, length {lengths[0]}-{lengths[1]} tokens)"
        )
    if summary["kv_overflow_pct"] > 0:
        found.append(
            f"memory: {summary['kv_overflow_pct']:.1f} % of batches held more KV cache than fits, because lengths were "
            "underpredicted; they ran all the same"
        )
    given = dataclasses.asdict(config.execution)
    unused = [f"execution.{key}={given[key]}" for key, usual in dataclasses.asdict(ExecutionConfig()).items()
              if given[key] != usual]  # fmt: skip
    if unused:
        found.append(f"{', '.join(unused)}: without meaning here; add execution=continuous")
    return found
