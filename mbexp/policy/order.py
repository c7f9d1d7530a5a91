"""Order: which of the requests of a queue goes first; docs/semantics/order.md defines each rule.

A rule returns a key, and the smallest goes first. `fifo` is what a loop does without asking any rule.
"""

from __future__ import annotations

import math

from mbexp.policy.slots import queue_order


@queue_order
def fifo(now_s, request, parameters):
    """First come, first served."""
    return request.arrival_s


@queue_order
def lcfs(now_s, request, parameters):
    """Last come, first served."""
    return -request.arrival_s


@queue_order
def sjf(now_s, request, parameters):
    """Shortest job first, by what `scheduler.order_by` names (vllm-project/vllm#29406)."""
    return request.size


@queue_order
def srpt(now_s, request, parameters):
    """Shortest remaining predicted output first, prediction less what was emitted (arXiv 1902.00732, 2410.01035)."""
    return request.predicted_tokens - request.emitted_tokens


@queue_order
def priority(now_s, request, parameters):
    """By priority, the lowest first, then by arrival (vLLM's priority policy)."""
    return request.priority


@queue_order
def vtc(now_s, request, parameters):
    """The class that was served least, over its weight, then by arrival: virtual token counters (arXiv 2401.00588)."""
    return request.class_service


@queue_order
def edf(now_s, request, parameters):
    """Earliest deadline first: arrival + limit (kubernetes-sigs/gateway-api-inference-extension#1797)."""
    return request.arrival_s + request.limit_s


@queue_order
def hrrn(now_s, request, parameters):
    """Highest response ratio next: the largest (wait + service) / service (sgl-project/sglang#32911)."""
    if request.service_s <= 0.0:
        return -math.inf
    return -(now_s - request.arrival_s + request.service_s) / request.service_s


@queue_order(ageing_per_s=100.0)
def sjf_ageing(now_s, request, parameters):
    """Smallest size - ageing_per_s x wait (sgl-project/sglang#30806); the time now, the same for all, is left out."""
    return request.size + parameters.ageing_per_s * request.arrival_s


@queue_order(ageing_share_per_s=0.1)
def sjf_ageing_discount(now_s, request, parameters):
    """Smallest size x max(0, 1 - ageing_share_per_s x wait) (NVIDIA/TensorRT-LLM#13096)."""
    return request.size * max(0.0, 1.0 - parameters.ageing_share_per_s * (now_s - request.arrival_s))


@queue_order(weight=0.5, size_scale=32768.0, wait_scale_s=5.0)
def sjf_ageing_weighted(now_s, request, parameters):
    """Largest weight / (1 + size / size_scale) + (1 - weight) x wait / wait_scale_s (NVIDIA/TensorRT-LLM#12428)."""
    short = parameters.weight / (1.0 + request.size / parameters.size_scale)
    return -short - (1.0 - parameters.weight) * (now_s - request.arrival_s) / parameters.wait_scale_s
