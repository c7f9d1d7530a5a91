"""Metrics of memory and of preemption."""

from __future__ import annotations

from functools import partial

from mbexp.results.catalogue.metric import Metric

row = partial(Metric, section="Memory and preemption")
continuous = ("continuous",)

ROWS = (
    row(
        "kv_capacity_tokens", "tokens", "KV cache of a GPU", "The number of tokens that the KV cache of one GPU holds."
    ),
    row(
        "kv_overflow_pct",
        "%",
        "Batches above memory",
        "The share of batches whose true lengths exceed the KV memory, because the lengths were underpredicted. They "
        "run all the same. Under `execution=continuous`: 0, since memory is never exceeded.",
        better="lower",
    ),
    row(
        "kv_use_mean_pct",
        "%",
        "KV cache in use, mean",
        "The mean number of context tokens in the KV cache, as a share of the capacity. The mean is over all GPUs, "
        "from the first arrival to the last completion.",
        modes=continuous,
    ),
    row(
        "kv_held_max_pct",
        "%",
        "KV cache held, most",
        "The most that requests ever held on one GPU, as a share of the capacity. What is reserved or allocated in "
        "blocks counts as held.",
        modes=continuous,
    ),
    row(
        "preemptions",
        "",
        "Preemptions",
        "The number of times that a request lost its place on a GPU. That happens when memory runs short, when the "
        "output outgrows its prediction and `execution.underprediction` puts the request back into the queue, or when "
        "`scheduler.preempt` lets another take its place.",
        better="lower",
        modes=continuous,
    ),
    row(
        "preempted_requests_pct",
        "%",
        "Requests ever preempted",
        "The share of accepted requests that lost their place on a GPU at least once.",
        better="lower",
        modes=continuous,
    ),
    row(
        "outgrown_predictions",
        "",
        "Predictions outgrown",
        "The number of times that an output reached its prediction and went on. It is 0 with `execution.kv=paged`.",
        better="lower",
        modes=continuous,
    ),
    row(
        "recomputed_tokens",
        "tokens",
        "Tokens recomputed",
        "The number of tokens that prefills computed beyond every prompt once. Those that a prefix cache had kept of a "
        "preempted request count too.",
        better="lower",
        modes=continuous,
    ),
    row(
        "copied_tokens",
        "tokens",
        "Tokens copied",
        "The number of tokens whose KV cache was copied between a GPU and its host. Each direction counts.",
        better="lower",
        modes=continuous,
    ),
    row(
        "copy_time_pct",
        "%",
        "Busy time in copies",
        "The share of the busy time that GPUs spend copying KV cache to and from their hosts.",
        better="lower",
        modes=continuous,
    ),
)
