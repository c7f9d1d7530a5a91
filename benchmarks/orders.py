"""What an order costs under continuous batching: FIFO, SJF and the three that displace, taken in turn."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from benchmarks.report import Table
from benchmarks.timing import in_turn
from mbexp import configure
from mbexp.modes.continuous import simulate
from mbexp.modes.problem import make_problem

GPUS = 16
ORDERS: dict[str, dict[str, Any]] = {
    "fifo": {"scheduler": "static_fifo"},
    **{name: {"scheduler": name} for name in ("sjf", "psjf", "srpt", "trail")},
}
CASES = {4: 5.2, 64: 44.0}  # requests at once on a GPU, and requests/s of each: some 4 % more than FIFO can serve


def table(requests: int, rounds: int) -> Table:
    """Return requests per second of the loop and its set-up, for each order, where few and where many run at once."""
    columns = ("M requests/s", "of fifo", "stops a request")
    found = Table(
        "Orders, continuous batching", ["order", *(f"{cap} at once: {name}" for cap in CASES for name in columns)]
    )
    cells: dict[str, list[str]] = {order: [order] for order in ORDERS}
    for cap, rate in CASES.items():
        problems = {
            order: make_problem(
                configure(
                    **keys, workload="lognormal", execution="continuous", predictor="noisy", num_requests=requests,
                    num_gpus=GPUS, **{"scheduler.fixed_batch_size": cap, "workload.rate_scaling": rate * GPUS,
                                      "output.batches": False},
                )
            )
            for order, keys in ORDERS.items()
        }  # fmt: skip
        runs = {order: functools.partial(simulate, problem) for order, problem in problems.items()}
        times = in_turn(runs, dict.fromkeys(runs, max(rounds, 1)))
        speed = {order: requests / float(np.min(times[order])) / 1e6 for order in ORDERS}
        for order in ORDERS:
            displaced = float(runs[order]().preemptions.sum()) / requests
            cells[order] += [f"{speed[order]:.2f}", f"{speed[order] / speed['fifo']:.2f}", f"{displaced:.2f}"]
            found.numbers[f"{order}, {cap} at once"] = {"million_requests_per_s": speed[order], "displaced": displaced}
    found.rows += cells.values()
    found.remarks.append(
        f"{GPUS} H100s with Llama-3.1-8B and a queue at each serve {requests:,} requests of `workload=lognormal`, at "
        "some 4 % more than FIFO can serve, so that a queue stands. Predictions have sigma 0.5. Rates are the best of "
        f"{max(rounds, 1)} rounds taken in turn."
    )
    return found
