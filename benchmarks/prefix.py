"""Prefix caching and routers that know the caches: requests per second by cache, size of blocks, router and GPUs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.continuous import Run
from benchmarks.report import Table
from benchmarks.timing import in_turn
from mbexp import configure, load_trace
from mbexp.config.execution_keys import ROUTERS
from mbexp.hardware import build_law, kv_capacity_tokens
from mbexp.modes.continuous import STAND_IN, execution_rules
from mbexp.policy.build import build_policy
from mbexp.simulator.continuous.serve import continuous
from mbexp.workload.shared import shared_prefixes
from mbexp.workload.trace import Trace

RATE_PER_S = 25.0  # of one GPU
GPUS = (16, 1000, 10_000)
LEAST_REQUESTS = 100_000
KV_TOKENS = 100_000  # of a GPU where there are many: caches of all must fit the machine
SETTINGS = {
    "gpu": "roofline_h100",
    "execution": "continuous",
    "scheduler": "static_fifo",
    "scheduler.fixed_batch_size": 128,
    "execution.kv": "paged",
    "execution.block_tokens": 16,
    "execution.assignment": "join_shortest",
}
LRU = {"execution.prefix_cache": "lru"}
BESIDE = {**LRU, "execution.prefix_cache_blocks": 30_000}
CASES: Sequence[tuple[str, dict[str, Any]]] = (
    ("no cache, `join_shortest`", {}),
    ("no cache, `session_affinity`", {"execution.assignment": "session_affinity"}),
    ("in memory, `join_shortest`", LRU),
    ("in memory, blocks of 512", {**LRU, "execution.block_tokens": 512}),
    ("in memory, 100,000 tokens", {**LRU, "gpu.kv_capacity_tokens": KV_TOKENS}),
    ("beside the memory", BESIDE),
    *((f"in memory, `{rule}`", {**LRU, "execution.assignment": rule}) for rule in ROUTERS),
)


def table(requests: int, rounds: int) -> Table:
    """Return requests per second of caches and routers on 16 GPUs."""
    found = Table(
        "Prefix caching",
        ["16 GPUs, blocks of 16 tokens", "M requests/s", "microseconds a request", "tokens found, %", "instants"],
    )
    runs = {name: form(requests, 16, keys) for name, keys in CASES}
    times = in_turn(runs, dict.fromkeys(runs, max(rounds, 1)))
    for name, run in runs.items():
        seconds, outcome = float(np.min(times[name])), run()
        speed = requests / seconds / 1e6
        share = "-"
        if outcome.prefix is not None:
            share = f"{100 * outcome.prefix.skipped_at_first.sum() / outcome.prompt_tokens.sum(dtype=np.int64):.0f}"
        instants = f"{outcome.instants / requests:.1f}"
        found.rows.append([name, f"{speed:.2f}", f"{1 / speed:.2f}", share, instants])
        found.numbers[name] = speed
    prompt = conversations(requests, 16).prompt_tokens.mean()
    found.remarks.append(
        f"The runs have {requests:,} turns of conversations that come as recorded, with prompts of {prompt:.0f} tokens "
        f"and answers of 100. Each GPU, an H100 by the roofline, gets {RATE_PER_S:.0f} a second. Times are the best of "
        f"{max(rounds, 1)} rounds, taken in turn, of the event loop and its set-up. A GPU has a paged memory of "
        "589,066 tokens where nothing else is said."
    )
    return found


def growth(each_gpu: int, rounds: int, gpus: Sequence[int] = GPUS) -> Table:
    """Return requests per second of routers, with `each_gpu` requests for each GPU, at each number of GPUs."""
    found = Table(
        "Routers that know caches",
        ["rule", *(f"{count:,} GPUs, M requests/s" for count in gpus), *(f"{n:,} / {gpus[0]}" for n in gpus[1:])],
    )
    for rule in ("join_shortest", *ROUTERS):
        keys = {**LRU, "gpu.kv_capacity_tokens": KV_TOKENS, "execution.assignment": rule}
        requests = {count: max(each_gpu * count, LEAST_REQUESTS) for count in gpus}
        runs = {str(count): form(requests[count], count, keys) for count in gpus}
        times = in_turn(runs, dict.fromkeys(runs, max(rounds, 1)), warm=rounds < 2)
        speed = {count: requests[count] / float(np.min(times[str(count)])) / 1e6 for count in gpus}
        ratios = {count: speed[count] / speed[gpus[0]] for count in gpus[1:]}
        found.rows.append(
            [rule, *(f"{speed[count]:.3g}" for count in gpus), *(f"{ratio:.2f}" for ratio in ratios.values())]
        )
        found.numbers[rule] = {"million_requests_per_s": speed, "of_the_first": ratios}
    found.remarks.append(
        f"As above, with {KV_TOKENS:,} tokens of memory a GPU and {each_gpu} requests for each, at least "
        f"{LEAST_REQUESTS:,}."
    )
    return found


@functools.lru_cache(maxsize=3)
def conversations(requests: int, gpus: int) -> Trace:
    """Return turns of conversations whose prompts have 600 tokens on average, and come as recorded."""
    return load_trace(
        "sessions",
        num_requests=requests,
        sessions={
            "arrivals": "recorded",
            "turns": {"kind": "geometric", "mean": 3.0},
            "think": {"kind": "exponential", "mean_s": 5.0},
            "system_prompts": 4,
            "system": {"kind": "constant", "value_tokens": 128},
        },
        arrivals={"kind": "poisson", "rate_per_s": RATE_PER_S * gpus / 3.0},
        prompt={"kind": "lognormal", "mean_tokens": 100.0, "sigma": 1.0},
        output={"kind": "exponential", "mean_tokens": 100.0},
    )


def form(requests: int, gpus: int, keys: dict[str, Any]) -> Run:
    """Return a function that simulates a case once."""
    from mbexp.prediction import predict

    config = configure(**{**SETTINGS, **keys, "num_gpus": gpus})
    trace = conversations(requests, gpus)
    execution, capacity = config.execution, kv_capacity_tokens(config.gpu)
    assignment = STAND_IN if execution.assignment in ROUTERS else execution.assignment
    policy = build_policy(config.scheduler, config.sla, capacity, in_batches=False, assignment=assignment)
    prediction = predict(config.predictor, config.bins, trace.prompt_tokens, trace.output_tokens, config.seed)
    homes = np.random.default_rng(0).random(len(trace))
    assert trace.contents is not None
    for place, origin in enumerate(trace.contents.origin.tolist()):
        if origin >= 0:
            homes[place] = homes[origin]
    return functools.partial(
        continuous, trace.arrival_s, trace.prompt_tokens, trace.output_tokens, prediction.tokens,
        np.zeros(len(trace), np.uint16), 1, gpus, capacity, build_law(config.gpu), policy,
        execution_rules(execution, config.gpu), config.sla.token_ms / 1000,
        prefixes=None if execution.prefix_cache == "none" else shared_prefixes(trace, execution.block_tokens),
        homes=homes if execution.assignment == "session_affinity" else None,
    )  # fmt: skip
