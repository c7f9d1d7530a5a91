"""Claims of the original simulator (its published result files) beside the same settings on the built-in workload."""

from __future__ import annotations

from dataclasses import dataclass

from mbexp.results.comparisons import compare_together
from mbexp.results.statistics import mean_interval
from mbexp.theory import dynamic_batching
from mbexp.validate.case import seeds
from mbexp.validate.papers.row import Effort, Row, shown, table
from mbexp.validate.setups import Values

REQUESTS = 10_000
OURS = "multi_bin_dynamic"
TARGET_PCT = 5.0  # the original's best configuration: fewest GPUs with a violation at or below this
TRACE_RATE_PER_S = 0.2713  # mean of BurstGPT file 1, which the built-in workload has as well

# What the original's code amounts to: a tenth of the memory is kept free. The controller's band of 5 ms around 10 ms
# holds every step time of the law, so that b_SLA stays in the middle of [1, 128].
ORIGINAL_SETTINGS: Values = {
    "scheduler.memory_rule": "original",
    "scheduler.controller.interval_batches": 1_000_000_000,
}


@dataclass(frozen=True)
class Printed:
    """A row of the original's method comparison, 10,000 requests: request-SLA violation in per cent, K and GPUs.

    `rate_per_s` is its arrival rate: the throughput of its best configuration, which kept up.
    """

    rate_scaling: int
    rate_per_s: float
    static_pct: float
    dynamic_pct: float
    multi_bin_pct: float
    best_gpus: int
    best_k: int
    best_pct: float


PRINTED = (
    Printed(100, 3.132, 99.54, 99.03, 93.34, 16, 4, 4.01),
    Printed(10, 0.3136, 84.78, 56.77, 71.35, 4, 8, 1.79),
    Printed(1, 0.0314, 2.71, 2.71, 2.63, 1, 2, 1.87),
)
PRINTED_K = {1: 2.84, 2: 1.99, 4: 1.79, 8: 2.39, 16: 4.21}  # its sensitivity runs: 4 GPUs, rate scaling 10x


def sections(effort: Effort) -> list[str]:
    """Return the Markdown sections of the original."""
    return [one_gpu(effort), best_configuration(effort), bins(effort), token_sla(effort)]


def one_gpu(effort: Effort) -> str:
    """Its methods 1 to 3, all on one GPU."""
    rows, openings, pairs = [], [], []
    for printed in PRINTED:
        theirs = {
            "static_fifo": printed.static_pct,
            "dynamic_no_bins": printed.dynamic_pct,
            "multi_bin_dynamic": printed.multi_bin_pct,
        }
        ours = {name: _violations(effort, printed, name, 1, 8) for name in theirs}
        for name, values in ours.items():
            interval = mean_interval(values)
            near = abs(interval.mean - theirs[name]) <= max(interval.half_width, 0.05 * theirs[name])
            rows.append(
                Row(
                    f"{printed.rate_scaling}x, 1 GPU, {name}",
                    f"{theirs[name]:.2f} %",
                    "-",
                    f"{shown(interval)} %",
                    "yes" if near else "no",
                    "within the interval or 5 %" if near else "another value: the workload differs",
                )
            )
        for second in ("static_fifo", "dynamic_no_bins"):
            openings.append(
                f"- {printed.rate_scaling}x: printed {theirs[OURS] - theirs[second]:+.2f} points for {OURS} against "
                f"{second}, and here "
            )
            pairs.append((second, ours[OURS], ours[second]))
    return (
        "### Request-SLA violation (20 s) on one GPU, 10,000 requests\n\n"
        f"{table(rows)}\n\n{_verdicts(openings, pairs)}\n\n"
        "The original read the head of the real file. Here the built-in workload has the same arrival rate (3.1, 0.31 "
        "and 0.031 requests/s). Lengths and bursts differ, and only directions can agree. Near 100 % a violation says "
        "little, because queues grow for as long as requests arrive.\n"
    )


def best_configuration(effort: Effort) -> str:
    """Its method 4, many GPUs, against its baseline on one; and at equal GPUs."""
    rows, openings, pairs = [], [], []
    for printed in PRINTED:
        best = _violations(effort, printed, "multi_bin_dynamic", printed.best_gpus, printed.best_k)
        alone = _violations(effort, printed, "static_fifo", 1, 1)
        equal = _violations(effort, printed, "static_fifo", printed.best_gpus, 1)
        setting = f"{printed.rate_scaling}x, multi_bin_dynamic, {_gpus(printed.best_gpus)}, K {printed.best_k}"
        rows.append(
            Row(
                f"{setting}, against static_fifo on 1 GPU",
                f"{printed.best_pct:.2f} % against {printed.static_pct:.2f} %",
                "-",
                f"{shown(mean_interval(best))} % against {shown(mean_interval(alone))} %",
                "yes" if mean_interval(best).mean <= TARGET_PCT else "no",
                ("below" if mean_interval(best).mean <= TARGET_PCT else "misses")
                + " the 5 % target on this burstier workload"
                + f"; {printed.best_gpus} GPUs against 1 compare no schedulers" * (printed.best_gpus > 1),
            )
        )
        openings.append(
            f"- {printed.rate_scaling}x, {_gpus(printed.best_gpus)} each: static_fifo violates "
            f"{shown(mean_interval(equal))} %, and "
        )
        pairs.append(("static_fifo", best, equal))
    return (
        "### The best configuration against the baseline\n\n"
        f"{table(rows)}\n\n**At equal GPUs:**\n\n{_verdicts(openings, pairs)}\n"
    )


def bins(effort: Effort) -> str:
    """Its sensitivity to K."""
    rows = []
    load = PRINTED[1]
    means = {k: mean_interval(_violations(effort, load, "multi_bin_dynamic", 4, k)) for k in PRINTED_K}
    best = min(means, key=lambda k: means[k].mean)
    for k, printed in PRINTED_K.items():
        rows.append(
            Row(
                f"10x, 4 GPUs, multi_bin_dynamic, K {k}",
                f"{printed:.2f} %",
                "-",
                f"{shown(means[k])} %",
                "partly" if best == 4 else "no",
                f"best K: 4 printed, {best} here; other values: the workload differs",
            )
        )
    return f"### Sensitivity to K\n\n{table(rows)}\n"


def token_sla(effort: Effort) -> str:
    """Its token SLA of 10 ms."""
    values: Values = {"scheduler": "multi_bin_dynamic", "predictor": "prompt_power_law", **ORIGINAL_SETTINGS}
    (run,) = seeds(values, effort.requests(REQUESTS), 1)
    violation = run.summary["token_sla_violation_pct"]
    largest = dynamic_batching.original_law_step_ms(1e12)
    row = Row(
        "token-SLA violation, every run",
        "0.00 %",
        "0 %" if largest <= 1000 * run.config.sla.token_s else "-",
        f"{violation:g} %",
        "yes" if violation == 0 else "no",
        f"its law never exceeds {largest:.4f} ms between tokens, so a 10 ms SLA cannot bind; a run says so",
    )
    slas_ms = (6.75, 7.0, 7.2, 7.3, 7.4, 7.5, 7.53, 7.5565)
    limits = "\n".join(
        [
            "| SLA | largest batch |",
            "|---|---|",
            *(f"| {sla:g} ms | {dynamic_batching.original_law_batch_limit(sla):g} |" for sla in slas_ms),
        ]
    )
    return (
        f"### Token SLA\n\n{table([row])}\n\n"
        f"Largest batch within an SLA under the original's law (inf means that the SLA cannot bind):\n\n{limits}\n"
    )


def _verdicts(openings: list[str], pairs: list[tuple[str, list[float], list[float]]]) -> str:
    """Return a line for each opening, ended by the verdict of `OURS` against a method: all decided together (Holm)."""
    decided = compare_together(
        [{"first": ours, "second": theirs, "higher_is_better": False, "relative": False} for _, ours, theirs in pairs]
    )
    lines = (
        f"{opening}{comparison.verdict(OURS, method, 'percentage points')}."
        for opening, comparison, (method, _, _) in zip(openings, decided, pairs, strict=True)
    )
    return "\n".join(lines) + f"\n\nThe {len(pairs)} verdicts are decided together (Holm)."


def _gpus(count: int) -> str:
    return f"{count} GPU{'s' * (count > 1)}"


def _violations(effort: Effort, printed: Printed, scheduler: str, gpus: int, k: int) -> list[float]:
    values: Values = {
        "scheduler": scheduler,
        "num_gpus": gpus,
        "k_bins": k,
        "workload": "burstgpt_like",
        "workload.rate_scaling": printed.rate_per_s / TRACE_RATE_PER_S,
        "predictor": "prompt_power_law",
    }
    if scheduler != "static_fifo":
        values |= ORIGINAL_SETTINGS
    runs = seeds(values, effort.requests(REQUESTS), 2 * effort.replications)
    return [float(run.summary["request_sla_violation_pct"]) for run in runs]
