"""Fill: when a batch may leave."""

from __future__ import annotations

from mbexp.policy.slots import batch_fill


@batch_fill
def greedy(queue, parameters):
    """Leave as soon as there is anything to serve."""
    return queue.head_arrival_s


@batch_fill
def full(queue, parameters):
    """Leave only when full (P1)."""
    return queue.filling_arrival_s


@batch_fill
def timeout(queue, parameters):
    """Leave when full, or when the head has waited `parameters[0]` seconds."""
    return min(queue.filling_arrival_s, queue.head_arrival_s + parameters[0])
