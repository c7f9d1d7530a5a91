"""Requests drawn from simple distributions: arrivals, prompts and outputs, each from its own stream of the seed."""

from __future__ import annotations

import math

import numpy as np

from mbexp.config.workload_keys import MAX_TOKENS, ArrivalsConfig, LengthsConfig, WorkloadConfig
from mbexp.errors import UserError
from mbexp.workload.memory import check_memory
from mbexp.workload.rows import LONGEST_SPAN_S, Rows, UsableRows, usable_rows
from mbexp.workload.trace import FloatArray, IntArray

CLOCK_RESOLUTION_S = 0.0
READS = ("prompt", "output")
STREAM_ARRIVALS, STREAM_PROMPTS, STREAM_OUTPUTS = 101, 102, 103


def generate(workload: WorkloadConfig, num_requests: int | None, seed: int) -> UsableRows:
    """Draw `num_requests` requests (behind ``window.start_row`` others, where that is asked for).

    A seed gives the same arrivals whatever the lengths are and the other way round, and the first requests of a longer
    trace are those of a shorter one: policies are compared on common random numbers.
    """
    if num_requests is None:
        raise UserError("num_requests=null: a synthetic workload has no end; say how many requests")
    window = workload.window
    if window.kind == "time":
        raise UserError("workload.window.kind=time: a synthetic workload has as many requests as asked for; use rows")
    count = num_requests + (window.start_row if window.kind == "rows" else 0)
    check_memory(count, "the trace asked for")
    streams = [
        np.random.default_rng(np.random.SeedSequence([seed, stream]))
        for stream in (STREAM_ARRIVALS, STREAM_PROMPTS, STREAM_OUTPUTS)
    ]
    prompt, output = workload.prompt, workload.output
    return usable_rows(
        Rows(
            arrival_s=draw_arrivals(streams[0], workload.arrivals, count),
            prompt_tokens=draw_lengths(streams[1], prompt, count, "workload.prompt"),
            output_tokens=draw_lengths(streams[2], output, count, "workload.output"),
            source=f"synthetic: {workload.arrivals.kind} arrivals, {prompt.kind} prompts, {output.kind} outputs",
        )
    )


def draw_arrivals(rng: np.random.Generator, arrivals: ArrivalsConfig, count: int) -> FloatArray:
    """Return arrival times, seconds, float64, shape (count,); the first is 0."""
    if arrivals.kind in ("at_once", "closed"):  # of a closed loop only the first of each user are known
        return np.zeros(count)
    if arrivals.kind == "constant":
        times = np.arange(count, dtype=np.float64)
    else:
        shape = 1.0 if arrivals.kind == "poisson" else 1.0 / arrivals.cv**2
        gaps = (
            rng.standard_exponential(count) if arrivals.kind == "poisson" else rng.standard_gamma(shape, count) / shape
        )
        times = np.cumsum(gaps)
        times -= times[0]
    if times[-1] > LONGEST_SPAN_S * arrivals.rate_per_s:
        raise UserError(f"workload.arrivals.rate_per_s={arrivals.rate_per_s:g}: arrivals would span over 30,000 years")
    times /= arrivals.rate_per_s
    return times


def draw_lengths(rng: np.random.Generator, lengths: LengthsConfig, count: int, where: str) -> IntArray:
    """Return lengths, tokens, int32, shape (count,), each at least 1.

    ``constant``; ``uniform`` over the whole numbers from low to high, both included; ``exponential`` rounded up (its
    mean is therefore about half a token above ``mean_tokens``); ``lognormal`` of that mean, rounded to the nearest;
    ``empirical``, any of the values with equal chance.

    Raises
    ------
    UserError
        If a parameter of the distribution is missing, or a length leaves int32.
    """
    kind = lengths.kind
    needed = {
        "constant": ("value_tokens",),
        "uniform": ("low_tokens", "high_tokens"),
        "exponential": ("mean_tokens",),
        "lognormal": ("mean_tokens", "sigma"),
        "empirical": ("values_tokens",),
    }[kind]
    for name in needed:
        if getattr(lengths, name) in (None, []):
            raise UserError(f"{where}.{name}=null: {where}.kind={kind} needs it")
    if kind == "constant":
        return np.full(count, lengths.value_tokens, np.int32)
    if kind == "uniform":
        low, high = int(lengths.low_tokens or 0), int(lengths.high_tokens or 0)
        if low > high:
            raise UserError(f"{where}.low_tokens={low}: must not exceed {where}.high_tokens={high}")
        return rng.integers(low, high, count, dtype=np.int32, endpoint=True)
    if kind == "empirical":
        values = np.array(lengths.values_tokens, np.int32)
        return values[rng.integers(0, len(values), count)]
    mean = float(lengths.mean_tokens or 0.0)
    if kind == "exponential":
        drawn = np.ceil(rng.standard_exponential(count) * mean)
    else:
        sigma = float(lengths.sigma or 0.0)
        with np.errstate(over="ignore"):
            drawn = np.rint(np.exp(math.log(mean) - sigma**2 / 2 + sigma * rng.standard_normal(count)))
    if not drawn.max(initial=0.0) <= MAX_TOKENS:
        raise UserError(f"{where}.mean_tokens={mean:g}: a drawn length is {drawn.max():.3g}, above {MAX_TOKENS}")
    return np.maximum(drawn, 1.0).astype(np.int32)
