"""The loop of run-to-completion batching, compiled for queues with an order of their own; no other run needs it."""

from __future__ import annotations

from mbexp.compiled.decorators import compiled, inlined
from mbexp.simulator.batches import loop
from mbexp.simulator.batches.order import ORDER_TYPE, Order

_run = inlined(getattr(loop.run, "py_func", loop.run))


@compiled(loop.signature(*ORDER_TYPE), _nrt=False)
def run_in_order(
    requests, queues, gpus, capacity, law, law_parameters, noise,
    limit_rule, limit_function, limit_parameters, bounds, state, select_rule, select, memory, select_parameters,
    fill_rule, fill, fill_parameters, batches, think_s, users,
    rank, parameters, by, changes, items, failed, lines, prompt_tokens, output_tokens, predicted_tokens,
):  # fmt: skip
    """Simulate as `loop.run`, with an order in the place of its last argument.

    A function is a value only as an argument by itself, so that the order comes in its parts.
    """
    order = Order(
        rank, parameters, by, changes, items, failed, lines, prompt_tokens, output_tokens, predicted_tokens
    )  # fmt: skip
    return _run(
        requests, queues, gpus, capacity, law, law_parameters, noise,
        limit_rule, limit_function, limit_parameters, bounds, state, select_rule, select, memory, select_parameters,
        fill_rule, fill, fill_parameters, batches, think_s, users, order,
    )  # fmt: skip
