"""Metrics of latency."""

from __future__ import annotations

from functools import partial

from mbexp.results.catalogue.metric import Metric

row = partial(Metric, section="Latency", better="lower")
interpolated = "It is interpolated linearly between order statistics."
gap = "a gap is the time between two successive tokens of a request"
mean_step = "The mean step time of a batch stands for each gap in it."
every_gap = (
    "Under `execution=continuous`: every gap is taken as it was, including stalls and preemptions, and gaps count from "
    "the arrival of the first measured request on."
)

ROWS = (
    row(
        "latency_mean_s",
        "s",
        "Mean latency",
        "The mean latency of the measured requests. Latency is the time from the arrival of a request to its "
        "completion.",
    ),
    row("latency_p50_s", "s", "Median latency", f"The median of the latencies. {interpolated}"),
    row("latency_p90_s", "s", "90th percentile latency", f"The 90th percentile of the latencies. {interpolated}"),
    row("latency_p95_s", "s", "95th percentile latency", f"The 95th percentile of the latencies. {interpolated}"),
    row("latency_p99_s", "s", "99th percentile latency", f"The 99th percentile of the latencies. {interpolated}"),
    row("latency_max_s", "s", "Longest latency", "The longest latency of a measured request."),
    row(
        "queue_delay_mean_s",
        "s",
        "Mean queueing delay",
        "The mean time from the arrival of a request to the start of its batch. Under `execution=continuous`: the mean "
        "time from arrival to first admission to a GPU.",
    ),
    row(
        "service_time_mean_s",
        "s",
        "Mean service time",
        "The mean time from the start of a request's batch to the completion of the request. Under "
        "`execution=continuous`: the mean time from first admission to completion, preemptions included.",
    ),
    row(
        "ttft_mean_s",
        "s",
        "Mean time to first token",
        "The mean time from the arrival of a request to its first token, which is at the end of its prefill. The time "
        "in the queue is included. Under `execution=continuous`: a preempted request has its first token at the "
        "end of its first prefill.",
    ),
    row(
        "ttft_p99_s",
        "s",
        "99th percentile time to first token",
        f"The 99th percentile of the time from arrival to first token. {interpolated}",
    ),
    row(
        "tbt_mean_ms",
        "ms",
        "Mean time between tokens",
        f"The mean gap of the measured requests, where {gap}. Each gap counts once. {mean_step} {every_gap}",
    ),
    row(
        "tbt_p99_ms",
        "ms",
        "99th percentile time between tokens",
        f"The smallest value that 99 % of the gaps of the measured requests do not exceed. {mean_step} "
        f"{every_gap} The value then comes from a histogram, and is off by at most 0.1 %.",
    ),
    row(
        "tbt_max_ms",
        "ms",
        "Longest time between tokens",
        f"The largest gap, where {gap}. Stalls and preemptions are included.",
        modes=("continuous",),
    ),
    row(
        "request_sla_violation_pct",
        "%",
        "Request-SLA violation",
        "The share of measured requests with a latency above `sla.request_s`.",
    ),
    row(
        "token_sla_violation_pct",
        "%",
        "Token-SLA violation",
        f"The share of gaps of the measured requests that are above `sla.token_ms`. {mean_step} {every_gap}",
    ),
)
