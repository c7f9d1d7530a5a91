"""Corners of docs/semantics, each as one small simulation whose outcome is worked out by hand."""

from __future__ import annotations

from typing import Any

from tests.simulator.batches.agreement import Case

Expected = dict[int, dict[str, Any]]  # batch -> some of its columns


def law(service: str = "constant") -> tuple[float, ...]:
    """Service of 1 s, of the longest output or of the longest sum in seconds; a step of 1/8 s per token of that sum."""
    weights = [0.0] * 14
    weights[{"constant": 0, "output": 3, "total": 4}[service]] = 1.0
    weights[7] = 0.5
    weights[12] = 0.125
    return tuple(weights)


def at(*rows: tuple[float, int], queue: int = 0) -> list[tuple[float, int, int, int, int]]:
    """Requests of one queue from (arrival, sum of prompt and output), prompts of one token, exactly predicted."""
    return in_queues(*((arrival, total, queue) for arrival, total in rows))


def in_queues(*rows: tuple[float, int, int]) -> list[tuple[float, int, int, int, int]]:
    """Requests from (arrival, sum of prompt and output, queue), prompts of one token, exactly predicted."""
    gaps = [arrival - before for (arrival, *_), (before, *_) in zip(rows, ((0.0, 0, 0), *rows), strict=False)]
    return [(gap, 1, total - 1, total - 1, queue) for gap, (_, total, queue) in zip(gaps, rows, strict=True)]


def fixed(size: int, fill: str = "greedy", selection: str = "round_robin", **keys: Any) -> dict[str, Any]:
    return {"batch_size": "fixed", "fixed_batch_size": size, "fill": fill, "selection": selection, **keys}


def dynamic(**keys: Any) -> dict[str, Any]:
    return {"batch_size": "dynamic", "batch_size_min": 1, "batch_size_max": 10, "fill": "greedy", **keys}


def controller(**keys: Any) -> dict[str, Any]:
    values = {"alpha_requests": 2.0, "delta_requests": 1.0, "tolerance_ms": 0.0, "window_batches": 1}
    return values | keys


def bounds(low: float, high: float) -> dict[str, float]:
    return {"controller_low": low, "controller_high": high}


def served(*batches: tuple[float, list[int]]) -> Expected:
    """Starts and members of all batches."""
    return {number: {"start_s": start, "members": members} for number, (start, members) in enumerate(batches)}


ONE_AT_A_TIME = at((0.0, 16), (10.0, 10), (20.0, 4), (30.0, 4))  # steps of 2, 1.25, 0.5 and 0.5 s

CORNERS: dict[str, tuple[Case, Expected]] = {
    "the window holds the last two batches": (
        Case(ONE_AT_A_TIME, scheduler=dynamic(), controller=controller(window_batches=2), token_ms=1000.0, law=law()),
        # tau = 2, then 1.625: too slow. Then (1.25 + 0.5)/2: fast enough.
        {0: bounds(1, 10), 1: bounds(1, 3), 2: bounds(1, 3), 3: bounds(1, 4)},
    ),
    "the controller moves at every second completion": (
        Case(
            ONE_AT_A_TIME,
            scheduler=dynamic(),
            controller=controller(window_batches=2, interval_batches=2),
            token_ms=1000.0,
            law=law(),
        ),
        {0: bounds(1, 10), 1: bounds(1, 10), 2: bounds(1, 3), 3: bounds(1, 3)},
    ),
    "both bounds move from the values before": (
        Case(
            at(*[(0.0, 4)] * 5, (10.0, 16), (20.0, 4)),
            scheduler=dynamic(),
            controller=controller(),
            token_ms=1000.0,
            law=law(),
        ),
        # Fast: low = min(5, 10 - 2). Slow: high = max(1, 5 + 2), low = 5 - 1.
        {0: {"limit": 5, "size": 5}, 1: bounds(5, 10) | {"limit": 7}, 2: bounds(4, 7)},
    ),
    "a mean on the edge of the band is inside": (
        Case(
            at((0.0, 8), (10.0, 8)),
            scheduler=dynamic(),
            controller=controller(alpha_requests=4.0),
            token_ms=1000.0,
            law=law(),
        ),
        {1: bounds(1, 3)},
    ),
    "b_mem is cut, and its variance is that of the members": (
        Case(at((0.0, 4), (0.0, 8), (10.0, 4)), memory=30, scheduler=dynamic(), controller=controller(), law=law()),
        {0: {"b_mem": 10, "b_sla": 5, "size": 2}, 1: {"b_mem": 3}},  # mu 6, sigma 2: 3.914
    ),
    "each queue learns from its own batches": (
        Case(
            in_queues((0.0, 4, 0), (0.0, 20, 1), (10.0, 4, 0), (10.0, 20, 1)),
            queues=2,
            gpus=2,
            memory=42,
            scheduler=dynamic(batch_size_max=20),
            controller=controller(),
            law=law(),
        ),
        {0: {"b_mem": 20}, 1: {"b_mem": 20}, 2: {"b_mem": 10, "queue": 0}, 3: {"b_mem": 2, "queue": 1}},
    ),
    "a limit that shrinks makes a queue ready": (
        Case(
            at(*[(0.0, 16)] * 5, *[(0.5, 16)] * 3, (30.0, 16)),
            scheduler=dynamic(fill="full"),
            controller=controller(),
            token_ms=1000.0,
            law=law(),
        ),
        served((0.0, [0, 1, 2, 3, 4]), (1.0, [5, 6, 7]), (30.0, [8])),
    ),
    "completions of one instant teach in the order of the GPUs": (
        Case(
            at((0.0, 2), (0.5, 4), (1.5, 3), (5.0, 2)),
            gpus=2,
            scheduler=dynamic(),
            controller=controller(),
            token_ms=437.5,
            law=law("output"),
        ),
        # GPU 1 started first, but at 3.5 s GPU 0 teaches first: fast, then slow.
        {1: {"gpu": 1, "finish_s": 3.5}, 2: {"gpu": 0, "finish_s": 3.5}, 3: bounds(1, 3)},
    ),
    "the idle GPU of lowest index comes first": (
        Case(at((0.0, 4), (0.5, 2), (5.0, 2)), gpus=2, scheduler=fixed(1), law=law("output")),
        {0: {"gpu": 0, "finish_s": 3.0}, 1: {"gpu": 1, "finish_s": 1.5}, 2: {"gpu": 0}},
    ),
    "a batch may fill the memory to the last token": (
        Case(at(*[(0.0, 4)] * 4), memory=12, scheduler=fixed(4), law=law()),
        served((0.0, [0, 1, 2]), (1.0, [3])),
    ),
    "a request may fill the memory alone": (
        Case(at((0.0, 12), (0.0, 13)), memory=12, scheduler=fixed(4), law=law()),
        served((0.0, [0])),
    ),
    "batches are packed by predictions": (
        Case([(0.0, 1, 7, 1, 0)] * 3, memory=12, scheduler=fixed(4), law=law()),
        served((0.0, [0, 1, 2])),
    ),
    "the longest sum is that of one member": (
        Case([(0.0, 1, 8, 8, 0), (0.0, 8, 1, 1, 0)], scheduler=fixed(2), law=law("total")),
        {0: {"finish_s": 9.0, "step_s": 9 / 8}},
    ),
    "noise multiplies all three times": (
        Case(at((0.0, 8), (10.0, 8)), scheduler=fixed(1), law=law(), noise=[2.0, 0.5]),
        {
            0: {"finish_s": 2.0, "first_token_s": 1.0, "step_s": 2.0},
            1: {"finish_s": 10.5, "first_token_s": 0.25, "step_s": 0.5},
        },
    ),
    "a timeout lets a partial batch leave": (
        Case(at((0.0, 2), (0.5, 2), (30.0, 2)), scheduler=fixed(4, "timeout", timeout_s=1.0), law=law()),
        served((1.0, [0, 1]), (30.0, [2])),
    ),
    "a full batch does not wait for its timeout": (
        Case(at((0.0, 2), (0.5, 2), (30.0, 2)), scheduler=fixed(2, "timeout", timeout_s=1.0), law=law()),
        served((0.5, [0, 1]), (30.0, [2])),
    ),
    "a batch is formed when the request arrives that fills it": (
        Case(
            in_queues(
                *((0.0, 11, 1), (0.0, 11, 1)),
                *((1.0, 2, 0), (1.5, 2, 0), (2.0, 2, 0), (3.0, 2, 0)),
                *((4.0, 2, 1), (5.0, 2, 1)),
                *((6.0, 2, 0), (60.0, 2, 0)),
            ),
            queues=2,
            scheduler=fixed(2, "full", "first_formed"),
            law=law("output"),
        ),
        # At 11 s queue 0 is formed at 3 s, though its newest request came at 6 s, and queue 1 at 5 s.
        served((0.0, [0, 1]), (10.0, [2, 3]), (11.0, [4, 5]), (12.0, [6, 7]), (60.0, [8, 9])),
    ),
    "the last arrival flushes partial batches at once": (
        Case(at((0.0, 2), (3.0, 2)), scheduler=fixed(4, "full"), law=law()),
        served((3.0, [0, 1])),
    ),
    "the flush also reaches a queue that a new limit makes ready": (
        Case(
            in_queues(*[(0.0, 11, 0)] * 5, (0.5, 2, 0), (1.0, 2, 1), (2.0, 2, 0)),
            queues=2,
            scheduler=dynamic(fill="timeout", timeout_s=2.5, selection="first_formed"),
            controller=controller(),
            token_ms=1000.0,
            law=law("output"),
        ),
        # At 10 s queue 0 learns a limit of 3. Both are formed at 2 s, not at 3 and 3.5 s, so the older head goes.
        served((0.0, [0, 1, 2, 3, 4]), (10.0, [5, 7]), (11.0, [6])),
    ),
    "a rejected request does not hold the flush up": (
        Case(at((0.0, 2), (3.0, 2), (9.0, 99)), memory=50, scheduler=fixed(4, "full"), law=law()),
        served((3.0, [0, 1])),
    ),
    "round robin takes turns": (
        Case(in_queues((0.0, 2, 1), (0.0, 2, 1), (0.0, 2, 0), (0.0, 2, 0)), queues=2, scheduler=fixed(1), law=law()),
        served((0.0, [2]), (1.0, [0]), (2.0, [3]), (3.0, [1])),
    ),
    "equally long queues: the shorter lengths first": (
        Case(
            in_queues((0.0, 2, 1), (0.0, 2, 0)),
            queues=2,
            scheduler=fixed(1, selection="longest_queue"),
            law=law(),
        ),
        served((0.0, [1]), (1.0, [0])),
    ),
    "batches formed at once: the older head first": (
        Case(in_queues((0.0, 2, 1), (0.0, 2, 0)), queues=2, scheduler=fixed(1, selection="first_formed"), law=law()),
        served((0.0, [0]), (1.0, [1])),
    ),
    "heads that arrive at once: the order of the trace": (
        Case(in_queues((0.0, 2, 1), (0.0, 2, 0)), queues=2, scheduler=fixed(1, selection="oldest_head"), law=law()),
        served((0.0, [0]), (1.0, [1])),
    ),
    "the shortest bin first, whoever waits": (
        Case(
            in_queues((0.0, 2, 1), (0.0, 2, 1), (0.5, 2, 0)),
            queues=2,
            scheduler=fixed(1, selection="shortest_bin"),
            law=law(),
        ),
        served((0.0, [0]), (1.0, [2]), (2.0, [1])),
    ),
    "a service of no time completes in the same instant": (
        Case(at((0.0, 2), (0.0, 2)), scheduler=fixed(1), law=(0.0,) * 14),
        {0: {"start_s": 0.0, "finish_s": 0.0, "gpu": 0}, 1: {"start_s": 0.0, "finish_s": 0.0, "gpu": 0}},
    ),
}
