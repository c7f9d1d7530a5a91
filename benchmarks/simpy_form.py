"""The event loop as a SimPy model: processes for the arrivals, the dispatcher and every batch."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Generator
from typing import Any

import numpy as np

from benchmarks.cases import Case, Form
from benchmarks.heapq_form import as_batches, controllers, formed, python_law


def available() -> bool:
    """Whether SimPy is installed."""
    try:
        import simpy  # noqa: F401
    except ImportError:
        return False
    return True


def prepare(case: Case) -> Form:
    """Return the model; the trace is turned into lists beforehand."""
    requests = case.requests
    order = np.argsort(requests.trace_index)
    columns = [requests.arrival_s.tolist(), requests.queue_of.tolist()]
    for array in (requests.prompt_tokens, requests.output_tokens, requests.predicted_tokens):
        columns.append(array[order].tolist())
    rows: list[tuple[Any, ...]] = []

    def simulate() -> None:
        rows.clear()
        _Model(case, columns, rows).run()

    return Form(simulate, lambda: as_batches(rows, case))


class _Model:
    def __init__(self, case: Case, columns: list[list[Any]], rows: list[tuple[Any, ...]]) -> None:
        import simpy

        self.simpy = simpy
        self.env = simpy.Environment()
        self.case, self.rows = case, rows
        self.arrivals, self.queue_of, self.prompts, self.outputs, self.predicted = columns
        self.law, self.rules = python_law(case), controllers(case)
        self.waiting: list[deque[int]] = [deque() for _ in range(case.num_queues)]
        self.idle = list(range(case.num_gpus))
        self.full = case.config.scheduler.fill == "full"
        self.first_formed = case.config.scheduler.selection == "first_formed"
        self.joined, self.turn, self.called = 0, 0, False

    def run(self) -> None:
        self.env.process(self.arrive())
        self.env.run()

    def at(self, time_s: float, priority: int) -> Any:
        """Return an event at an exact time; what a delay is added to would round. Events of one time go by priority."""
        event = self.simpy.Event(self.env)
        event._ok, event._value = True, None
        entry: Any = (time_s, priority, next(self.env._eid), event)
        heapq.heappush(self.env._queue, entry)
        return event

    # Events of one instant: completions by GPU, then arrivals, then the dispatch.
    def arrive(self) -> Generator[Any, Any, None]:
        for request, time_s in enumerate(self.arrivals):
            if time_s > self.env.now or request == 0:
                yield self.at(time_s, self.case.num_gpus)
            self.waiting[self.queue_of[request]].append(request)
            self.joined += 1
            self.call()

    def serve(self, gpu: int, finish_s: float, queue: int, *done: Any) -> Generator[Any, Any, None]:
        yield self.at(finish_s, gpu)
        self.rules[queue].learn(*done)
        heapq.heappush(self.idle, gpu)
        self.call()

    def call(self) -> None:
        """Have the dispatcher come once everything else of this instant has happened."""
        if not self.called:
            self.called = True
            self.at(self.env.now, self.case.num_gpus + 1).callbacks.append(self.dispatch)

    def dispatch(self, _: Any) -> None:
        self.called = False
        now, arrivals, rules, waiting = self.env.now, self.arrivals, self.rules, self.waiting
        ended = self.joined == len(arrivals)
        while self.idle:
            ready = [q for q, line in enumerate(waiting) if line]
            if self.full and not ended:
                ready = [q for q in ready if len(waiting[q]) >= rules[q].limit]
            if not ready:
                return
            if self.first_formed:
                queue = min(ready, key=lambda q: formed(waiting[q], rules[q].limit, arrivals, ended))
            else:
                queue = next((q for q in ready if q >= self.turn), ready[0])
                self.turn = queue + 1
            self.start(queue, now)

    def start(self, queue: int, now: float) -> None:
        rule, line = self.rules[queue], self.waiting[queue]
        members: list[int] = []
        limit, need = rule.limit, 0
        while line and len(members) < limit:
            need += self.prompts[line[0]] + self.predicted[line[0]]
            if need > self.case.kv_capacity_tokens:
                break
            members.append(line.popleft())
        totals = [self.prompts[i] + self.outputs[i] for i in members]
        size = len(members)
        service, first_token, step = self.law(size, max([self.outputs[i] for i in members]), max(totals))
        finish = now + service
        gpu = heapq.heappop(self.idle)
        self.rows.append(
            (now, finish, first_token, step, rule.low, rule.high, size, limit, gpu, rule.b_mem, rule.b_sla, queue)
        )
        squares = sum([total * total for total in totals])
        self.env.process(self.serve(gpu, finish, queue, size, sum(totals), squares, step))
