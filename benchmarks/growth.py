"""How the cost of a request grows with the number of requests, of GPUs and of bins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks import c_form, compiled_form
from benchmarks.cases import make_case, steady_trace
from benchmarks.report import Table
from benchmarks.timing import in_turn

# Requests a second of one GPU: at the lower rate it is busy for half of the time with batches of one, at the higher
# one it falls behind for as long as requests arrive.
HALF_BUSY_PER_S, TOO_MANY_PER_S = 0.09, 20.0

EACH_GPU = 300  # requests at least, so that the first and the last batches do not count for much

REQUESTS = tuple(10**power for power in range(3, 9))
GPUS = (1, 3, 10, 32, 100, 316, 1000, 3162, 10_000)
BINS = (1, 2, 4, 8, 16, 32, 64)


def table(largest: int, num_requests: int, rounds: int) -> Table:
    """Time the loop along three axes, each half busy and overloaded; `num_requests` where they are not the axis."""
    found = Table("Growth", ["axis", "value", "load", "ns/request", "ns/batch", "ns/request in C"])
    points: list[tuple[str, int, int, int, int]] = []
    points += [("requests", n, n, 100, 8) for n in REQUESTS if n <= largest]
    points += [("GPUs", gpus, max(num_requests, EACH_GPU * gpus), gpus, 8) for gpus in GPUS]
    points += [("bins", bins, num_requests, 100, bins) for bins in BINS]
    for axis, value, requests, gpus, bins in points:
        for load, rate in (("half busy", HALF_BUSY_PER_S), ("overloaded", TOO_MANY_PER_S)):
            row = _cost(requests, gpus, bins, rate * gpus, rounds)
            found.rows.append([axis, f"{value:,}", load, *(f"{cost:.1f}" for cost in row)])
            found.numbers.setdefault(f"{axis}/{load}", []).append([value, *row])
    found.remarks.append(
        "Arrivals are Poisson, and the rate grows with the GPUs. Half busy means batches of one. What is not the axis "
        f"stays at {num_requests:,} requests (or {EACH_GPU} for each GPU), 100 GPUs and 8 bins."
    )
    return found


def _cost(requests: int, gpus: int, bins: int, rate_per_s: float, rounds: int) -> Sequence[float]:
    trace = steady_trace(requests, rate_per_s)
    case = make_case("growth", requests, gpus, k_bins=bins, trace=trace)
    del trace
    forms = {"mbexp": compiled_form.prepare(case)}
    if c_form.compiler() and requests <= 10**7:
        forms["C"] = c_form.prepare(case)
    few = 1 if requests > 10**7 else rounds
    times = in_turn({name: form.run for name, form in forms.items()}, dict.fromkeys(forms, few))
    ours = float(np.median(times["mbexp"]))
    batches = len(forms["mbexp"].batches())
    in_c = float(np.median(times["C"])) if "C" in times else float("nan")
    return ours / requests * 1e9, ours / batches * 1e9, in_c / requests * 1e9
