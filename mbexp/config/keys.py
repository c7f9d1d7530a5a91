"""The typed configuration of one run: its groups, and the keys that belong to none."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mbexp.config.cards import FACTS
from mbexp.config.engine_limits import fill_limits
from mbexp.config.execution_keys import ExecutionConfig
from mbexp.config.gpu_keys import GpuConfig, LawConfig
from mbexp.config.kernel_tables import fill_of_law
from mbexp.config.output_keys import OutputConfig, StudyConfig
from mbexp.config.predictor_keys import PredictorConfig
from mbexp.config.scheduler_keys import SchedulerConfig
from mbexp.config.schema import build, option
from mbexp.config.workload_keys import WorkloadConfig
from mbexp.errors import UserError

REPLICATES = ("seeds", "windows")
SHORTCUTS = ("num_gpus", "k_bins")  # for gpu.count and bins.k
BINS = ("equal_mass", "explicit", "exponential", "none")


@dataclass(frozen=True)
class BinsConfig:
    """How predicted lengths are cut into bins."""

    kind: str = option("equal_mass", "rule of the edges", choices=BINS)
    k: int = option(4, "number of bins asked for; ties can leave fewer", low=1, high=65535)
    batch_size: int = option(128, "'exponential': the batch size B that its edges are best for", low=1, high=1_000_000)
    edges: list[float] | None = option(
        None, "'explicit': increasing inner edges; a length equal to one is below it", above=0
    )


@dataclass(frozen=True)
class SlaConfig:
    """Latency targets."""

    token_ms: float | None = option(10.0, "longest time between two tokens (TBT); null: no limit", above=0)
    request_s: float | None = option(20.0, "longest time from arrival to the last token; null: no limit", above=0)
    ttft_s: float | None = option(None, "longest time to the first token of a good request; null: no limit", above=0)
    tpot_ms: float | None = option(None, "largest mean gap of a good request's tokens; null: no limit", above=0)
    starvation_multiple: float = option(
        10.0, "a request is starved that waits longer than so many times the median wait", above=1
    )
    targets: list[str] = option(
        [], "what must hold: metric<=bound or metric>=bound, for mbexp.capacity, study.best and reports"
    )

    @property
    def token_s(self) -> float:
        """The longest time between two tokens, seconds; infinite without a limit."""
        return math.inf if self.token_ms is None else self.token_ms / 1000

    @property
    def limits(self) -> list[str]:
        """What one request is held to, in words, the limits that are set only."""
        words = {
            "request_s": "{:g} s",
            "token_ms": "{:g} ms per token",
            "ttft_s": "{:g} s to the first token",
            "tpot_ms": "{:g} ms per token in the mean",
        }
        values = {key: getattr(self, key) for key in words}
        return [text.format(values[key]) for key, text in words.items() if values[key] is not None]


@dataclass(frozen=True)
class WarmUpConfig:
    """What is left out of the metrics at the start of a run."""

    share_pct: float = option(0.0, "share of the first requests", low=0, high=90)
    time_s: float = option(0.0, "requests that arrive before this time", low=0)


@dataclass(frozen=True)
class Config:
    """One run."""

    num_gpus: int = option(4, "shortcut for gpu.count", low=1, high=1_000_000)
    k_bins: int = option(4, "shortcut for bins.k", low=1, high=65535)
    num_requests: int | None = option(10_000, "requests to simulate; null takes all that the trace has", low=1)
    seed: int = option(0, "seed of every random draw", low=0, high=2**63 - 1)
    replications: int = option(1, "repeat the run with seeds seed, seed + 1, ... and give means", low=1, high=100_000)
    replicate: str = option(
        "seeds",
        "what a further seed brings: other random draws, or the next window of num_requests of a trace file",
        choices=REPLICATES,
    )
    force: bool = option(False, "run again what a sweep has stored already")
    scheduler: SchedulerConfig = option(SchedulerConfig(), "batching policy")
    workload: WorkloadConfig = option(WorkloadConfig(), "requests")
    gpu: GpuConfig = option(GpuConfig(), "hardware and latency law")
    bins: BinsConfig = option(BinsConfig(), "bins over predicted lengths")
    sla: SlaConfig = option(SlaConfig(), "latency targets")
    predictor: PredictorConfig = option(PredictorConfig(), "prediction of output lengths")
    execution: ExecutionConfig = option(ExecutionConfig(), "mode of execution")
    warm_up: WarmUpConfig = option(WarmUpConfig(), "start of the run left out of the metrics")
    metrics: list[str] = option([], "dotted paths of metrics of your own, added to the summary", dotted=True)
    output: OutputConfig = option(OutputConfig(), "what is stored")
    study: StudyConfig = option(StudyConfig(), "what a sweep is for")

    @property
    def columns_asked(self) -> dict[str, str]:
        """Columns of the trace that are asked for by name beside those kept, each with the key that asks."""
        asked = {"workload.class_column": self.workload.class_column}
        if self.predictor.kind == "column":
            asked["predictor.column"] = self.predictor.column
        return {column: key for key, column in asked.items() if column}


def load_config(values: Mapping[str, Any]) -> Config:
    """Check `values` and return the frozen configuration.

    Shortcuts are set to what they stand for, and what is null of a GPU's memory to that of its card and model.

    Raises
    ------
    UserError
        One line naming the key, the value and the nearest valid name.
    """
    # A wrong shortcut is named as the user typed it, not as the key that it fills.
    shortcuts = {name: values[name] for name in SHORTCUTS if name in values}
    values = {**shortcuts, **values}
    gpu = values.get("gpu")
    if isinstance(gpu, Mapping) and any(gpu.get(key, "") is None for key in FACTS):
        law = build(LawConfig, gpu.get("law", {}), "gpu.law")
        values["gpu"] = fill_of_law(gpu, law)
    config = fill_limits(build(Config, values))
    for path in config.metrics:
        if "." not in path:
            raise UserError(
                f"metrics={path}: must be the dotted path of a metric of your own, such as my_metrics.{path}"
            )
    return dataclasses.replace(config, num_gpus=config.gpu.count, k_bins=config.bins.k)


def all_defaults() -> dict[str, Any]:
    """Return every key with its default, shortcuts as interpolations: what the config groups then override."""
    values = dataclasses.asdict(Config())
    values["gpu"]["count"] = "${num_gpus}"
    values["bins"]["k"] = "${k_bins}"
    return values
