"""The continuous event loop, compiled for queues with an order of their own; no other run needs it."""

from __future__ import annotations

from mbexp.compiled.decorators import compiled, inlined
from mbexp.simulator.continuous import loop
from mbexp.simulator.continuous.order import ORDER_TYPE, Order

_run_until_served = inlined(getattr(loop.run_until_served, "py_func", loop.run_until_served))


@compiled(loop.signature(*ORDER_TYPE), _nrt=False)
def run_in_order(
    runs, arrival_s, prompt, output, predicted, queue_of, queues, heads_s, memory, select, select_parameters,
    iteration, iteration_parameters, limit_rule, limit_parameters, bounds, limit_state,
    given, assign, assign_parameters, assign_memory, draws, share_first, share_count,
    rank, parameters, by, changes, items, failed, looked_s, future, rows, fair, classes, decoding, settled,
):  # fmt: skip
    """Simulate as `loop.run_until_served`, with an order in the place of its last argument.

    A function is a value only as an argument by itself, so that the order comes in its parts.
    """
    order = Order(
        rank, parameters, by, changes, items, failed, looked_s, future, rows, fair, classes, decoding, settled
    )
    return _run_until_served(
        runs, arrival_s, prompt, output, predicted, queue_of, queues, heads_s, memory, select, select_parameters,
        iteration, iteration_parameters, limit_rule, limit_parameters, bounds, limit_state,
        given, assign, assign_parameters, assign_memory, draws, share_first, share_count, order,
    )  # fmt: skip
