"""What a run shows in the terminal: a short table, and every warning that changes how it should be read."""

from __future__ import annotations

import math
import os
import sys
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from mbexp.config.keys import SlaConfig
from mbexp.results.catalogue import Metric, catalogue
from mbexp.results.lines import prose_lines, terminal_width
from mbexp.results.shown import number

if TYPE_CHECKING:
    from mbexp.results.result import Result

_BEFORE_NOTES = 2 + 15 + 1 + 24 + 3  # characters of a row before its second column

# A name and two columns, metrics by their keys. How a metric is shown: see `_Shown`.
ROWS = (
    ("requests", "{completed_requests:count} completed", "{left_out}"),
    ("load", "{arrival_rate_per_s}", "{load}"),
    ("throughput", "{throughput_requests_per_s}", "{throughput_tokens_per_s}"),
    ("goodput", "{goodput_requests_per_s}", "{limits}"),
    ("latency", "{latency_mean_s} mean", "p50 {latency_p50_s:bare}  p95 {latency_p95_s:bare}  p99 {latency_p99_s}"),
    ("first token", "{ttft_mean_s} mean", "p99 {ttft_p99_s}, queue included"),
    ("between tokens", "{tbt_mean_ms} mean", "p99 {tbt_p99_ms}"),
    ("SLA violations", "{request_sla_violation_pct} of requests", "{token_sla_violation_pct} of tokens"),
    ("batches", "{batch_size_mean} mean", "{padding_waste_pct} padding, {misbin_pct} misbinned"),
    ("GPUs", "{gpu_utilization_pct} busy", "{makespan_s:named}"),
    ("while busy", "{running_mean} run", "of {limit_mean:bare} that may; {kv_use_mean_pct} of the KV cache in use"),
)
# The same of a class of requests.
OF_CLASS = (
    "{latency_mean_s} mean",
    "p99 {latency_p99_s}, first token p99 {ttft_p99_s}, goodput {goodput_requests_per_s}",
)


def report(result: Result) -> list[str]:
    """Return the lines of the summary table and the warnings."""
    config, shown = result.config, _shown(result.summary)
    scheduler = config.scheduler
    queues = result.summary["bins"]
    kind = "class" if scheduler.queue == "per_class" else "bin"
    many = "es" if kind == "class" else "s"
    bins = "one queue" if scheduler.queue == "fifo" else f"{_count(queues)} {kind}{many * (queues != 1)}"
    head = f"{scheduler.name}, {bins}, {config.gpu.count} x {config.gpu.name}"
    load, nothing = shown["offered_load"], result.summary["completed_requests"] == 0
    users = result.outcome.users
    unknown = "all at once" if users is None else f"{_count(users)} users in a closed loop"
    unknown = "nothing was served" if nothing else unknown
    shown["load"] = unknown if math.isnan(load.value) else f"{load:named}"
    shown["left_out"] = _left_out(result)
    limits = config.sla.limits
    shown["limits"] = f"within {' and '.join(limits)}" if limits else "no limit is set"
    if config.sla.targets and limits == SlaConfig().limits:
        shown["limits"] += ", by default"  # beside targets, limits that nobody chose
    seeds = f"{config.seed}-{config.seed + config.replications - 1}"
    what = f"windows of {config.num_requests:,} requests" if config.replicate == "windows" else f"runs, seeds {seeds}"
    means = f"; means of {config.replications} {what}" if config.replications > 1 else ""
    lines = [*prose_lines(head, "   "), *prose_lines(f"on {result.trace.source}{means}", "   ")]
    lines += prose_lines(f"   {result.trace.window}", "   ") if result.trace.window else []
    if result.trace.time_scaling != 1:
        lines.append(f"   at {result.trace.time_scaling:g}x the trace's rate: {shown['arrival_rate_per_s']}")
    if nothing:
        lines.append("! no request could be served: every number below is of nothing")
    lines.append("")
    width = terminal_width()
    for name, first, second in ROWS:
        if name == "while busy" and math.isnan(shown["running_mean"].value):
            continue  # of iterations only: a batch has its row
        row = f"  {name:<15} {first.format_map(shown):>24}   {second.format_map(shown)}".rstrip()
        lines += _row(row, width)
    for name in config.workload.classes:
        mine = _shown({key: result.summary.get(f"{key}@{name}", math.nan) for key in result.summary})
        first, second = OF_CLASS
        row = f"  {name:<15} {first.format_map(mine):>24}   {second.format_map(mine)}"
        lines += _row(row, width)
    lines.append("")
    for warning in result.warnings:
        lines += prose_lines(f"! {warning}", "  ")
    return lines


def _row(text: str, width: int) -> list[str]:
    """Break a row that is too wide at the spaces of its second column, and go on below that column."""
    notes = textwrap.wrap(text[_BEFORE_NOTES:], max(20, width - _BEFORE_NOTES)) if len(text) > width else []
    return [text[:_BEFORE_NOTES] + notes[0], *(" " * _BEFORE_NOTES + note for note in notes[1:])] if notes else [text]


class _Shown(NamedTuple):
    """A metric's value; shown with its unit, or ``bare``, as a ``count``, or ``named``: its label first."""

    metric: Metric
    value: float

    def __format__(self, how: str) -> str:
        if how == "count":
            return _count(self.value)
        if how == "bare":
            return number(self.value)
        name = f"{self.metric.label.lower()} " if how == "named" else ""
        return f"{name}{number(self.value)} {self.metric.unit}".rstrip()


def _shown(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return every metric of the catalogue by its key, with nan where the summary has none."""
    return {key: _Shown(metric, summary.get(key, math.nan)) for key, metric in catalogue().items()}


def _left_out(result: Result) -> str:
    summary = result.summary
    parts = []
    if summary["rejected_requests"]:
        parts.append(f"{_count(summary['rejected_requests'])} rejected")
    for reason, count in result.trace.dropped.items():
        parts.append(f"{count:,} row{'s' * (count != 1)} dropped ({reason.replace('_', ' ')})")
    parts += [f"{count:,} {reason.replace('_', ' ')}" for reason, count in result.trace.changed.items() if count]
    return ", ".join(parts)


def _count(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"  # the mean of several runs


def say_if_compiling(execution: str, loop: str) -> None:
    """Tell the user why the first run of a mode takes longer, and every run where machine code cannot be kept."""
    from mbexp.compiled.cache import cache_folder, is_compiled

    if is_compiled(loop):
        return
    text = f"mbexp: compiling the event loop, once for execution={execution}; later runs start at once"
    if cache_folder() is None:
        why = (
            f"MBEXP_CACHE={os.environ['MBEXP_CACHE']}" if os.environ.get("MBEXP_CACHE") else "no folder can be written"
        )
        text = (
            f"mbexp: compiling the event loop, as at every command, since machine code cannot be kept ({why}); "
            "MBEXP_CACHE=FOLDER names a folder that can be written"
        )
    print(text, file=sys.stderr, flush=True)
