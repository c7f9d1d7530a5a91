"""What a run shows in the terminal: a short table, and every warning that changes how it should be read."""

from __future__ import annotations

import math
import sys
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from mbexp.results.catalogue import Metric, catalogue

if TYPE_CHECKING:
    from mbexp.results.result import Result

WIDTH = 100

# A name and two columns, metrics by their keys. How a metric is shown: see `_Shown`.
ROWS = (
    ("requests", "{completed_requests:count} completed", "{left_out}"),
    ("load", "{arrival_rate_per_s}", "{load}"),
    ("throughput", "{throughput_requests_per_s}", "{throughput_tokens_per_s}"),
    ("goodput", "{goodput_requests_per_s}", "within {sla.request_s:g} s and {sla.token_ms:g} ms per token"),
    ("latency", "{latency_mean_s} mean", "p50 {latency_p50_s:bare}  p95 {latency_p95_s:bare}  p99 {latency_p99_s}"),
    ("first token", "{ttft_mean_s} mean", "p99 {ttft_p99_s}, queue included"),
    ("between tokens", "{tbt_mean_ms} mean", "p99 {tbt_p99_ms}"),
    ("SLA violations", "{request_sla_violation_pct} of requests", "{token_sla_violation_pct} of tokens"),
    ("batches", "{batch_size_mean} mean", "{padding_waste_pct} padding, {misbin_pct} misbinned"),
    ("GPUs", "{gpu_utilization_pct} busy", "{makespan_s:named}"),
)


def report(result: Result) -> list[str]:
    """Return the lines of the summary table and the warnings."""
    config, shown = result.config, _shown(result.summary)
    scheduler = config.scheduler
    number = result.summary["bins"]
    bins = "one queue" if scheduler.queue == "fifo" else f"{_count(number)} bin{'s' * (number != 1)}"
    head = f"{scheduler.name}, {bins}, {config.gpu.count} x {config.gpu.name}"
    load = shown["offered_load"]
    shown["load"] = "all at once" if math.isnan(load.value) else f"{load:named}"
    shown["left_out"], shown["sla"] = _left_out(result), config.sla
    seeds = f"{config.seed}-{config.seed + config.replications - 1}"
    what = f"windows of {config.num_requests:,} requests" if config.replicate == "windows" else f"runs, seeds {seeds}"
    means = f"; means of {config.replications} {what}" if config.replications > 1 else ""
    lines = [head, f"on {result.trace.source}{means}"]
    lines += [f"   {result.trace.window}"] if result.trace.window else []
    lines.append("")
    for name, first, second in ROWS:
        lines.append(f"  {name:<15} {first.format_map(shown):>24}   {second.format_map(shown)}".rstrip())
    lines.append("")
    for warning in result.warnings:
        lines += textwrap.wrap(f"! {warning}", WIDTH, subsequent_indent="  ")
    return lines


class _Shown(NamedTuple):
    """A metric's value; shown with its unit, or ``bare``, as a ``count``, or ``named``: its label first."""

    metric: Metric
    value: float

    def __format__(self, how: str) -> str:
        if how == "count":
            return _count(self.value)
        if how == "bare":
            return _number(self.value)
        name = f"{self.metric.label.lower()} " if how == "named" else ""
        return f"{name}{_number(self.value)} {self.metric.unit}".rstrip()


def _shown(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return every metric of the catalogue by its key, with nan where the summary has none."""
    return {key: _Shown(metric, summary.get(key, math.nan)) for key, metric in catalogue().items()}


def _left_out(result: Result) -> str:
    summary = result.summary
    parts = []
    if summary["rejected_requests"]:
        parts.append(f"{_count(summary['rejected_requests'])} rejected")
    parts += [f"{count:,} rows dropped ({reason.replace('_', ' ')})" for reason, count in result.trace.dropped.items()]
    parts += [f"{count:,} {reason.replace('_', ' ')}" for reason, count in result.trace.changed.items() if count]
    return ", ".join(parts)


def _count(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"  # the mean of several runs


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
        return f"{value:,.{min(digits, 5)}f}"
    return f"{value:.3g}"


def say_if_compiling(execution: str, loop: str) -> None:
    """Tell the user once why the first run of a mode takes longer."""
    from mbexp.compiled.cache import is_compiled

    if not is_compiled(loop):
        text = f"mbexp: compiling the event loop, once for execution={execution}; later runs start at once"
        print(text, file=sys.stderr, flush=True)
