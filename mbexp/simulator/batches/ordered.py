"""The loop of run-to-completion batching for queues with an order of their own; no other run needs it."""

# mypy: allow-untyped-defs

from __future__ import annotations

from mbexp.compiled.decorators import inlined
from mbexp.simulator.batches.loop import serve_all
from mbexp.simulator.batches.order import Order

_serve_all = inlined(serve_all)


def serve_in_order(
    requests, queues, gpus, capacity, law, law_parameters, noise,
    limit_rule, limit_function, limit_parameters, bounds, state, select_rule, select, memory, select_parameters,
    fill_rule, fill, fill_parameters, batches, think_s, users, turns,
    rank, parameters, by, changes, items, claims, failed, lines, prompt_tokens, output_tokens, predicted_tokens,
):  # fmt: skip
    """Simulate as `mbexp.simulator.batches.loop.serve_all`, with an order in the place of its last argument.

    A function is a value only as an argument by itself, so that the order comes in its parts.
    """
    order = Order(
        rank, parameters, by, changes, items, claims, failed, lines, prompt_tokens, output_tokens, predicted_tokens
    )
    return _serve_all(
        requests, queues, gpus, capacity, law, law_parameters, noise,
        limit_rule, limit_function, limit_parameters, bounds, state, select_rule, select, memory, select_parameters,
        fill_rule, fill, fill_parameters, batches, think_s, users, turns, order,
    )  # fmt: skip
