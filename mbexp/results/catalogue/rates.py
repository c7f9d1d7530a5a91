"""Metrics of rates and of the load."""

from __future__ import annotations

from functools import partial

from mbexp.results.catalogue.metric import Metric

row = partial(Metric, section="Rates and load")

ROWS = (
    row(
        "makespan_s",
        "s",
        "Makespan",
        "The time from the arrival of the first measured request to the last completion of a measured request.",
        better="lower",
    ),
    row(
        "throughput_requests_per_s",
        "requests/s",
        "Throughput",
        "The number of measured requests divided by the makespan.",
        better="higher",
    ),
    row(
        "throughput_tokens_per_s",
        "tokens/s",
        "Throughput",
        "The number of output tokens of the measured requests divided by the makespan.",
        better="higher",
    ),
    row(
        "goodput_requests_per_s",
        "requests/s",
        "Goodput",
        "The number of good requests divided by the makespan. A good request is a measured request that meets every "
        "limit that is set; null sets none. Its latency is at most `sla.request_s` and its time between tokens is at "
        "most `sla.token_ms`. The time between tokens is here the mean step time of the request's batch. Under "
        "`execution=continuous`: it is the mean gap between the request's own tokens. The time to the first token is "
        "at most `sla.ttft_s`, and the time per output token at most `sla.tpot_ms`.",
        better="higher",
    ),
    row(
        "goodput_pct",
        "%",
        "Goodput",
        "The share of good requests (see `goodput_requests_per_s`) among the measured requests and those that were "
        "rejected after the warm-up. A rejected request is not good. Without any limit, all measured requests are "
        "good.",
        better="higher",
    ),
    row(
        "arrival_rate_per_s",
        "requests/s",
        "Arrival rate",
        "The number of accepted requests minus 1, divided by the time from the first arrival to the last.",
    ),
    row(
        "offered_load",
        "",
        "Offered load",
        "The GPU time that the accepted requests need if every batch leaves full, divided by the GPU time of the "
        "arrival period. The arrival period is the number of requests divided by their arrival rate. A full batch of "
        "a queue has the mean limit that was in force in that queue, unless memory holds fewer requests. Requests are "
        "grouped in order of arrival. For batches of one request, the value is lambda E[S] / c of queueing theory. "
        "Under `execution=continuous`: every GPU always runs as many requests as it may. That is the mean limit in "
        "force, or what memory holds if that is less, with each request weighted by how long it stays. Prefills are "
        "priced one at a time; chunks of prefills are priced in mixed steps that fill the token budget.",
    ),
    row(
        "overloaded",
        "",
        "Overloaded",
        "True if the queue climbs, the offered load is 1 or more, and the GPUs are busy for at least 90 % of the time "
        "in which requests arrive. Where all requests arrive at one instant: true if any of them waits. "
        "Latencies then measure the length of the run. Never true of users in a closed loop, who bring what the GPUs "
        "carry.",
    ),
    row(
        "queue_climbing",
        "",
        "Queue climbs",
        "True if the number of waiting requests, as each request finds it on arrival, climbs throughout the run. "
        "Requests that arrive at the same instant do not wait for each other. Two tests at the 0.1 % level must agree, "
        "over the means of 40 parts of the run. One is Kendall's tau between time and the means, the other Student's t "
        "of the changes from one part to the next. The t test is also made over 20 and 10 parts, and the largest "
        "counts. With fewer than 160 requests there are 20 parts, with fewer than 80 there are 10. With fewer than "
        "40 it is false.",
    ),
)
