"""Metrics of latency."""

from __future__ import annotations

from functools import partial

from mbexp.results.catalogue.metric import Metric

row = partial(Metric, section="Latency", better="lower")
interpolated = "It is interpolated linearly between order statistics."
gap = "a gap is the time between two successive tokens of a request"
per_token = "a request's time from its first token to its completion is divided by its tokens after the first"
a_value = "a value a request"
to_end = (
    "Under `execution=run_to_completion` a request is complete when its batch is, so that a short request beside a "
    "long one counts the wait for it."
)
mean_step = "The mean step time of a batch stands for each gap in it."
every_gap = (
    "Under `execution=continuous`: every gap is taken as it was, including stalls and preemptions, and gaps count from "
    "the arrival of the first measured request on."
)

PERCENTILES = {"p50": "50th", "p90": "90th", "p95": "95th", "p99": "99th"}


def percentiles(name: str, unit: str, words: str, definition: str) -> tuple[Metric, ...]:
    """Return the rows of the percentiles of one time; `definition` holds a place for which."""
    return tuple(
        row(
            f"{name}_{key}_{unit}",
            unit,
            f"Median {words}" if key == "p50" else f"{which} percentile {words}",
            definition.format(which=which, share=key[1:]),
        )
        for key, which in PERCENTILES.items()
    )


ROWS = (
    row(
        "latency_mean_s",
        "s",
        "Mean latency",
        "The mean latency of the measured requests. Latency is the time from the arrival of a request to its "
        "completion.",
    ),
    *percentiles("latency", "s", "latency", f"The {{which}} percentile of the latencies. {interpolated}"),
    row("latency_max_s", "s", "Longest latency", "The longest latency of a measured request."),
    row(
        "queue_delay_mean_s",
        "s",
        "Mean queueing delay",
        "The mean time from the arrival of a request to the start of its batch. Under `execution=continuous`: the mean "
        "time from arrival to first admission to a GPU.",
    ),
    *percentiles(
        "queue_delay",
        "s",
        "queueing delay",
        f"The {{which}} percentile of the queueing delays. {interpolated}",
    ),
    row("queue_delay_max_s", "s", "Longest queueing delay", "The longest queueing delay of a measured request."),
    row(
        "starved_pct",
        "%",
        "Requests starved",
        "The share of the measured requests whose queueing delay is more than `sla.starvation_multiple` times the "
        "median one. It is undefined where at least half of the requests do not wait.",
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
    *percentiles(
        "ttft",
        "s",
        "time to first token",
        f"The {{which}} percentile of the time from arrival to first token. {interpolated}",
    ),
    row(
        "tpot_mean_ms",
        "ms",
        "Mean time per output token",
        f"The mean time per output token, where {per_token}. A request of one token has none and is left out. {to_end}",
    ),
    *percentiles(
        "tpot",
        "ms",
        "time per output token",
        f"The {{which}} percentile of the time per output token, {a_value}. There, {per_token}. {interpolated} "
        f"{to_end}",
    ),
    row(
        "tbt_mean_ms",
        "ms",
        "Mean time between tokens",
        f"The mean gap of the measured requests, where {gap}. Each gap counts once. {mean_step} {every_gap}",
    ),
    *percentiles(
        "tbt",
        "ms",
        "time between tokens",
        f"The smallest value that {{share}} % of the gaps of the measured requests do not exceed. {mean_step} "
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
        "The share of measured requests with a latency above `sla.request_s`; null where that is null.",
    ),
    row(
        "token_sla_violation_pct",
        "%",
        "Token-SLA violation",
        f"The share of gaps of the measured requests that are above `sla.token_ms`; null where that is null. "
        f"{mean_step} {every_gap}",
    ),
)
