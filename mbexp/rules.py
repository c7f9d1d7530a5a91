"""What a rule of your own is made of: the decorators, one for each slot of a policy, and the views that rules see.

========================  ==========================  ==================================================
key                       decorator                   function
========================  ==========================  ==================================================
``scheduler.batch_size``  `batch_limit`               ``limit(interval, bounds, state, parameters)``
``scheduler.selection``   `bin_selection`             ``select(now_s, queues, memory, parameters)``
``scheduler.fill``        `batch_fill`                ``fill(queue, parameters)``
``execution.assignment``  `assignment`                ``assign(gpus, request, memory, parameters)``
``scheduler.order``       `queue_order`               ``rank(now_s, request, parameters)``
========================  ==========================  ==================================================

docs/policies.md shows one of each. A latency law of your own is made with `batch_price`, `iteration_price`,
`Price` and `LatencyLaw` (docs/gpu_laws.md).
"""

from __future__ import annotations

from mbexp.hardware.law import LatencyLaw, Price, batch_price, iteration_price
from mbexp.policy.slots import assignment, batch_fill, batch_limit, bin_selection, queue_order
from mbexp.policy.views import Arrival, Bounds, Gpus, Interval, Queue, Queues, Waiting

__all__ = [
    "Arrival",
    "Bounds",
    "Gpus",
    "Interval",
    "LatencyLaw",
    "Price",
    "Queue",
    "Queues",
    "Waiting",
    "assignment",
    "batch_fill",
    "batch_limit",
    "batch_price",
    "bin_selection",
    "iteration_price",
    "queue_order",
]
