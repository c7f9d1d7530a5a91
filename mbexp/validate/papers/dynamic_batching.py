"""P2's Fig. 3, Algorithm 1, Algorithm 2 and Table I: printed, exact, simulated."""

from __future__ import annotations

import math

import numpy as np

from mbexp.results.statistics import mean_interval
from mbexp.theory import dynamic_batching
from mbexp.validate.case import seeds
from mbexp.validate.papers.row import Effort, Row, shown, table
from mbexp.validate.setups import Values, at_once

STEP = dynamic_batching.LinearStep()


def sections(effort: Effort) -> list[str]:
    """Return the Markdown sections of P2."""
    return [figure_3(), algorithm_1(effort), algorithm_2(effort), table_1()]


def figure_3() -> str:
    """tau(b), b / tau(b), and the throughput that an SLA leaves."""
    rows = []
    for sla, printed in ((50, 1818), (80, 2841)):
        real = STEP.batch_within(sla)
        batch = math.floor(real)
        values = {
            **at_once(), **_outputs_of(100), "gpu": "linear_p2", "gpu.kv_capacity_tokens": 10_000_000,
            "scheduler": "static_fifo", "scheduler.fixed_batch_size": batch, "num_gpus": 1,
        }  # fmt: skip
        summary = next(seeds(values, 100 * batch, 1)).summary
        exact = STEP.tokens_per_s(batch)
        rows.append(
            Row(
                f"D = {sla} ms: tokens/s at b = {real:.1f}",
                str(printed),
                f"{STEP.tokens_per_s_within(sla):.0f}; {exact:.1f} at b = {batch}",
                f"{summary['throughput_tokens_per_s']:.1f} at b = {batch}, TBT {summary['tbt_mean_ms']:.2f} ms",
                "yes" if abs(summary["throughput_tokens_per_s"] / exact - 1) < 1e-9 else "no",
                "batches are whole, so the simulator runs the next b below",
            )
        )
    return f"### Fig. 3: tau(b) = 0.22 b + 30 ms\n\n{table(rows)}\n"


def algorithm_1(effort: Effort) -> str:
    """The memory bound and how often it overflows."""
    rows = []
    for capacity, mean, sd in ((62_000, 704.1, 360.6), (20_000, 800.0, 500.0)):
        for overflow in (0.05, 0.01, 0.001):
            exact = dynamic_batching.memory_bound(capacity, mean, sd, overflow)
            requests = effort.requests(20_000)
            runs = seeds(_memory_run(capacity, mean, sd, overflow), requests, effort.replications)
            finals = [float(run.outcome.batches["b_mem"][-1]) for run in runs]
            inside = all(abs(final - math.floor(exact)) <= 1 for final in finals)
            rows.append(
                Row(
                    f"eta {capacity}, mu {mean:g}, sigma {sd:g}, eps {overflow}",
                    "-",
                    f"{exact:.3f}",
                    f"b_mem {min(finals):.0f} to {max(finals):.0f} after {requests:,} requests",
                    "yes" if inside else "no",
                    "learnt from lognormal lengths, so a request more or less",
                )
            )
    printed = dynamic_batching.printed_memory_bound(32, 800, 500, 0.05)
    wrong = (
        "**Erratum.** P2 prints L0 = eta - (theta sigma_S + mu_S). With this L0, the memory eta cancels from "
        "b_mem = (eta - L0)/mu. With 32 requests of mean 800 and deviation 500, the printed rule allows "
        f"{printed:.1f} on any GPU, and always more requests than run now. The margin must be "
        "L0 = theta sigma sqrt(b), as computed above."
    )
    return f"### Algorithm 1: the largest batch that memory allows\n\n{table(rows)}\n\n{_overflow(effort)}\n\n{wrong}\n"


def algorithm_2(effort: Effort) -> str:
    """Where the search for the token SLA settles."""
    values = {
        **at_once(), **_outputs_of(100), "gpu": "linear_p2", "gpu.kv_capacity_tokens": 10_000_000, "num_gpus": 1,
        "gpu.noise.kind": "lognormal", "gpu.noise.cv": 0.05, "scheduler": "dynamic_no_bins", "sla": "p2_50ms",
        "scheduler.batch_size_max": 256, "scheduler.controller.tolerance_ms": 2.0,
    }  # fmt: skip
    means = []
    for run in seeds(values, effort.requests(200_000), effort.replications):
        limits = run.outcome.batches["b_sla"]
        means.append(float(np.mean(limits[len(limits) // 4 :])))
    settled = mean_interval(means)
    target = STEP.batch_within(50)
    band = 2 / STEP.per_request_ms
    inside = all(abs(mean - target) < band for mean in means)
    row = Row(
        "D = 50 ms, alpha 16, delta 4, eps 2 ms, window 16, 5 % noise",
        "no constants printed",
        f"target {target:.1f}",
        f"b_SLA {shown(settled)}",
        "yes" if inside else "no",
        f"it stops anywhere in the band, here {band:.0f} requests on either side",
    )
    return f"### Algorithm 2: the largest batch that the token SLA allows\n\n{table([row])}\n"


def table_1() -> str:
    """Arithmetic of Table I, and what is not reproduced here."""
    gain = dynamic_batching.relative_gain_pct(2215, 2569)
    row = Row("2215 to 2569 tokens/s", "26.0 %", f"{gain:.1f} %", "-", "no", "a slip of the paper")
    return (
        f"### Tables I and II, Fig. 4\n\n{table([row])}\n\n"
        "The authors measured the other numbers on their servers and models under continuous batching. Without their "
        "hardware only shapes can be compared. [Continuous batching](continuous_results.md) compares them.\n"
    )


def _overflow(effort: Effort) -> str:
    """How often batches of the size that Algorithm 1 allows really overflow."""
    capacity, mean, sd = 20_000, 800.0, 500.0
    batch = math.floor(dynamic_batching.memory_bound(capacity, mean, sd, 0.05))
    values = _memory_run(capacity, mean, sd, 0.05) | {
        "scheduler.batch_size": "fixed", "scheduler.fixed_batch_size": batch,
        "predictor": "constant", "predictor.value_tokens": mean - 1,
    }  # fmt: skip
    runs = seeds(values, effort.requests(200_000), effort.replications)
    shares = [float(run.summary["kv_overflow_pct"]) for run in runs]
    normal = 100 * dynamic_batching.overflow_chance(capacity, mean, sd, batch)
    real = dynamic_batching.memory_bound(capacity, mean, sd, 0.05)
    return (
        f"Batches of {batch} with eta 20,000, mu 800, sigma 500, formed without knowing lengths, overflow in "
        f"{shown(mean_interval(shares))} % of cases when lengths are lognormal. The Normal model says {normal:.2f} % "
        f"(5 % at {real:.2f}). Skewed lengths overflow more often than Algorithm 1 assumes."
    )


def _memory_run(capacity: int, mean: float, sd: float, overflow: float) -> Values:
    output_mean = mean - 1  # and one token of prompt
    sigma = math.sqrt(math.log1p((sd / output_mean) ** 2))
    return {
        **at_once(), "workload.output.kind": "lognormal", "workload.output.mean_tokens": output_mean,
        "workload.output.sigma": sigma, "gpu": "linear_p2", "gpu.kv_capacity_tokens": capacity, "num_gpus": 1,
        "scheduler": "dynamic_no_bins", "scheduler.memory_overflow_probability": overflow, "sla.token_ms": 1000.0,
    }  # fmt: skip


def _outputs_of(tokens: int) -> Values:
    return {"workload.output.kind": "constant", "workload.output.value_tokens": tokens}
