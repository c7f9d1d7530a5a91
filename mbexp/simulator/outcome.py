"""What every simulation leaves: the accepted requests, and what happened to each, a column at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]

OF_ANY_MODE = ("predicted_need_exceeds_memory", "true_need_exceeds_memory")  # reasons why a request is rejected
BEYOND_MODEL = "exceeds_max_model_len"
REJECTIONS = (*OF_ANY_MODE, BEYOND_MODEL)


@dataclass(frozen=True, kw_only=True)
class Outcome(ABC):
    """Outcome of a simulation, in whatever mode of execution.

    Attributes
    ----------
    arrival_s, prompt_tokens, output_tokens, predicted_tokens : arrays, shape (accepted,)
        The accepted requests in trace order, or in the order in which they came where answers made them come.
    accepted : int32 array, shape (accepted,), or None
        Place of each accepted request in the trace; None where all were accepted, in trace order.
    rejected : dict of str to int32 array
        Places in the trace of the rejected requests, by reason.
    queue_of : uint16 array, shape (accepted,)
        Queue that each accepted request joined.
    num_gpus, kv_capacity_tokens : int
        The hardware that ran.
    users : int or None
        How many sent the requests in a closed loop; None where there is none.
    by_arrival : bool
        Whether the requests are in the order in which they came, that of the trace being another.
    is_fifo : bool
        Whether queues were first in, first out.
    """

    # What a mode tells of each request, in the order of the columns of requests.parquet.
    REQUEST_COLUMNS: ClassVar[tuple[str, ...]] = ("gpu", "start_s", "first_token_s", "finish_s")

    arrival_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    predicted_tokens: IntArray
    accepted: IntArray | None
    queue_of: npt.NDArray[np.uint16]
    num_gpus: int
    kv_capacity_tokens: int
    rejected: dict[str, IntArray] = field(default_factory=dict)
    users: int | None = None
    by_arrival: bool = False
    is_fifo: bool = True

    @abstractmethod
    def column(self, name: str, chosen: slice | npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return a column of `REQUEST_COLUMNS` for some of the accepted requests."""

    @abstractmethod
    def started_before(self, instants_s: FloatArray) -> npt.NDArray[np.int64]:
        """Return how many requests had started before each instant."""

    @abstractmethod
    def busy_while_arriving_s(self) -> float:
        """Return how long all GPUs together were busy up to the last arrival."""

    @abstractmethod
    def measured(self, first: int) -> Measured:
        """Return the instants of the accepted requests from `first` on."""


class Measured(Protocol):
    """Requests that count: all, or those after the warm-up. Its columns are made one at a time.

    Attributes
    ----------
    first : int
        Place of the first of them among the accepted requests.
    arrival_s : float64 array, shape (measured,)
    """

    @property
    def first(self) -> int:
        """Place of the first."""
        ...

    @property
    def arrival_s(self) -> FloatArray:
        """Arrival of each."""
        ...

    def latency_s(self) -> FloatArray:
        """Completion - arrival; may hold only until the next column is asked for, as may all of these."""
        ...

    def ttft_s(self) -> FloatArray:
        """First token - arrival."""
        ...

    def queue_delay_s(self) -> FloatArray:
        """Start - arrival."""
        ...

    def service_s(self) -> FloatArray:
        """Completion - start."""
        ...

    def decode_s(self) -> FloatArray:
        """Completion - first token."""
        ...

    @property
    def end_s(self) -> float:
        """Last completion."""
        ...
