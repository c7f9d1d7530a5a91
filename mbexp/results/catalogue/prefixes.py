"""Metrics of the prefix cache."""

from __future__ import annotations

from functools import partial

from mbexp.results.catalogue.metric import Metric

row = partial(Metric, section="Prefix cache", modes=("continuous",))

ROWS = (
    row(
        "prefix_hit_blocks_pct",
        "%",
        "Blocks found cached",
        "The share of the blocks of prompts that first admissions found in the prefix cache. A run "
        "without a cache has no row of this section.",
        better="higher",
    ),
    row(
        "prefix_hit_tokens_pct",
        "%",
        "Prompt tokens found cached",
        "The share of prompt tokens that first admissions skipped, since their cache was there. The last block of a "
        "prompt that is found to its end is computed again, and does not count.",
        better="higher",
    ),
    row(
        "prefix_hit_requests_pct",
        "%",
        "Requests with cached blocks",
        "The share of accepted requests of whose prompt the first admission found at least one block.",
        better="higher",
    ),
    row(
        "prefix_saved_tokens",
        "tokens",
        "Prefill tokens saved",
        "The number of tokens that admissions skipped, those after a preemption included.",
        better="higher",
    ),
    row(
        "prefix_evicted_blocks",
        "",
        "Blocks evicted",
        "The number of blocks that prefix caches gave up.",
        better="lower",
    ),
)
