"""What both event loops know of an order inside queues: the key of a request, and the columns that keys are made of."""

# mypy: allow-untyped-defs

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import from_dtype, types

from mbexp.compiled.decorators import inlined
from mbexp.config.scheduler_keys import ORDER_BY
from mbexp.errors import UserError
from mbexp.policy.views import Waiting

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]

# A request where queues have an order: its key, what it stands on, and its neighbours in the heap that is its queue.
# Where batches run to completion it is also linked to those of its queue that arrived before and after it.
WAITING_DTYPE = np.dtype(
    [
        ("key", np.float64),
        ("service_s", np.float64),
        ("limit_s", np.float64),
        ("priority", np.float64),
        ("child", np.int32),
        ("sibling", np.int32),
        ("older", np.int32),
        ("younger", np.int32),
        ("of_class", np.int32),
    ],
    align=True,
)
WAITING_ITEMS_TYPE = types.Array(from_dtype(WAITING_DTYPE), 1, "C")

PROMPT, OUTPUT, TOTAL = (ORDER_BY.index(name) for name in ("prompt", "output", "total"))


@dataclass(frozen=True)
class Claims:
    """What requests bring into an order, in trace order; each of shape (n,).

    Attributes
    ----------
    service_s : float64 array
        Time that each would take alone on a GPU, as predicted.
    limit_s : float64 array
        Longest time that it may take.
    priority : float64 array
        The lowest goes first.
    of_class : int32 array
        Class of each, by place.
    weights : float64 array, shape (classes,)
        What is fair for each class, relative to others.
    """

    service_s: FloatArray
    limit_s: FloatArray
    priority: FloatArray
    of_class: IntArray
    weights: FloatArray

    def of(self, places: IntArray | None) -> Claims:
        """Return those of some requests; None takes all."""
        if places is None:
            return self
        return Claims(
            self.service_s[places], self.limit_s[places], self.priority[places], self.of_class[places], self.weights
        )

    def items(self) -> npt.NDArray[np.void]:
        """Return a record for each request, none of which waits yet."""
        items = np.zeros(len(self.service_s), WAITING_DTYPE)
        for name in ("service_s", "limit_s", "priority", "of_class"):
            items[name] = getattr(self, name)
        return items


def no_claims(count: int) -> Claims:
    """Return the claims of requests of which nothing is known."""
    return Claims(np.zeros(count), np.full(count, np.inf), np.zeros(count), np.zeros(count, np.int32), np.ones(1))


def refuse_no_key(failed: npt.NDArray[np.int64]) -> None:
    """Refuse a run in which an order rule gave a key that is no number."""
    if failed[0]:
        raise UserError("scheduler.order: the rule gave a request a key that is no number (NaN)")


@inlined
def claim(order, request, place):
    """Give a request, by its number, the claims that it has by its place in the trace."""
    item, its = order.items[request], order.claims[place]
    item["service_s"], item["limit_s"] = its["service_s"], its["limit_s"]
    item["priority"], item["of_class"] = its["priority"], its["of_class"]


@inlined
def key_of(order, index, now_s, arrival_s, prompt, predicted, emitted, class_service):
    """Return the key of a request that waits: that of the order rule; infinity where it is no number."""
    item = order.items[index]
    if order.by == PROMPT:
        size = float(prompt)
    elif order.by == OUTPUT:
        size = float(predicted)
    elif order.by == TOTAL:
        size = float(prompt + predicted)
    else:
        size = item["service_s"]
    seen = Waiting(
        index, arrival_s, prompt, predicted, emitted, size, item["service_s"], item["limit_s"], item["priority"],
        np.int64(item["of_class"]), class_service,
    )  # fmt: skip
    key = order.rank(now_s, seen, order.parameters)
    if key != key:
        order.failed[0] = 1
        return np.inf
    return key
