"""What a rule of your own is made of: the decorators, one for each slot of a policy, and the views that rules see.

========================  ==========================  ==================================================
key                       decorator                   function
========================  ==========================  ==================================================
``scheduler.batch_size``  `batch_limit`               ``limit(interval, bounds, state, parameters)``
``scheduler.selection``   `bin_selection`             ``select(now_s, queues, memory, parameters)``
``scheduler.fill``        `batch_fill`                ``fill(queue, parameters)``
``execution.assignment``  `assignment`                ``assign(gpus, request, memory, parameters)``
========================  ==========================  ==================================================

docs/policies.md shows one of each.
"""

from __future__ import annotations

from mbexp.policy.slots import assignment, batch_fill, batch_limit, bin_selection
from mbexp.policy.views import Arrival, Bounds, Gpus, Interval, Queue, Queues

__all__ = [
    "Arrival",
    "Bounds",
    "Gpus",
    "Interval",
    "Queue",
    "Queues",
    "assignment",
    "batch_fill",
    "batch_limit",
    "bin_selection",
]
