"""A generated trace, calibrated to published aggregates of BurstGPT file 1; it is not BurstGPT.

Two streams are superposed: conversations, whose rate follows the hour of the day, and API jobs, each a burst of many
requests at one rate. Both stop during outages. Times are floored to whole seconds, as in the real file.

How alike the lengths inside a job are is not among the published aggregates. `workload.burst_likeness` says it: the
normal scores behind the lengths are an AR(1) process along each job, so that no marginal changes.
"""

from __future__ import annotations

import dataclasses
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from mbexp.config.workload_keys import WorkloadConfig
from mbexp.workload import cache
from mbexp.workload.kinds import _burstgpt_calibration as fit
from mbexp.workload.memory import check_memory
from mbexp.workload.rows import Rows, UsableRows, joined, usable_rows
from mbexp.workload.trace import FloatArray, IntArray

CLOCK_RESOLUTION_S = 1.0
VERSION = 1
BLOCK_S = fit.DAYS * 86_400
USABLE_PER_BLOCK = 1_400_000  # about, for estimates of memory
SOURCE = "BurstGPT-like, calibrated to published aggregates"
MODELS = ("ChatGPT", "GPT-4")
LOG_TYPES = ("Conversation log", "API log")
_STREAMS = {
    name: 111 + index
    for index, name in enumerate(
        ("outages", "drift", "conversations", "jobs", "gaps", "background", "lengths", "marks")
    )
}
_ORDER_BITS = 22  # a block has about 1.43 M rows, far below 2^22

Times = npt.NDArray[np.int64]


def generate(workload: WorkloadConfig, num_requests: int | None, seed: int) -> UsableRows:
    """Return as many blocks of 61 days as the window needs, the first block alone where one is enough.

    A window of fewer requests is cut from whole blocks, so "typical" and "busiest" mean what they mean for the real
    file. Each block is drawn from its own streams of the seed: the first 61 days are the same however long the trace.
    """
    window = workload.window
    rows, end_s = num_requests or 1, 0.0
    if window.kind == "rows":
        rows += window.start_row
    elif window.kind == "time":
        end_s = window.start_s + (window.duration_s or 0.0)
    check_memory(max(rows, int((end_s / BLOCK_S + 1) * USABLE_PER_BLOCK)), "the trace asked for")
    blocks: list[UsableRows] = []
    found = 0
    while found < rows or len(blocks) * BLOCK_S <= end_s:
        blocks.append(_block(seed, len(blocks), workload.burst_likeness))
        late = blocks[-1].arrival_s + (len(blocks) - 1) * BLOCK_S - blocks[0].arrival_s[0]
        by_count = window.kind != "time" or window.duration_s is None
        found += int(np.count_nonzero(late >= end_s)) if by_count else rows
    return joined(blocks, [index * float(BLOCK_S) for index in range(len(blocks))])


def _block(seed: int, index: int, burst_likeness: float) -> UsableRows:
    """Return block `index`, times counted from its own start; from the cache where it was generated before."""
    alike = (burst_likeness,) if burst_likeness else ()
    key = cache.entry_key("burstgpt_like", VERSION, np.__version__, seed, index, *alike)
    rows = cache.load_rows(key)
    if rows is None:
        drawn = generate_block(seed, index, burst_likeness)
        rows = usable_rows(drawn)
        rows = dataclasses.replace(rows, arrival_s=rows.arrival_s + drawn.arrival_s[drawn.output_tokens > 0][0])
        cache.store_rows(key, rows)
    return rows


def generate_block(seed: int, index: int = 0, burst_likeness: float = 0.0) -> Rows:
    """Draw 61 days, failures included: about 1.43 M rows in order of time, whole seconds from the block's start.

    Parameters
    ----------
    burst_likeness : float, at least 0, below 1
        Correlation of the normal scores of one request of an API job with those of the next; the API's background and
        conversations are independent.
    """
    streams = {
        name: np.random.default_rng(np.random.SeedSequence([seed, stream, index])) for name, stream in _STREAMS.items()
    }
    clock = _Clock(streams["outages"])
    api, job_sizes = _api(streams["jobs"], streams["gaps"], streams["background"], clock)
    times = {
        "conversation": _conversations(streams["drift"], streams["conversations"], clock, first_day=index * fit.DAYS),
        "api": api,
    }
    bursts = {"conversation": job_sizes[:0], "api": job_sizes}
    prompts, outputs, models = [], [], []
    for name, at in times.items():
        prompt, output = _lengths(streams["lengths"], len(at), name, bursts[name], burst_likeness)
        failed = streams["marks"].random(len(at), dtype=np.float32) < fit.FAILURE_SHARE[name]
        prompt[failed] = output[failed] = 0
        prompts.append(prompt)
        outputs.append(output)
        models.append(streams["marks"].random(len(at), dtype=np.float32) < fit.GPT4_SHARE[name])
    seconds = np.concatenate(list(times.values()))
    keys = np.sort(seconds << _ORDER_BITS | np.arange(len(seconds)))  # faster than a stable sort of indices
    order = keys & ((1 << _ORDER_BITS) - 1)
    return Rows(
        arrival_s=(keys >> _ORDER_BITS).astype(np.float64),
        prompt_tokens=np.concatenate(prompts)[order],
        output_tokens=np.concatenate(outputs)[order],
        source=SOURCE,
        zero_output="failed",
        extra={
            "model": np.concatenate(models)[order].astype(np.int8),
            "log_type": (order >= len(times["conversation"])).astype(np.int8),
        },
        categories={"model": MODELS, "log_type": LOG_TYPES},
    )


class _Clock:
    """Real time, and live time, which stands still during outages; outages fall mostly into quiet hours."""

    def __init__(self, rng: np.random.Generator) -> None:
        quiet = 1.0 / fit.ALL_TRAFFIC_PROFILE
        starts = np.sort(_moments(rng, fit.OUTAGES, quiet))
        ends = starts + fit.OUTAGE_SHORTEST_S + rng.exponential(fit.OUTAGE_MEAN_EXCESS_S, fit.OUTAGES)
        ends = np.minimum(np.maximum.accumulate(ends), BLOCK_S - 1.0)
        apart = np.concatenate(([True], starts[1:] > ends[:-1]))  # outages that overlap are one
        first = np.flatnonzero(apart)
        self.starts, self.ends = starts[first], np.maximum.reduceat(ends, first)
        self.knots = np.concatenate(([0.0], np.column_stack((self.starts, self.ends)).ravel(), [float(BLOCK_S)]))
        is_live = np.arange(len(self.knots) - 1) % 2 == 0
        self.live_knots = np.concatenate(([0.0], np.cumsum(np.diff(self.knots) * is_live)))
        self.live_s = float(self.live_knots[-1])

    def to_live(self, real_s: FloatArray) -> FloatArray:
        return np.interp(real_s, self.knots, self.live_knots)

    def to_real(self, live_s: FloatArray) -> FloatArray:
        lost = np.concatenate(([0.0], np.cumsum(self.ends - self.starts)))
        return live_s + lost[np.searchsorted(self.live_knots[1:-1:2], live_s, side="right")]


def _moments(rng: np.random.Generator, count: int, profile: FloatArray) -> FloatArray:
    """Return moments of any day, in hours of the day as likely as `profile` says."""
    hours = np.arange(25) * 3600.0
    cumulative = np.concatenate(([0.0], np.cumsum(profile / profile.sum())))
    return rng.integers(fit.DAYS, size=count) * 86_400 + np.interp(rng.random(count), cumulative, hours)


def _conversations(drift: np.random.Generator, rng: np.random.Generator, clock: _Clock, first_day: int) -> Times:
    """Renewal process of mean rate `CONVERSATION_RATE_PER_S` on a clock that runs with the rate (time rescaling)."""
    step = fit.DRIFT_STEP_S
    steps = BLOCK_S // step
    noise = drift.standard_normal(steps) * fit.DRIFT_SIGMA
    noise[1:] *= (1.0 - fit.DRIFT_RHO**2) ** 0.5
    level = noise.tolist()
    for index in range(1, steps):
        level[index] += fit.DRIFT_RHO * level[index - 1]
    start = np.arange(steps) * step
    day = first_day + start // 86_400
    weekend = np.isin(day % 7, (fit.FIRST_WEEKEND_DAY, fit.FIRST_WEEKEND_DAY + 1))
    rate = fit.CONVERSATION_PROFILE[start // 3600 % 24] * np.where(weekend, fit.WEEKEND_FACTOR, 1.0)
    rate *= fit.CONVERSATION_RATE_PER_S / rate.mean()
    rate *= np.exp(np.array(level) - fit.DRIFT_SIGMA**2 / 2)

    grid = np.union1d(np.arange(steps + 1) * float(step), clock.knots)
    middle = (grid[1:] + grid[:-1]) / 2
    live = np.searchsorted(clock.knots, middle) % 2 == 1
    expected = rate[(middle // step).astype(np.int64)] * np.diff(grid)
    total = expected.sum()
    expected[~live] = 0.0
    expected *= total / expected.sum()  # what an outage keeps away comes at other times
    cumulative = np.concatenate(([0.0], np.cumsum(expected)))
    count = int(total + 10 * total**0.5 + 100)
    unit = np.cumsum(rng.standard_gamma(fit.CONVERSATION_GAMMA_SHAPE, count) / fit.CONVERSATION_GAMMA_SHAPE)
    return np.interp(unit[unit < cumulative[-1]], cumulative, grid).astype(np.int64)


def _api(
    jobs: np.random.Generator, gaps: np.random.Generator, background: np.random.Generator, clock: _Clock
) -> tuple[Times, Times]:
    """Jobs: started at moments of the day's profile, each a Poisson stream of one rate that waits out the outages.

    Returns the times, job after job and the background last, and the number of requests in each job.
    """
    count = max(1, int(jobs.poisson(fit.API_JOBS_PER_DAY * fit.DAYS)))
    starts = clock.to_live(_moments(jobs, count, fit.ALL_TRAFFIC_PROFILE))
    sizes = _job_sizes(jobs.lognormal(0.0, fit.API_JOB_SIGMA, count))
    rates = jobs.lognormal(fit.API_RATE_LOG_MEAN, fit.API_RATE_LOG_SIGMA, count)
    rates = np.minimum(fit.API_RATE_LIMIT_PER_S, rates * (sizes / 1000.0) ** fit.API_RATE_SIZE_POWER)
    first = np.cumsum(sizes) - sizes
    live = gaps.standard_exponential(int(sizes.sum()))
    live /= np.repeat(rates, sizes)
    live[first] = 0.0
    np.cumsum(live, out=live)
    live += np.repeat(starts - live[first], sizes)
    np.mod(live, clock.live_s, out=live)  # a job that outlives the block runs on at its start: the total stays
    others = background.random(int(background.poisson(fit.API_BACKGROUND_PER_S * BLOCK_S))) * clock.live_s
    return clock.to_real(np.concatenate((live, others))).astype(np.int64), sizes


def _job_sizes(weights: FloatArray) -> npt.NDArray[np.int64]:
    """Scale weights to sizes that sum to `API_REQUESTS`, none above `API_JOB_LARGEST`."""
    sizes = weights * (fit.API_REQUESTS / weights.sum())
    capped = np.zeros(len(sizes), dtype=bool)
    while np.any(over := (sizes > fit.API_JOB_LARGEST) & ~capped):
        capped |= over
        if capped.all():
            break
        sizes[~capped] *= (fit.API_REQUESTS - fit.API_JOB_LARGEST * capped.sum()) / sizes[~capped].sum()
    sizes[capped] = fit.API_JOB_LARGEST
    return np.maximum(1, np.rint(sizes)).astype(np.int64)


def _lengths(
    rng: np.random.Generator, count: int, name: str, bursts: Times, likeness: float
) -> tuple[IntArray, IntArray]:
    """Draw request and response lengths: a Gaussian copula over the tables of quantiles."""
    request = rng.standard_normal(count)
    response = rng.standard_normal(count)
    if likeness:
        _make_alike(request, bursts, likeness)
        _make_alike(response, bursts, likeness)
    response *= (1.0 - fit.LENGTH_CORRELATION**2) ** 0.5
    response += fit.LENGTH_CORRELATION * request
    return _quantiles(request, name, "request"), _quantiles(response, name, "response")


def _make_alike(scores: FloatArray, bursts: Times, likeness: float) -> None:
    """Turn independent normal scores into a stationary AR(1) process along each burst; the first of each stays."""
    from scipy.signal import lfilter

    first = 0
    for size in bursts.tolist():
        burst = scores[first : first + size]
        burst[1:] *= (1.0 - likeness**2) ** 0.5
        burst[:] = lfilter([1.0], [1.0, -likeness], burst)
        first += size


def _quantiles(scores: FloatArray, name: str, column: str) -> IntArray:
    """Turn normal scores into lengths, through a fine table: one look-up a row instead of a search and a power."""
    table = fit.QUANTILES[name]
    normal = NormalDist()
    ends = 0.5 / fit.API_REQUESTS  # the score of the extremes: that of the largest of so many rows
    knots = np.array([normal.inv_cdf(min(max(float(p), ends), 1.0 - ends)) for p in table["probability"]])
    reach, cells = 5.25, 1 << 14
    grid = np.linspace(-reach, reach, cells)
    lengths = np.rint(np.exp(np.interp(grid, knots, np.log(table[column])))).astype(np.int32)
    at = ((scores + reach) * ((cells - 1) / (2 * reach)) + 0.5).astype(np.int32)
    return lengths[np.clip(at, 0, cells - 1)]
