"""What a run shows in the terminal: a short table, and every warning that changes how it should be read."""

from __future__ import annotations

import math
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mbexp.run import Result

WIDTH = 100


def report(result: Result) -> list[str]:
    """Return the lines of the summary table and the warnings."""
    config, summary = result.config, result.summary
    scheduler = config.scheduler
    bins = "one queue" if scheduler.queue == "fifo" else f"{summary['bins']} bins"
    head = f"{scheduler.name}, {bins}, {config.gpu.count} x {config.gpu.name}"
    load = summary["offered_load"]
    rows = [
        ("requests", f"{summary['completed_requests']:,} completed", _left_out(result)),
        (
            "load",
            f"{_number(summary['arrival_rate_per_s'])} requests/s",
            "all at once" if math.isnan(load) else f"offered load {_number(load)}",
        ),
        (
            "throughput",
            f"{_number(summary['throughput_requests_per_s'])} requests/s",
            f"{_number(summary['throughput_tokens_per_s'])} tokens/s",
        ),
        (
            "goodput",
            f"{_number(summary['goodput_requests_per_s'])} requests/s",
            f"within {config.sla.request_s:g} s and {config.sla.token_ms:g} ms per token",
        ),
        (
            "latency",
            f"{_number(summary['latency_mean_s'])} s mean",
            f"p50 {_number(summary['latency_p50_s'])}  p95 {_number(summary['latency_p95_s'])}  "
            f"p99 {_number(summary['latency_p99_s'])} s",
        ),
        (
            "first token",
            f"{_number(summary['ttft_mean_s'])} s mean",
            f"p99 {_number(summary['ttft_p99_s'])} s, queue included",
        ),
        ("between tokens", f"{_number(summary['tbt_mean_ms'])} ms mean", f"p99 {_number(summary['tbt_p99_ms'])} ms"),
        (
            "SLA violations",
            f"{_number(summary['request_sla_violation_pct'])} % of requests",
            f"{_number(summary['token_sla_violation_pct'])} % of tokens",
        ),
        (
            "batches",
            f"{_number(summary['batch_size_mean'])} requests mean",
            f"{_number(summary['padding_waste_pct'])} % padding, {_number(summary['misbin_pct'])} % misbinned",
        ),
        (
            "GPUs",
            f"{_number(summary['gpu_utilization_pct'])} % busy",
            f"makespan {_number(summary['makespan_s'])} s",
        ),
    ]
    seeds = f"{config.seed}-{config.seed + config.replications - 1}"
    means = f"; means of {config.replications} runs, seeds {seeds}" if config.replications > 1 else ""
    lines = [head, f"on {result.trace.source}{means}"]
    lines += [f"   {result.trace.window}"] if result.trace.window else []
    lines.append("")
    lines += [f"  {name:<15} {first:>24}   {second}".rstrip() for name, first, second in rows]
    lines.append("")
    for warning in result.warnings:
        lines += textwrap.wrap(f"! {warning}", WIDTH, subsequent_indent="  ")
    return lines


def _left_out(result: Result) -> str:
    summary = result.summary
    parts = []
    if summary["rejected_requests"]:
        parts.append(f"{summary['rejected_requests']:,} rejected")
    parts += [f"{count:,} rows dropped ({reason.replace('_', ' ')})" for reason, count in result.trace.dropped.items()]
    parts += [f"{count:,} {reason.replace('_', ' ')}" for reason, count in result.trace.changed.items() if count]
    return ", ".join(parts)


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
        return f"{value:,.{min(digits, 5)}f}"
    return f"{value:.3g}"


def say_if_compiling(execution: str) -> None:
    """Tell the user once why the first run of a mode takes longer."""
    from mbexp.compiled.cache import is_compiled

    if not is_compiled(execution):
        of = " of continuous batching" if execution == "continuous" else ""
        print(f"mbexp: compiling the event loop{of}, once; later runs start at once", file=sys.stderr, flush=True)
