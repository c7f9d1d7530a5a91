"""What is timed: a trace, a scheduler and hardware, ready for every form of the event loop."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp import configure, load_trace
from mbexp.config.keys import Config
from mbexp.hardware import build_law, kv_capacity_tokens
from mbexp.hardware.law import LatencyLaw
from mbexp.policy.build import Policy, build_policy
from mbexp.prediction import Prediction, predict
from mbexp.simulator.admission import sorted_by_queue
from mbexp.simulator.batches.state import Requests
from mbexp.workload.trace import Trace

SCHEDULERS = ("multi_bin_dynamic", "dynamic_no_bins", "multi_bin_static", "static_fifo")

# Gaps between arrivals are divided by this. At 5, a hundred GPUs are mostly idle and a batch holds one request; at 200,
# eight are overloaded twelve times over.
CALM, RUSH = 5.0, 200.0


@dataclass(frozen=True)
class Form:
    """A form of the event loop, ready for one case.

    Attributes
    ----------
    run : function
        Simulates the case once; all that is timed.
    batches : function
        Returns the batches of the last run, of `BATCH_DTYPE`.
    """

    run: Callable[[], object]
    batches: Callable[[], npt.NDArray[Any]]


@dataclass(frozen=True)
class Case:
    """One simulation, prepared.

    Attributes
    ----------
    name : str
        In words, for tables.
    config : Config
    requests : Requests
        Sorted by queue, as the event loop takes them.
    num_gpus, kv_capacity_tokens : int
    law : LatencyLaw
    policy : Policy
    """

    name: str
    config: Config
    requests: Requests
    num_gpus: int
    kv_capacity_tokens: int
    law: LatencyLaw
    policy: Policy

    def __len__(self) -> int:
        return len(self.requests.arrival_s)

    @property
    def limit_numbers(self) -> npt.NDArray[np.float64]:
        """Everything that the limit rule is told, in one array, for forms of the loop that have no views."""
        policy = self.policy
        if policy.is_fixed:
            return policy.limit.parameters
        theta, memory_rule, _, tolerance_s, *controller = policy.limit.parameters
        size_min, size_max, capacity, target_s = policy.bounds
        return np.array([size_min, size_max, capacity, theta, memory_rule, target_s, tolerance_s, *controller])

    @property
    def num_queues(self) -> int:
        """Number of queues."""
        return len(self.requests.queue_start) - 1


def make_case(
    name: str,
    num_requests: int,
    num_gpus: int,
    scheduler: str = "multi_bin_dynamic",
    k_bins: int = 8,
    rate_scaling: float = CALM,
    trace: Trace | None = None,
) -> Case:
    """Return a case on the BurstGPT-like workload, or on `trace`; lengths are foreseen exactly."""
    config = configure(
        num_requests=num_requests,
        num_gpus=num_gpus,
        k_bins=k_bins,
        scheduler=scheduler,
        **{"workload.rate_scaling": rate_scaling},
    )
    trace = bursty_trace(num_requests, rate_scaling) if trace is None else trace
    prediction = foreseen(config, trace)
    one_queue = config.scheduler.queue == "fifo"
    capacity = kv_capacity_tokens(config.gpu)
    return Case(
        name=name,
        config=config,
        requests=sorted_by_queue(
            trace.arrival_s,
            np.zeros(len(trace), np.uint16) if one_queue else prediction.bin_of,
            1 if one_queue else prediction.bins.k,
            trace.prompt_tokens,
            trace.output_tokens,
            prediction.tokens,
        ),
        num_gpus=num_gpus,
        kv_capacity_tokens=capacity,
        law=build_law(config.gpu),
        policy=build_policy(config.scheduler, config.sla, capacity),
    )


def foreseen(config: Config, trace: Trace) -> Prediction:
    """Return the true lengths as predictions, and their bins."""
    return predict(config.predictor, config.bins, trace.prompt_tokens, trace.output_tokens, config.seed)


@functools.lru_cache(maxsize=2)
def bursty_trace(num_requests: int, rate_scaling: float) -> Trace:
    """Return a BurstGPT-like trace; its lengths all fit into the memory of the default GPU."""
    return load_trace("burstgpt_like", num_requests=num_requests, rate_scaling=rate_scaling)


def steady_trace(num_requests: int, rate_per_s: float, seed: int = 0) -> Trace:
    """Return Poisson arrivals with lengths like BurstGPT's in mean, for curves that change the rate."""
    return load_trace(
        "synthetic",
        num_requests=num_requests,
        seed=seed,
        arrivals={"kind": "poisson", "rate_per_s": rate_per_s},
        prompt={"kind": "uniform", "low_tokens": 1, "high_tokens": 1200},
        output={"kind": "uniform", "low_tokens": 1, "high_tokens": 600},
    )


def same_batches(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> str | None:
    """Return None where two lists of batches are equal bit for bit, else where they first differ."""
    if len(one) != len(other):
        return f"{len(one)} batches against {len(other)}"
    for field in one.dtype.names or ():
        unequal = np.flatnonzero(one[field] != other[field])
        if len(unequal):
            at = int(unequal[0])
            return f"{field} of batch {at}: {one[field][at]!r} against {other[field][at]!r}"
    return None
