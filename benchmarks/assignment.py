"""How the cost of choosing among GPUs grows with them: each assignment rule of mbexp, at the same load for each GPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.continuous import CAP, forms
from benchmarks.report import Table
from benchmarks.timing import in_turn
from mbexp.config.execution_keys import RULES_OF_ASSIGNMENT

GPUS = (16, 100, 1000, 10_000)
RATE_PER_S = 25.0  # of one GPU, a third of what it can serve
LEAST_REQUESTS = 100_000
TARGETS = {1000: 0.6, 10_000: 0.4}  # of the rate at 16 GPUs


def table(each_gpu: int, rounds: int, gpus: Sequence[int] = GPUS) -> Table:
    """Return requests per second of every rule, with `each_gpu` requests for each GPU, at each number of GPUs."""
    found = Table(
        "Choosing among GPUs",
        ["rule", *(f"{count:,} GPUs, M requests/s" for count in gpus), *(f"{n:,} / {gpus[0]}" for n in gpus[1:])],
    )
    for rule in RULES_OF_ASSIGNMENT:
        requests = {count: max(each_gpu * count, LEAST_REQUESTS) for count in gpus}
        keys = {**CAP, "execution.assignment": rule}
        runs = {str(count): forms(requests[count], count, RATE_PER_S, keys) for count in gpus}
        times = in_turn(runs, dict.fromkeys(runs, max(rounds, 1)))
        speed = {count: requests[count] / float(np.min(times[str(count)])) / 1e6 for count in gpus}
        ratios = {count: speed[count] / speed[gpus[0]] for count in gpus[1:]}
        found.rows.append(
            [rule, *(f"{speed[count]:.2f}" for count in gpus), *(f"{ratio:.2f}" for ratio in ratios.values())]
        )
        found.numbers[rule] = {"million_requests_per_s": speed, "of_the_first": ratios}
    targets = " and ".join(f"{share} at {count:,}" for count, share in TARGETS.items())
    found.remarks.append(
        f"Continuous batching on H100s by the roofline, {RATE_PER_S:.0f} requests a second for each GPU. A run has "
        f"{each_gpu} requests a GPU, and at least {LEAST_REQUESTS:,}. Rates are the best of {max(rounds, 1)} rounds "
        f"taken in turn. Targets: {targets}."
    )
    return found
