"""Prints the tables of docs/conversations.md: `python docs/results/conversations.py [PART ...]`.

`open_and_closed`, `busiest` and `hits` run what they show, the last on the Mooncake trace. `routers` and `mooncake`
read the stored studies `prefix_routing` and `prefix_mooncake` from `outputs/`.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mbexp import Result, Trace, load_trace, simulate
from mbexp.paths import config_dir
from mbexp.results.statistics import mean_interval
from mbexp.results.stored import flat
from mbexp.workload.hit_rates import POLICIES
from mbexp.workload.shared import hits_in_order
from mbexp.workload.turns import Contents

TALKS: dict[str, Any] = {
    "workload": "sessions",
    "workload.sessions": {
        "turns": {"kind": "geometric", "mean": 8.0},
        "think": {"kind": "exponential", "mean_s": 20.0},
        "system_prompts": 16,
        "system": {"kind": "constant", "value_tokens": 2048},
    },
    "workload.arrivals.rate_per_s": 0.27,
    "workload.prompt": {"kind": "lognormal", "mean_tokens": 2000.0, "sigma": 1.0},
    "num_requests": 6000,
}
SERVERS: dict[str, Any] = {
    "execution": "vllm",
    "scheduler": "vllm",
    "gpu": "h100_llama31_8b",
    "gpu.kv_capacity_tokens": 200_000,
    "execution.prefix_cache": "lru",
    "execution.assignment": "join_shortest",
    "output.batches": False,
}
SIZES = (1_000, 10_000, 30_000, 50_000, 100_000, None)


def open_and_closed() -> str:
    """Return the same turns as they wait for answers, and as they come at the times of the run on four GPUs."""
    recorded = None
    lines = [
        "| GPUs | turns | latency mean | TTFT p95 | requests/s | waiting at most | tokens found cached |",
        "|---|---|---|---|---|---|---|",
    ]
    for gpus in (4, 3, 2):
        closed = simulate(**TALKS, **SERVERS, num_gpus=gpus)
        recorded = recorded or as_it_came(closed)
        replayed = simulate(recorded, **SERVERS, num_gpus=gpus)
        for name, result in (("wait for answers", closed), ("come as recorded on 4", replayed)):
            found = result.summary
            lines.append(
                f"| {gpus} | {name} | {found['latency_mean_s']:.2f} s | {found['ttft_p95_s']:.2f} s | "
                f"{found['throughput_requests_per_s']:.2f} | {found['requests_waiting_max']:,} | "
                f"{found['prefix_hit_tokens_pct']:.1f} % |"
            )
    return "\n".join(lines)


def as_it_came(result: Result) -> Trace:
    """Return the requests of a run at the times at which they came, with what their prompts share."""
    trace, records = result.trace, result.outcome
    assert trace.contents is not None
    place = records.accepted if records.accepted is not None else np.arange(len(trace))
    number = np.full(len(trace), -1, np.int32)  # rejected ones have none
    number[place] = np.arange(len(place), dtype=np.int32)
    origin = trace.contents.origin[place]
    contents = Contents(
        np.where(origin >= 0, number[origin], -1).astype(np.int32),
        trace.contents.system[place],
        trace.contents.system_tokens[place],
    )
    came = Trace(records.arrival_s, records.prompt_tokens, records.output_tokens)
    return dataclasses.replace(came, contents=contents)


def hits() -> str:
    """Return what caches find on the Mooncake trace, request by request."""
    trace = load_trace("mooncake", num_requests=None, window={"kind": "rows"})
    head = ["no end" if size is None else f"{size:,}" for size in SIZES]
    lines = [f"| blocks | {' | '.join(head)} |", "|---" * (len(SIZES) + 1) + "|"]
    for policy in POLICIES:
        shares = [f"{hits_in_order(trace, size, policy).hit_rate:.4f}" for size in SIZES]
        lines.append(f"| `{policy}` | {' | '.join(shares)} |")
    return "\n".join(lines)


def routers() -> str:
    """Return the tables of the study `prefix_routing`."""
    return _of_study("prefix_routing", "workload.arrivals.users", (50, 200))


def busiest() -> str:
    """Return what the routers of the study `prefix_routing` do to the GPU that gets most: its share and its wait."""
    study = yaml.safe_load((config_dir() / "prefix_routing.yaml").read_text())
    keys = {name: study[name] for name in ("num_gpus", "num_requests", "sla", "scheduler", "execution", "warm_up")}
    lines = [
        "| | 200 users: requests of the busiest GPU, % | its TTFT p95, s | all, s | 400 users: requests, % "
        "| its TTFT p95, s | all, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for router in ("join_shortest", "session_affinity", "prefix_dynamo", "prefix_sglang", "prefix_llm_d"):
        cells = [router]
        for users in (200, 400):
            found = []
            for seed in range(5):
                chosen = {"execution": "vllm", "scheduler": "vllm", "gpu": "h100_llama31_8b", "workload": "sessions"}
                given = flat({**keys, "workload": study["workload"]})
                more = {"workload.arrivals.users": users, "execution.assignment": router, "seed": seed}
                outcome = simulate(**{**chosen, **given, **more, "gpu.kv_capacity_tokens": 100_000}).outcome
                first = outcome.measured(int(0.2 * len(outcome.arrival_s))).first
                gpu, ttft_s = outcome.gpu[first:], (outcome.first_token_s - outcome.arrival_s)[first:]
                most = int(np.argmax(np.bincount(gpu)))
                found.append(
                    (100 * np.mean(gpu == most), np.quantile(ttft_s[gpu == most], 0.95), np.quantile(ttft_s, 0.95))
                )
            for values, digits in zip(np.transpose(found), (0, 2, 2), strict=True):
                interval = mean_interval(values)
                cells.append(f"{interval.mean:.{digits}f} ± {interval.half_width:.{digits}f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def mooncake() -> str:
    """Return the tables of the study `prefix_mooncake`."""
    return _of_study("prefix_mooncake", "workload.rate_scaling", (0.5, 1))


def _of_study(study: str, across: str, values: tuple[float, ...]) -> str:
    """Return a table for each memory of a study: TTFT, hits and prefill time at some values of a key."""
    from mbexp.sweep.table import read_results

    table, parts = read_results(Path("outputs") / study), []
    for tokens in sorted(table["gpu.kv_capacity_tokens"].unique()):
        columns = [f"{value:g}: TTFT p95, s | hits, % | prefill time, %" for value in values]
        lines = [f"| | {' | '.join(columns)} |", "|---" * (3 * len(values) + 1) + "|"]
        for label in dict.fromkeys(table["study.label"]):
            cells = [label]
            for value in values:
                here = (table["study.label"] == label) & (table[across] == value)
                (row,) = table[here & (table["gpu.kv_capacity_tokens"] == tokens)].to_dict("records")
                cells += [_shown(row, "ttft_p95_s", 2), _shown(row, "prefix_hit_tokens_pct", 0)]
                cells.append(f"{row['prefill_time_pct']:.1f}")
            lines.append(f"| {' | '.join(cells)} |")
        parts.append(f"{tokens:,.0f} tokens of KV cache a GPU:\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _shown(row: dict[str, Any], name: str, digits: int) -> str:
    """Return a mean with its half width; a dash where there is none."""
    value = row.get(name)
    if value is None or np.isnan(value):
        return "-"
    return f"{value:.{digits}f} ± {row[f'{name}_half_width']:.{digits}f}"


PARTS = {each.__name__: each for each in (open_and_closed, routers, busiest, mooncake, hits)}

if __name__ == "__main__":
    for name in sys.argv[1:] or PARTS:
        print(f"{name}:\n\n{PARTS[name]()}\n")
