"""Mooncake's workload and its table of hit rates: printed, exact, simulated, on the conversation trace."""

from __future__ import annotations

import numpy as np

from mbexp.errors import UserError
from mbexp.validate.case import seeds
from mbexp.validate.papers.row import Effort, Row, table
from mbexp.validate.setups import Values
from mbexp.workload.hit_rates import TraceHits, trace_hits
from mbexp.workload.kinds.mooncake import BLOCK_TOKENS, DEFAULT_FILE
from mbexp.workload.published import published_by_file
from mbexp.workload.shared import shared_prefixes
from mbexp.workload.trace import Trace

REQUESTS = 12_031  # of the conversation trace
PRINTED_STATISTICS = {"requests": "12,031", "mean prompt": "12,035", "mean output": "343", "cache ratio": "40 %"}
CAPACITIES = (1_000, 10_000, 30_000, 50_000, 100_000, None)
# Table 1 of the technical report (arXiv 2407.00079), of a trace of 23,608 requests.
PRINTED_HITS = {"lru": (0.30, 0.40, 0.48, 0.50, 0.51, 0.51), "lfu": (0.30, 0.35, 0.43, 0.49, 0.51, 0.51)}
WHY = {
    "lru": "another trace is printed",
    "lfu": "another trace is printed; a run counts the uses of spans, the function those of blocks",
}
# One GPU, and gaps a thousand times as long as recorded: no two requests overlap.
ONE_BY_ONE: Values = {
    "workload": "mooncake", "workload.window.kind": "rows", "workload.spread_ties_s": 3.0,
    "workload.timestamps": "scaled", "workload.rate_scaling": 0.001,
    "execution": "continuous", "gpu": "h100_llama31_8b", "gpu.kv_capacity_tokens": 10_000_000,
    "scheduler": "static_fifo", "num_gpus": 1,
}  # fmt: skip


def sections(effort: Effort) -> list[str]:
    """Return the Markdown sections of Mooncake, or where its trace can be had."""
    from mbexp import load_trace

    try:
        trace = load_trace("mooncake", num_requests=effort.requests(REQUESTS), window={"kind": "rows"})
    except UserError:
        published = published_by_file(DEFAULT_FILE)
        assert published is not None
        return [f"The trace is not here. `python -m mbexp.download {published.name}` fetches it.\n"]
    return [statistics(trace), hit_rates(trace)]


def statistics(trace: Trace) -> str:
    """Return what the paper prints of the trace, beside the trace itself."""
    assert trace.blocks is not None
    printed = PRINTED_STATISTICS
    values = {
        "requests": f"{len(trace):,}",
        "mean prompt": f"{trace.prompt_tokens.mean():,.0f}",
        "mean output": f"{trace.output_tokens.mean():,.0f}",
    }
    rows = [
        Row(name, printed[name], value, "-", "yes" if value == printed[name] else "no", "counted in the published file")
        for name, value in values.items()
    ]
    for name, share in cache_ratios(trace).items():
        value = f"{share:.2%}".replace("%", " %")
        same = f"{share:.0%}" == printed["cache ratio"].replace(" ", "")
        rows.append(
            Row(
                f"cache ratio: {name}",
                printed["cache ratio"],
                value,
                "-",
                "yes" if same else "no",
                "a cache without end",
            )
        )
    return (
        f"### FAST '25, the conversation trace\n\n{table(rows)}\n\n"
        "The paper does not define its cache ratio. The rows show what a cache without end finds, by five "
        "definitions.\n"
    )


def cache_ratios(trace: Trace) -> dict[str, float]:
    """Return how much of prompts a cache without end has seen, by several definitions."""
    assert trace.blocks is not None
    ids, count = trace.blocks.flat()
    _, first = np.unique(ids, return_index=True)
    is_hit = np.ones(len(ids), np.bool_)
    is_hit[first] = False
    owner = np.repeat(np.arange(len(count)), count)
    place = np.arange(len(ids)) - np.repeat(np.cumsum(count) - count, count)
    tokens = np.minimum(trace.prompt_tokens[owner] - place * BLOCK_TOKENS, BLOCK_TOKENS)
    by_request = np.bincount(owner, tokens * is_hit, len(count)) / trace.prompt_tokens
    asked_again = np.isin(ids, np.flatnonzero(np.bincount(ids) > 1))
    return {
        "blocks that were there before": float(is_hit.mean()),
        "tokens that were": float((tokens * is_hit).sum() / tokens.sum()),
        "mean over requests of their share of tokens": float(by_request.mean()),
        "requests with a block that was": float((by_request > 0).mean()),
        "blocks that come up more than once": float(asked_again.mean()),
    }


def hit_rates(trace: Trace, path: str = DEFAULT_FILE) -> str:
    """Return the table of policies and sizes for a trace, which stands in the file `path`."""
    prefixes = shared_prefixes(trace)
    rows = []
    for policy, printed in PRINTED_HITS.items():
        for blocks, value in zip(CAPACITIES, printed, strict=True):
            exact = trace_hits(prefixes, blocks, policy)
            simulated = _simulated(path, policy, blocks, len(trace), exact)
            size = "no end" if blocks is None else f"{blocks:,} blocks"
            agrees = "yes" if abs(simulated - exact.hit_rate) < 5e-5 else "no"
            found = f"{value:.2f}", f"{exact.hit_rate:.4f}", f"{simulated:.4f}"
            rows.append(Row(f"{policy}, {size}", *found, agrees, WHY[policy]))
    return (
        f"### arXiv 2407.00079, Table 1: share of blocks found\n\n{table(rows)}\n\n"
        "Table 1 is of another trace, of 23,608 requests. The rows here are of the conversation trace, and the printed "
        "column is no target. *Exact* is `mbexp.workload.shared.hits_in_order`. *Simulated* is one GPU with a cache "
        "beside its memory. Its gaps between arrivals are a thousand times as long as recorded, and no two requests "
        "overlap. The report's LengthAwareCache is not a rule of mbexp.\n"
    )


def _simulated(path: str, policy: str, blocks: int | None, requests: int, exact: TraceHits) -> float:
    """Return the share of blocks that a run finds whose requests do not overlap."""
    keys = {
        "workload.path": path,
        "execution.prefix_cache": policy,
        "execution.prefix_cache_blocks": blocks or exact.distinct_blocks,
    }
    result = next(seeds({**ONE_BY_ONE, **keys}, requests, 1))
    share: float = result.summary["prefix_hit_blocks_pct"]
    return share / 100
