"""The continuous event loop beside its plain case written in C, with equal results."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks import c_form, continuous_c_form
from benchmarks.continuous import CAP, case, forms
from benchmarks.forms import UnequalError
from benchmarks.report import Table
from benchmarks.timing import in_turn, ratio
from mbexp.hardware import kv_capacity_tokens
from mbexp.simulator.continuous.outcome import ContinuousOutcome

GPUS = (1, 16, 100)
RATE_PER_S = 25.0  # of each GPU
KEYS = {**CAP, "execution.assignment": "join_shortest"}


def prepare(
    requests: int, gpus: int, rate_per_s: float = RATE_PER_S
) -> tuple[Callable[[], ContinuousOutcome], Callable[[], continuous_c_form.Arrays]]:
    """Return mbexp's form and the one in C, each a function that simulates once."""
    config, trace, law = case(requests, gpus, rate_per_s, KEYS, 1)
    in_c = continuous_c_form.prepare(
        trace, gpus, config.scheduler.fixed_batch_size, kv_capacity_tokens(config.gpu), law, config.sla.token_ms / 1000
    )
    return forms(requests, gpus, rate_per_s, KEYS), in_c


def table(requests: int, rounds: int, gpus: Sequence[int] = GPUS) -> Table:
    """Time both forms at several numbers of GPUs.

    Raises
    ------
    UnequalError
        If they differ in an instant, a GPU, a bin of the histogram of gaps or a count of them.
    """
    found = Table("Continuous batching beside C", ["GPUs", "M requests/s", "M requests/s in C", "times C"])
    if not c_form.compiler():
        found.remarks.append("There is no C compiler (`cc`) here.")
        return found
    for count in gpus:
        ours, in_c = prepare(requests, count)
        if difference := continuous_c_form.difference(ours(), in_c()):
            raise UnequalError(f"{count} GPUs: mbexp and C: {difference}")
        times = in_turn({"mbexp": ours, "C": in_c}, {"mbexp": rounds, "C": rounds}, warm=True)
        speed = {name: requests / float(np.median(each)) / 1e6 for name, each in times.items()}
        share = ratio(times["mbexp"], times["C"])
        found.rows.append([f"{count:,}", f"{speed['mbexp']:.2f}", f"{speed['C']:.2f}", share])
        found.numbers[str(count)] = {"million_requests_per_s": speed, "times_c": vars(share)}
    found.remarks.append(
        f"A run has {requests:,} requests, {RATE_PER_S:.0f} a second for each GPU, with first in, first out, whole "
        "prefills, reserved memory and join_shortest. Instants and GPU of each request and the histogram of gaps are "
        "equal to the bit. Both sides include their set-up. The C form keeps no samples and no log."
    )
    return found
