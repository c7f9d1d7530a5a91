"""The continuous event loop for queues with an order of their own; no other run needs it."""

# mypy: allow-untyped-defs

from __future__ import annotations

from mbexp.compiled.decorators import inlined
from mbexp.simulator.continuous.loop import run_until_served
from mbexp.simulator.continuous.order import Order

_run_until_served = inlined(run_until_served)


def run_in_order(
    runs, arrival_s, prompt, output, predicted, queue_of, queues, heads_s, memory, select, select_parameters,
    iteration, iteration_parameters, limit_rule, limit_parameters, bounds, limit_state,
    given, assign, assign_parameters, assign_memory, draws, share_first, share_count,
    rank, parameters, by, changes, items, claims, failed, looked_s, future, rows, fair, classes, decoding, settled,
    preempts, share, margin, grows, wait, types, pauses,
):  # fmt: skip
    """Simulate as `mbexp.simulator.continuous.loop.run_until_served`, with an order in the place of its last argument.

    A function is a value only as an argument by itself, so that the order comes in its parts.
    """
    order = Order(
        rank, parameters, by, changes, items, claims, failed, looked_s, future, rows, fair, classes, decoding, settled,
        preempts, share, margin, grows, wait, types, pauses,
    )  # fmt: skip
    return _run_until_served(
        runs, arrival_s, prompt, output, predicted, queue_of, queues, heads_s, memory, select, select_parameters,
        iteration, iteration_parameters, limit_rule, limit_parameters, bounds, limit_state,
        given, assign, assign_parameters, assign_memory, draws, share_first, share_count, order,
    )  # fmt: skip
