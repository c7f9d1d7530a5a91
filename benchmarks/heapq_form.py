"""The event loop as it is usually written in Python: a heap of events and a deque for each queue."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from functools import reduce
from operator import add
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.cases import Case, Form
from mbexp.config.keys import SlaConfig
from mbexp.config.scheduler_keys import SchedulerConfig
from mbexp.simulator.batches.state import BATCH_DTYPE

Law = Callable[[int, int, int], tuple[float, float, float]]

# In the order of BATCH_DTYPE, without `first`, which follows from the sizes.
FIELDS = (
    *("start_s", "finish_s", "first_token_s", "step_s", "controller_low", "controller_high"),
    *("size", "limit", "gpu", "b_mem", "b_sla", "queue"),
)


class Fixed:
    """Always the same limit."""

    b_mem = b_sla = 0
    low = high = 0.0

    def __init__(self, size: int) -> None:
        self.limit = size

    def learn(self, size: int, tokens: int, squares: int, step_s: float) -> None:
        """Learn nothing."""


class Dynamic:
    """Algorithms 1 and 2 of P2 for one queue."""

    def __init__(self, scheduler: SchedulerConfig, sla: SlaConfig, capacity: int) -> None:
        controller = scheduler.controller
        self.b_min, self.b_max, self.capacity = scheduler.batch_size_min, scheduler.batch_size_max, capacity
        self.theta = NormalDist().inv_cdf(1 - scheduler.memory_overflow_probability)
        self.target_s, self.tolerance_s = sla.token_ms / 1000, controller.tolerance_ms / 1000
        self.alpha, self.delta = controller.alpha_requests, controller.delta_requests
        self.steps: deque[float] = deque(maxlen=controller.window_batches)
        self.sizes: deque[int] = deque(maxlen=controller.window_batches)
        self.requests, self.tokens, self.squares = 0, 0.0, 0.0
        self.low, self.high = float(self.b_min), float(self.b_max)
        self.b_mem = self.b_max
        self.b_sla = (self.b_min + self.b_max) // 2
        self.limit = min(self.b_mem, self.b_sla)

    def learn(self, size: int, tokens: int, squares: int, step_s: float) -> None:
        """Take a completed batch into account."""
        self.requests += size
        self.tokens += tokens
        self.squares += squares
        mean = self.tokens / self.requests
        spread = math.sqrt(max(self.squares / self.requests - mean * mean, 0.0)) * self.theta
        root = (math.sqrt(spread * spread + 4.0 * mean * self.capacity) - spread) / (2.0 * mean)
        self.b_mem = min(max(math.floor(root * root), self.b_min), self.b_max)

        self.steps.append(step_s)
        self.sizes.append(size)
        # sum() of Python 3.12 corrects its rounding; the semantics say in which order to add.
        step_mean, size_mean = reduce(add, self.steps) / len(self.steps), sum(self.sizes) / len(self.sizes)
        low, high, half = self.low, self.high, math.floor(self.alpha / 2)
        if step_mean > self.target_s + self.tolerance_s:
            self.high = max(size_mean, low + self.alpha)
            self.low = max(low - self.delta, self.b_min)
        elif step_mean < self.target_s - self.tolerance_s:
            self.low = min(size_mean, high - self.alpha)
            self.high = min(high + self.delta, self.b_max)
        else:
            self.high = min(size_mean + half, self.b_max)
            self.low = max(size_mean - half, self.b_min)
        self.b_sla = min(max(math.floor((self.low + self.high) / 2), self.b_min), self.b_max)
        self.limit = min(self.b_mem, self.b_sla)


def controllers(case: Case) -> list[Any]:
    """Return a batch-size rule for each queue."""
    scheduler = case.config.scheduler
    if scheduler.batch_size == "fixed":
        return [Fixed(scheduler.fixed_batch_size) for _ in range(case.num_queues)]
    assert scheduler.memory_rule == "corrected"
    assert scheduler.controller.interval_batches == 1
    return [Dynamic(scheduler, case.config.sla, case.kv_capacity_tokens) for _ in range(case.num_queues)]


def python_law(case: Case) -> Law:
    """Return the affine law as a function of size, longest output and longest sum."""
    alpha_s, beta_s, gamma, counts_prompt = case.law.require_batch().parameters.tolist()

    def law(size: int, longest_output: int, longest_total: int) -> tuple[float, float, float]:
        step_s = beta_s * (1.0 + gamma * (size - 1.0) / size)
        return alpha_s + step_s * (longest_total if counts_prompt > 0.5 else longest_output), alpha_s, step_s

    return law


def as_batches(rows: list[tuple[Any, ...]], case: Case) -> npt.NDArray[Any]:
    """Return rows of `FIELDS` as batches; a queue's batches take its requests in order."""
    batches = np.zeros(len(rows), BATCH_DTYPE)
    for field, column in zip(FIELDS, zip(*rows, strict=True), strict=True):
        batches[field] = column
    for queue in range(case.num_queues):
        mine = batches["queue"] == queue
        sizes = batches["size"][mine]
        batches["first"][mine] = case.requests.queue_start[queue] + np.cumsum(sizes) - sizes
    return batches


def prepare(case: Case) -> Form:
    """Return the model; the trace is turned into lists beforehand."""
    scheduler = case.config.scheduler
    assert scheduler.fill in ("greedy", "full")
    assert scheduler.selection in ("round_robin", "first_formed")
    requests = case.requests
    order = np.argsort(requests.trace_index)
    arrivals, queue_of = requests.arrival_s.tolist(), requests.queue_of.tolist()
    prompts, outputs, predicted = (
        array[order].tolist() for array in (requests.prompt_tokens, requests.output_tokens, requests.predicted_tokens)
    )
    rows: list[tuple[Any, ...]] = []

    def simulate() -> None:
        rows.clear()
        _simulate(case, arrivals, queue_of, prompts, outputs, predicted, rows)

    return Form(simulate, lambda: as_batches(rows, case))


def _simulate(
    case: Case,
    arrivals: list[float],
    queue_of: list[int],
    prompts: list[int],
    outputs: list[int],
    predicted: list[int],
    rows: list[tuple[Any, ...]],
) -> None:
    scheduler, capacity, num_queues = case.config.scheduler, case.kv_capacity_tokens, case.num_queues
    law, rules = python_law(case), controllers(case)
    waiting: list[deque[int]] = [deque() for _ in range(num_queues)]
    idle = list(range(case.num_gpus))
    busy: list[tuple[float, int]] = []
    running: list[Any] = [None] * case.num_gpus
    full, first_formed = scheduler.fill == "full", scheduler.selection == "first_formed"
    n, joined, left, turn = len(arrivals), 0, 0, 0  # `left` wait
    push, pop = heapq.heappush, heapq.heappop

    while joined < n or busy or left:
        now = busy[0][0] if busy else math.inf
        if joined < n and arrivals[joined] < now:
            now = arrivals[joined]
        while busy and busy[0][0] == now:
            gpu = pop(busy)[1]
            queue, size, tokens, squares, step = running[gpu]
            rules[queue].learn(size, tokens, squares, step)
            push(idle, gpu)
        while joined < n and arrivals[joined] == now:
            waiting[queue_of[joined]].append(joined)
            joined += 1
            left += 1
        while idle and left:
            ready = [q for q in range(num_queues) if waiting[q]]
            if full and joined < n:
                ready = [q for q in ready if len(waiting[q]) >= rules[q].limit]
            if not ready:
                break
            if first_formed:
                queue = min(ready, key=lambda q: formed(waiting[q], rules[q].limit, arrivals, joined == n))
            else:
                queue = next((q for q in ready if q >= turn), ready[0])
                turn = queue + 1
            rule, line = rules[queue], waiting[queue]
            members: list[int] = []
            limit, need = rule.limit, 0
            while line and len(members) < limit:
                head = line[0]
                need += prompts[head] + predicted[head]
                if need > capacity:
                    break
                members.append(line.popleft())
            size = len(members)
            left -= size
            if size == 1:
                only = members[0]
                tokens = longest_total = prompts[only] + outputs[only]
                squares, longest_output = tokens * tokens, outputs[only]
            else:
                totals = [prompts[i] + outputs[i] for i in members]
                tokens, longest_total, longest_output = sum(totals), max(totals), max([outputs[i] for i in members])
                squares = sum([total * total for total in totals])
            service, first_token, step = law(size, longest_output, longest_total)
            finish = now + service
            gpu = pop(idle)
            push(busy, (finish, gpu))
            running[gpu] = (queue, size, tokens, squares, step)
            rows.append(
                (now, finish, first_token, step, rule.low, rule.high, size, limit, gpu, rule.b_mem, rule.b_sla, queue)
            )


def formed(line: deque[int], limit: int, arrivals: list[float], ended: bool) -> tuple[float, int]:
    """Return when a queue that waits for full batches is formed, and its head: the earlier and older goes first."""
    formed_s = arrivals[line[limit - 1]] if len(line) >= limit else math.inf
    return (min(formed_s, arrivals[-1]) if ended else formed_s), line[0]
