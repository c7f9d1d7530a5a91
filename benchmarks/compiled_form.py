"""The event loop of mbexp itself."""

from __future__ import annotations

import numpy as np

from benchmarks.cases import Case, Form
from mbexp.simulator.batches import loop
from mbexp.simulator.batches.serve import loop_rules
from mbexp.simulator.batches.state import BATCH_DTYPE, new_gpus, new_queues


def prepare(case: Case) -> Form:
    """Return the compiled loop; everything that is not the loop is done beforehand."""
    policy, price = case.policy, case.law.require_batch()
    batches = np.zeros(len(case), BATCH_DTYPE)
    no_noise = np.empty(0)
    count = 0

    def simulate() -> None:
        nonlocal count
        count, status = loop.run(
            case.requests, new_queues(case.requests.queue_start, len(case)), new_gpus(case.num_gpus),
            case.kv_capacity_tokens, price.function, price.parameters, no_noise,
            *loop_rules(policy, case.num_queues), batches, no_noise, 0, None, None,
        )  # fmt: skip
        assert status == loop.FINISHED

    return Form(simulate, lambda: batches[:count])
