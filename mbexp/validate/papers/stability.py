"""Which loads are stable: the boundary of Li, Dai and Peng, and the case that lies on it, simulated from both sides."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from mbexp.hardware.law import iteration_price
from mbexp.results.result import Result
from mbexp.validate.case import seeds
from mbexp.validate.papers.row import Effort, Row, table
from mbexp.validate.setups import MEMORY_TOKENS, Values

# The law of the paper: a round of b tokens takes FIXED_MS + BLOCK_MS ceil(b / BLOCK_TOKENS).
FIXED_MS, BLOCK_MS, BLOCK_TOKENS = 11.28, 35.47, 128
BUDGET, PROMPT, DECODED = 512, 100, 100
# The case on the boundary: rounds of one block, one request every ten of them.
EDGE_PROMPT, EDGE_DECODED, EDGE_GAP_MS, EDGE_CAP = 290, 990, 467.5, 100


@iteration_price
def rounds(parameters, decodes, context_tokens, prompt_tokens, prompt_squares, square_growth, prompts_ended):  # type: ignore[no-untyped-def]
    """Price an iteration by its tokens alone: `parameters` are the fixed time, that of a block, and its tokens."""
    blocks = math.ceil((decodes + prompt_tokens) / parameters[2])
    return parameters[0] + parameters[1] * blocks, 0.0, math.inf


def sections(effort: Effort) -> list[str]:
    """Return the Markdown sections of the paper."""
    return [both_sides(effort), on_the_edge(effort)]


def boundary_per_s() -> float:
    """Return the rate below which rounds that are always filled up to the budget carry every load."""
    round_s = (FIXED_MS + BLOCK_MS * math.ceil(BUDGET / BLOCK_TOKENS)) / 1000
    return BUDGET / round_s / (PROMPT + DECODED)


def load(share: float) -> Values:
    """Return Poisson arrivals at a share of the boundary, decodes first, then pieces of prompts."""
    arrivals: Values = {"kind": "poisson", "rate_per_s": share * boundary_per_s()}
    return _served(arrivals, PROMPT, DECODED, BUDGET, "chunked", BUDGET)


def edge(budget: int, prefill: str) -> Values:
    """Return the case on the boundary under a budget of tokens, with decodes first (`chunked`) or prompts (`alone`)."""
    arrivals: Values = {"kind": "constant", "rate_per_s": 1000 / EDGE_GAP_MS}
    return {
        **_served(arrivals, EDGE_PROMPT, EDGE_DECODED, budget, prefill, EDGE_CAP),
        "output.batches": True,
    }


def _served(arrivals: Values, prompt: int, decoded: int, budget: int, prefill: str, cap: int) -> Values:
    return {
        "workload": "synthetic",
        "workload.timestamps": "real",
        "workload.arrivals": arrivals,
        "workload.prompt": {"kind": "constant", "value_tokens": prompt},
        # The first token comes with the prefill: an output of n tokens is decoded in n - 1 rounds.
        "workload.output": {"kind": "constant", "value_tokens": decoded + 1},
        "gpu": "own",
        "gpu.law.kind": f"{__name__}.rounds",
        "gpu.law.parameters": [FIXED_MS / 1000, BLOCK_MS / 1000, BLOCK_TOKENS],
        "gpu.kv_capacity_tokens": MEMORY_TOKENS,
        "execution": "continuous",
        "execution.prefill": prefill,
        "execution.token_budget": budget,
        "scheduler": "static_fifo",
        "scheduler.fixed_batch_size": cap,
        "num_gpus": 1,
    }


def both_sides(effort: Effort) -> str:
    """Return the rows below and above the boundary."""
    exact = boundary_per_s()
    rows = []
    for share, climbs in ((0.9, False), (1.1, True)):
        runs = list(seeds(load(share), effort.requests(20_000), effort.replications))
        climbing = sum(bool(run.summary["queue_climbing"]) for run in runs)
        expected = len(runs) if climbs else 0
        rows.append(
            Row(
                f"{share:g} of the boundary, {share * exact:.2f} requests/s",
                "unstable" if climbs else "stable",
                f"boundary {exact:.2f}",
                f"queue climbs in {climbing} of {len(runs)} runs",
                "yes" if climbing == expected else "no",
                f"{_range(run.summary['requests_waiting_max'] for run in runs)} wait at most, by seed",
            )
        )
    return (
        f"### The boundary: budget {BUDGET}, prompts {PROMPT}, {DECODED} decoded\n\n{table(rows)}\n\n"
        f"A round of b tokens takes {FIXED_MS} + {BLOCK_MS} ceil(b / {BLOCK_TOKENS}) ms. Rules that fill every round "
        "up to the budget carry every rate below budget / t(budget) / (prompt + decoded). Beyond it no rule does. "
        "The simulation decodes first and fills the round with pieces of prompts (`execution.prefill=chunked`, as in "
        "Sarathi-Serve).\n"
    )


def on_the_edge(effort: Effort) -> str:
    """Return the rows of the case in which a budget above one block, or prompts first, is too slow."""
    requests = effort.requests(3000)
    rows = []
    for budget, prefill, climbs in ((128, "chunked", False), (1024, "chunked", True), (128, "alone", True)):
        run = next(seeds(edge(budget, prefill), requests, 1))
        climbing = bool(run.summary["queue_climbing"])
        last = f"{requests:,} requests: {run.summary['requests_waiting_max']} wait at most"
        if not climbs:
            decoding, prompt_tokens = settled(run)
            last = f"settles at {prompt_tokens} + {decoding} tokens a round, {EDGE_PROMPT // 10} + 99 as computed"
        rows.append(
            Row(
                f"budget {budget}, {'decodes first' if prefill == 'chunked' else 'prompts first, alone'}",
                "unstable" if climbs else "stable",
                "-",
                "queue climbs" if climbing else "queue does not climb",
                "yes" if climbing == climbs else "no",
                last,
            )
        )
    return (
        f"### On the edge: ({EDGE_PROMPT}, {EDGE_DECODED}) every {EDGE_GAP_MS} ms, at most {EDGE_CAP} requests\n\n"
        f"{table(rows)}\n\n"
        "Ten rounds of one block take as long as the gap between two requests, and hold exactly their tokens. A larger "
        "budget computes a prompt in one long round, and decodes the others less often. Then more requests are under "
        "way than the cap allows. The same holds where prompts go first. The paper's Orca computes prompts first and "
        "decodes in what is left of the round. mbexp has no such rule: `execution.prefill=alone` decodes nobody "
        "meanwhile.\n"
    )


def settled(run: Result) -> tuple[int, int]:
    """Return the tokens decoded and computed of prompts in the most common kind of round of the last third of a run."""
    segments = run.outcome.segments
    segments = segments[2 * len(segments) // 3 : -len(segments) // 10]
    kinds = np.stack([segments["decoding"], segments["prompt_tokens"]], axis=1).astype(np.int64)
    found, place = np.unique(kinds, axis=0, return_inverse=True)
    most = found[np.bincount(place.ravel(), segments["iterations"]).argmax()]
    return int(most[0]), int(most[1])


def _range(values: Iterable[int]) -> str:
    """Return the least and the largest of some counts."""
    numbers = sorted(values)
    return f"{numbers[0]:,} to {numbers[-1]:,}"
