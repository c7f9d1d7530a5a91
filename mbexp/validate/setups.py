"""Configurations of the checks: the queueing models and P1's and P2's settings in the keys of `mbexp.simulate`."""

from __future__ import annotations

from typing import Any

Values = dict[str, Any]

TOKENS_PER_SECOND = 500_000  # of decode time: so fine that lengths in whole tokens are as good as continuous
MEMORY_TOKENS = 2**40  # never full


def poisson(rate_per_s: float) -> Values:
    """Poisson arrivals on the simulated clock itself."""
    return {
        "workload": "synthetic",
        "workload.timestamps": "real",
        "workload.arrivals.kind": "poisson",
        "workload.arrivals.rate_per_s": rate_per_s,
        "workload.prompt.kind": "constant",
        "workload.prompt.value_tokens": 1,
    }


def at_once() -> Values:
    """All requests at time 0: the saturated server."""
    return {**poisson(1.0), "workload.arrivals.kind": "at_once"}


def lengths(kind: str, **keys: float) -> Values:
    """Output lengths as service times in seconds: ``lengths("uniform", low=1, high=20)``."""
    values: Values = {"workload.output.kind": kind}
    for name, seconds in keys.items():
        if name == "sigma":
            values["workload.output.sigma"] = seconds
        else:
            values[f"workload.output.{name}_tokens"] = round(seconds * TOKENS_PER_SECOND)
    return values


def time_of_longest() -> Values:
    """A batch takes the length of its longest member, whatever its size."""
    return _gpu(alpha_ms=0.0, beta_ms=1000 / TOKENS_PER_SECOND)


def whole_tokens_of_one_second() -> Values:
    """The same with a second per token: lengths are small whole numbers."""
    return _gpu(alpha_ms=0.0, beta_ms=1000.0)


def constant_time(seconds: float = 1.0, noise: str = "none") -> Values:
    """A batch takes a constant time, whatever is in it; with noise "exponential", that time on average."""
    return {**_gpu(alpha_ms=1000 * seconds, beta_ms=0.0), **lengths("constant", value=1.0), "gpu.noise.kind": noise}


def linear_time(fixed_s: float, per_request_s: float) -> Values:
    """A batch of b takes fixed + per_request b: P2's law with outputs of one token."""
    return {
        "gpu": "linear_p2",
        "gpu.law.c0_ms": 1000 * fixed_s,
        "gpu.law.c1_ms": 1000 * per_request_s,
        "gpu.kv_capacity_tokens": MEMORY_TOKENS,
        "workload.output.kind": "constant",
        "workload.output.value_tokens": 1,
    }


def one_queue(batch: int, fill: str = "greedy", gpus: int = 1) -> Values:
    """One FIFO, batches of up to (greedy) or exactly (full) `batch`."""
    return {
        "scheduler": "static_fifo",
        "scheduler.fixed_batch_size": batch,
        "scheduler.fill": fill,
        "num_gpus": gpus,
        "warm_up.share_pct": 5.0,
    }


def bins_of_p1(k: int, batch: int, gpus: int = 1, edges: str = "equal_mass") -> Values:
    """P1's policy: k bins, full batches of `batch`, first formed first served."""
    values: Values = {
        "scheduler": "multi_bin_static",
        "scheduler.fixed_batch_size": batch,
        "num_gpus": gpus,
        "bins": edges,
        "k_bins": k,
        "warm_up.share_pct": 5.0,
    }
    if edges == "exponential":
        values["bins.batch_size"] = batch
    return values


def confusion(kind: str, probability: float = 0.0) -> Values:
    """A predictor that errs by a confusion matrix."""
    values: Values = {"predictor": "confusion", "predictor.confusion": kind}
    if kind == "neighbour":
        values["predictor.error_probability"] = probability
    return values


def _gpu(alpha_ms: float, beta_ms: float) -> Values:
    return {
        "gpu": "rtx4080_qwen3_1_7b",
        "gpu.law.length": "output",
        "gpu.law.alpha_ms": alpha_ms,
        "gpu.law.beta_ms": beta_ms,
        "gpu.law.gamma": 0.0,
        "gpu.law.provenance": "set for a check against theory",
        "gpu.kv_capacity_tokens": MEMORY_TOKENS,
    }
