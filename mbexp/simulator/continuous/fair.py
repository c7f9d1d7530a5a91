"""What each class was served, token by token, for orders that are fair to classes (docs/semantics/order.md#vtc)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mbexp.compiled.decorators import called, inlined
from mbexp.simulator.continuous.layout import EMPTY, PREFILL, gpu_at
from mbexp.simulator.continuous.segment import next_boundary

PROMPT_WEIGHT, OUTPUT_WEIGHT = 1.0, 2.0  # the prices of a token in VTC (arXiv 2401.00588)

# A class: its weight, the tokens that it was served, by how much its counter was lifted, and who of it waits.
CLASS_DTYPE = np.dtype(
    [
        ("weight", np.float64),
        ("lift", np.float64),
        ("prompt_tokens", np.int64),
        ("output_tokens", np.int64),
        ("waiting", np.int64),
    ],
    align=True,
)


def classes_with(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.void]:
    """Return a record for each class, served nothing yet."""
    classes = np.zeros(len(weights), CLASS_DTYPE)
    classes["weight"] = weights
    return classes


@inlined
def counter(order, of_class):
    """Return what a class was served, over its weight, and by how much that was lifted."""
    one = order.classes[of_class]
    served = PROMPT_WEIGHT * one["prompt_tokens"] + OUTPUT_WEIGHT * one["output_tokens"]
    return served / one["weight"] + one["lift"]


@inlined
def _settle(order, gpu_index, steps):
    """Count the output tokens of a GPU up to so many of its decode steps."""
    new = steps - order.settled[gpu_index]
    if new > 0:
        for of_class in range(len(order.classes)):
            order.classes[of_class]["output_tokens"] += order.decoding[gpu_index, of_class] * new
        order.settled[gpu_index] = steps


@called
def settle(run, order, now_s):
    """Count the output tokens of all GPUs up to now, in the middle of their segments too."""
    for gpu_index in range(run.num_gpus):
        gpu = gpu_at(run, gpu_index)
        steps = gpu.step
        if gpu.kind != EMPTY and gpu.kind != PREFILL and gpu.decoding > 0 and gpu.done < gpu.iterations:
            steps += next_boundary(gpu, gpu.done, now_s) - 1 - gpu.done
        _settle(order, gpu_index, steps)


@called
def change_decoding(order, gpu, request, by):
    """Let a request join those that decode on a GPU, or leave them (`by` 1 or -1)."""
    _settle(order, gpu.index, gpu.step)
    order.decoding[gpu.index, order.items[request]["of_class"]] += by


@called
def begin_to_wait(run, order, request, arrives, now_s):
    """Note that a request waits; at an arrival, a class of which nobody did is lifted to the least of others."""
    of_class = np.int64(order.items[request]["of_class"])
    if arrives and order.classes[of_class]["waiting"] == 0:
        settle(run, order, now_s)
        least = np.inf
        for other in range(len(order.classes)):
            if order.classes[other]["waiting"] > 0:
                least = min(least, counter(order, other))
        own = counter(order, of_class)
        if own < least < np.inf:
            order.classes[of_class]["lift"] += least - own
    order.classes[of_class]["waiting"] += 1


@called
def charge(order, item, request):
    """Note that a request no longer waits, and charge its prompt to its class where it was not admitted before."""
    one = order.classes[order.items[request]["of_class"]]
    one["waiting"] -= 1
    if not item.started:
        one["prompt_tokens"] += np.int64(item.prompt)
    order.looked_s[:] = -np.inf  # who is next in any queue may be another
