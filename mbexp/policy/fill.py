"""Fill: when a batch may leave."""

from __future__ import annotations

from mbexp.policy.signatures import batch_fill


@batch_fill
def greedy(parameters, waiting, limit, head_arrival_s, filling_arrival_s):
    """Leave as soon as there is anything to serve."""
    return head_arrival_s


@batch_fill
def full(parameters, waiting, limit, head_arrival_s, filling_arrival_s):
    """Leave only when full (P1)."""
    return filling_arrival_s


@batch_fill
def timeout(parameters, waiting, limit, head_arrival_s, filling_arrival_s):
    """Leave when full, or when the head has waited `parameters[0]` seconds."""
    return min(filling_arrival_s, head_arrival_s + parameters[0])
