"""Metrics that count requests."""

from __future__ import annotations

from functools import partial

from mbexp.results.catalogue.metric import Metric

row = partial(Metric, section="Requests")

ROWS = (
    row("arrived_requests", "requests", "Requests arrived", "The number of requests in the trace that was simulated."),
    row(
        "completed_requests",
        "requests",
        "Requests completed",
        "The number of requests that were served. Every request that arrived was either completed or rejected.",
        better="higher",
    ),
    row(
        "rejected_requests",
        "requests",
        "Requests rejected",
        "The number of requests that can never be served: they do not fit into the KV memory of a GPU, or are longer "
        "than the model may take. They are rejected on arrival, for one of the reasons below.",
        better="lower",
    ),
    row(
        "rejected_predicted_need_exceeds_memory",
        "requests",
        "Requests rejected for predicted length",
        "The number of requests whose prompt and predicted output together exceed the KV memory of a GPU. Under "
        "`execution=continuous`: only with `execution.kv=reserve`; with `execution.reserve_for=longest_of_bin`, the "
        "longest prediction of the request's queue counts.",
        better="lower",
    ),
    row(
        "rejected_true_need_exceeds_memory",
        "requests",
        "Requests rejected for true length",
        "The number of other requests whose prompt and true output together exceed the KV memory of a GPU. Under "
        "`execution=continuous`: with `execution.kv=paged`, the memory is counted in whole blocks.",
        better="lower",
    ),
    row(
        "rejected_exceeds_max_model_len",
        "requests",
        "Requests rejected for the longest context",
        "The number of requests whose prompt and true output together exceed `execution.max_model_len_tokens`. Such a "
        "request counts under this reason alone.",
        better="lower",
        modes=("continuous",),
    ),
    row(
        "dropped_rows",
        "rows",
        "Rows dropped",
        "The number of rows of the trace that were left out before the run, such as failed requests and requests of "
        "zero tokens. `provenance.json` counts them by reason.",
    ),
    row(
        "changed_rows",
        "rows",
        "Rows changed",
        "The number of rows of the trace whose values were altered when they were read. For example, equal arrival "
        "times are spread inside the resolution of the trace's clock. `provenance.json` counts them by reason.",
    ),
    row(
        "measured_requests",
        "requests",
        "Requests measured",
        "The number of accepted requests without those of the warm-up. Makespan, throughput, goodput and all metrics "
        "of latency are over these requests.",
    ),
)
