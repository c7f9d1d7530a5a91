"""The rules of docs/semantics/run_to_completion.md for one GPU, on whatever clock and server they are given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mbexp.policy.build import Policy
from mbexp.policy.views import BEFORE_THE_RUN, Interval, Queue, Queues
from mbexp.simulator.batches.outcome import BatchesOutcome


@dataclass(frozen=True)
class Batch:
    """What a server is told of a batch: its size, and lengths in tokens."""

    size: int
    longest_prompt: int
    longest_output: int
    longest_total: int
    sum_prompt: int
    sum_output: int


class Clock(Protocol):
    """See `mbexp.replay.clock`."""

    def now(self) -> float: ...

    def wait(self, until_s: float) -> None: ...


# Serves a batch, by the end of which its clock has moved on; returns seconds to the first token, and between tokens
# (None where each member has one token only).
Server = Callable[[Batch], tuple[float, float | None]]


def replay(plan: BatchesOutcome, policy: Policy, clock: Clock, serve: Server) -> BatchesOutcome:
    """Serve the accepted requests of `plan` on one GPU, forming batches as time goes by.

    Parameters
    ----------
    plan
        A simulation of the same requests: their arrivals, lengths, predictions and queues are taken from it, its
        batches are not.
    policy
        As the simulation had it, with fresh state.
    clock
        Starts at 0, when the first request arrives.
    serve
        Runs a batch; the batch-size rule learns from the times that it returns.

    Returns
    -------
    BatchesOutcome
        With the batches that were formed, and the times they took.
    """
    n = len(plan.arrival_s)
    queues = _Queues(plan, policy)
    batches = np.zeros(n, plan.batches.dtype)
    count = joined = 0
    step_s = 0.0
    while True:
        now_s = clock.now()
        while joined < n and plan.arrival_s[joined] <= now_s:
            queues.waiting[plan.queue_of[joined]] += 1
            joined += 1
        ready = queues.ready(now_s, flushed=joined == n)
        if not len(ready):
            next_s = float(min(plan.arrival_s[joined] if joined < n else np.inf, queues.formed_s.min()))
            if next_s == np.inf:
                break
            clock.wait(next_s)
            continue
        queue = queues.select(now_s, ready)
        record = batches[count]
        count += 1
        batch, squares = queues.take(queue, record)
        record["start_s"] = now_s
        first_token_s, measured_step_s = serve(batch)
        # A batch of single tokens has no time between tokens; the last one that was seen stands in.
        step_s = step_s if measured_step_s is None else measured_step_s
        record["finish_s"] = clock.now()
        record["first_token_s"] = first_token_s
        record["step_s"] = step_s
        queues.learn(queue, batch, squares, step_s)
    return dataclasses.replace(plan, batches=batches[:count].copy())


class _Queues:
    """Queues as windows over the requests sorted by queue, and the policy's view of them."""

    def __init__(self, plan: BatchesOutcome, policy: Policy) -> None:
        assert policy.fill is not None
        self.policy, self.fill = policy, policy.fill
        self.capacity = plan.kv_capacity_tokens
        count = int(plan.queue_of.max()) + 1 if len(plan.queue_of) else 1
        self.index = plan.index
        self.arrival_s = plan.arrival_s[plan.index]
        self.prompt = plan.prompt_tokens[plan.index].astype(np.int64)
        self.output = plan.output_tokens[plan.index].astype(np.int64)
        self.need = self.prompt + plan.predicted_tokens[plan.index]
        self.end_s = float(plan.arrival_s[-1]) if len(plan.arrival_s) else 0.0
        sizes = np.bincount(plan.queue_of, minlength=count)
        self.head = np.concatenate(([0], np.cumsum(sizes)))[:-1]
        self.waiting = np.zeros(count, np.int64)
        self.state = policy.limit_state(count)
        self.memory = np.zeros(policy.selection.memory + count)
        self.head_arrival_s = np.full(count, np.inf)
        self.head_index = np.full(count, len(self.index))
        self.formed_s = np.full(count, np.inf)
        self.limit = np.empty(count, np.int64)
        for queue in range(count):
            self._update(queue, BEFORE_THE_RUN)

    def ready(self, now_s: float, flushed: bool) -> npt.NDArray[np.int64]:
        """Return the queues that may send a batch, having worked out when each is formed."""
        self.formed_s[:] = np.inf
        for queue in np.flatnonzero(self.waiting):
            head, waiting, limit = self.head[queue], self.waiting[queue], self.limit[queue]
            self.head_arrival_s[queue] = self.arrival_s[head]
            self.head_index[queue] = self.index[head]
            filling_s = self.arrival_s[head + limit - 1] if waiting >= limit else np.inf
            view = Queue(waiting, limit, self.arrival_s[head], filling_s)
            formed_s = self.fill.function(view, self.fill.parameters)
            self.formed_s[queue] = min(formed_s, self.end_s) if flushed else formed_s
        return np.flatnonzero(self.formed_s <= now_s)

    def select(self, now_s: float, ready: npt.NDArray[np.int64]) -> int:
        """Return the queue that the rule names."""
        padded = np.zeros(len(self.waiting), np.int64)
        padded[: len(ready)] = ready
        view = Queues(padded, len(ready), self.waiting, self.limit, self.head_arrival_s, self.head_index, self.formed_s)
        return int(self.policy.selection.function(now_s, view, self.memory, self.policy.selection.parameters))

    def take(self, queue: int, record: Any) -> tuple[Batch, float]:
        """Form a batch from the head of `queue`, and note in `record` what is known before it runs."""
        first = int(self.head[queue])
        size = int(min(self.waiting[queue], self.limit[queue]))
        fits = np.cumsum(self.need[first : first + size]) <= self.capacity
        size = max(1, int(fits.sum()))
        prompt, output = self.prompt[first : first + size], self.output[first : first + size]
        record["first"], record["size"], record["queue"], record["gpu"] = first, size, queue, 0
        record["limit"] = self.limit[queue]
        record["b_mem"], record["b_sla"] = self.state[queue, 0], self.state[queue, 1]
        record["controller_low"], record["controller_high"] = self.state[queue, 2], self.state[queue, 3]
        self.head[queue] += size
        self.waiting[queue] -= size
        batch = Batch(
            size=size,
            longest_prompt=int(prompt.max()),
            longest_output=int(output.max()),
            longest_total=int((prompt + output).max()),
            sum_prompt=int(prompt.sum()),
            sum_output=int(output.sum()),
        )
        return batch, float(np.sum((prompt + output) ** 2))

    def learn(self, queue: int, batch: Batch, squares: float, step_s: float) -> None:
        """Let the batch-size rule learn from a batch that has ended."""
        tokens, waiting = float(batch.sum_prompt + batch.sum_output), int(self.waiting[queue])
        size = float(batch.size)
        self._update(queue, Interval(False, 0, waiting, batch.size, tokens, squares, step_s, size, 0, 0.0, 0.0))

    def _update(self, queue: int, interval: Interval) -> None:
        rule = self.policy.limit
        self.limit[queue] = rule.function(interval, self.policy.bounds, self.state[queue], rule.parameters)
