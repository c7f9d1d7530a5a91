"""The textbook simulator: an event heap, deques and plain objects, written from docs/semantics alone."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

# Order of the events of one instant.
GPU_FREE, ARRIVAL, TIMEOUT = 0, 1, 2

# law(size, longest_prompt, longest_output, longest_total, sum_prompt, sum_output) -> service, first token, step
Law = Callable[[int, int, int, int, int, int], tuple[float, float, float]]


@dataclass
class Request:
    """One request; `place` is its row in the trace, `bin` the queue it joins, at `arrival`; it was sent at `sent`."""

    place: int
    arrival: float
    prompt: int
    output: int
    predicted: int
    bin: int
    claim: Any = None  # what an order knows of it besides
    number: int = -1  # in the order in which requests come
    sent: float = -1.0
    key: float = 0.0

    @property
    def joined(self) -> float:
        return self.arrival

    @property
    def predicted_need(self) -> int:
        return self.prompt + self.predicted

    @property
    def true_need(self) -> int:
        return self.prompt + self.output


@dataclass
class Rules:
    """A scheduler, in the words of docs/semantics."""

    batch_size: str
    selection: str
    fill: str
    fixed_batch_size: int
    timeout: float
    b_min: int
    b_max: int
    memory_rule: str
    overflow_probability: float
    token_sla: float
    tolerance: float
    alpha: float
    delta: float
    window: int
    interval: int
    memory: int
    order: Callable[[float, Request], float] | None = None  # None: first in, first out
    order_changes: bool = False  # with time


@dataclass
class Batch:
    """One formed batch; the last four numbers are those of its queue's controller at the start."""

    start: float
    finish: float
    first_token: float
    step: float
    members: list[Request]
    gpu: int
    queue: int
    limit: int
    b_mem: int
    b_sla: int
    low: float
    high: float
    overflow: bool


@dataclass
class Outcome:
    batches: list[Batch] = field(default_factory=list)
    rejected: dict[str, list[int]] = field(default_factory=dict)
    sent: dict[int, float] = field(default_factory=dict)  # by place, of those that came


class Controller:
    """Algorithms 1 and 2 of P2 for one queue."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.n = 0
        self.s1 = 0.0
        self.s2 = 0.0
        self.completions = 0
        self.recent: deque[tuple[float, int]] = deque(maxlen=rules.window)
        self.low = float(rules.b_min)
        self.high = float(rules.b_max)
        self.b_mem = rules.b_max
        self.b_sla = (rules.b_min + rules.b_max) // 2

    @property
    def limit(self) -> int:
        return min(self.b_mem, self.b_sla)

    def bring_in(self, x: float) -> int:
        return int(min(max(x, self.rules.b_min), self.rules.b_max))

    def learn(self, batch: Batch) -> None:
        totals = [request.true_need for request in batch.members]
        self.n += len(totals)
        self.s1 += sum(totals)
        self.s2 += sum(total * total for total in totals)
        self.algorithm_1()
        self.recent.append((batch.step, len(totals)))
        self.completions += 1
        if self.completions % self.rules.interval == 0:
            self.algorithm_2()

    def algorithm_1(self) -> None:
        memory = self.rules.memory
        mu = self.s1 / self.n
        sigma = math.sqrt(max(self.s2 / self.n - mu * mu, 0.0))
        if self.rules.memory_rule == "corrected":
            theta = NormalDist().inv_cdf(1 - self.rules.overflow_probability)
            s = sigma * theta
            r = (math.sqrt(s * s + 4 * mu * memory) - s) / (2 * mu)
            b_mem = math.floor(r * r)
        else:
            b_mem = math.floor((memory - 0.1 * memory) / mu)
        self.b_mem = self.bring_in(b_mem)

    def algorithm_2(self) -> None:
        rules, low, high = self.rules, self.low, self.high
        tau = 0.0
        bbar = 0.0
        for step, size in self.recent:
            tau += step
            bbar += size
        tau /= len(self.recent)
        bbar /= len(self.recent)
        if tau > rules.token_sla + rules.tolerance:
            self.high = max(bbar, low + rules.alpha)
            self.low = max(low - rules.delta, rules.b_min)
        elif tau < rules.token_sla - rules.tolerance:
            self.low = min(bbar, high - rules.alpha)
            self.high = min(high + rules.delta, rules.b_max)
        else:
            half = math.floor(rules.alpha / 2)
            self.high = min(bbar + half, rules.b_max)
            self.low = max(bbar - half, rules.b_min)
        self.b_sla = self.bring_in(math.floor((self.low + self.high) / 2))


class FixedSize:
    """`batch_size=fixed`: nothing is learnt, and the four numbers are stored as zeros."""

    def __init__(self, rules: Rules) -> None:
        self.limit = rules.fixed_batch_size
        self.b_mem = self.b_sla = 0
        self.low = self.high = 0.0

    def learn(self, batch: Batch) -> None:
        pass


class Queue:
    """The waiting requests of one bin."""

    def __init__(self, number: int, rules: Rules) -> None:
        self.number = number
        self.rules = rules
        self.waiting: deque[Request] = deque()
        self.size_policy = Controller(rules) if rules.batch_size == "dynamic" else FixedSize(rules)

    @property
    def oldest(self) -> Request:
        return self.waiting[0]

    def join(self, request: Request, now: float) -> None:
        self.waiting.append(request)
        if self.rules.order:
            request.key = self.rules.order(now, request)

    def next(self, now: float) -> Request:
        """The request that the order puts first."""
        if not self.rules.order:
            return self.waiting[0]
        if self.rules.order_changes:
            for request in self.waiting:
                request.key = self.rules.order(now, request)
        return min(self.waiting, key=lambda request: (request.key, request.number))

    def formed_at(self, now: float, last_arrival: float) -> float:
        """Instant at which the queue is formed; infinity for never."""
        if not self.waiting:
            return math.inf
        limit = self.size_policy.limit
        full = self.waiting[limit - 1].arrival if len(self.waiting) >= limit else math.inf
        if self.rules.fill == "greedy":
            formed = self.oldest.arrival
        elif self.rules.fill == "full":
            formed = full
        else:
            formed = min(full, self.oldest.arrival + self.rules.timeout)
        return min(formed, last_arrival) if now >= last_arrival else formed

    def take(self, memory: int, now: float) -> list[Request]:
        """Remove and return the members of the next batch."""
        members: list[Request] = []
        need = 0
        while self.waiting and len(members) < self.size_policy.limit:
            following = self.next(now)
            if need + following.predicted_need > memory:
                break
            need += following.predicted_need
            members.append(following)
            self.waiting.remove(following)
        return members


class Simulator:
    """Runs events in order of time; at each instant completions, then arrivals, then dispatch."""

    def __init__(
        self,
        requests: Sequence[Request],
        num_queues: int,
        num_gpus: int,
        law: Law,
        rules: Rules,
        noise: Sequence[float],
        users: int | None = None,
        think: Sequence[float] = (),
        parents: Sequence[int] | None = None,
        overhead: float = 0.0,  # from sending a request until it joins a queue
    ) -> None:
        self.overhead = overhead
        self.rules = rules
        self.law = law
        self.noise = noise
        self.queues = [Queue(number, rules) for number in range(num_queues)]
        self.idle_gpus = set(range(num_gpus))
        self.running: dict[int, Batch] = {}
        self.last_served = num_queues - 1  # so that round robin begins at queue 0
        self.outcome = Outcome()
        self.events: list[tuple[float, int, int]] = []
        self.requests = {request.place: request for request in requests if self.accept(request)}
        self.think = think
        self.came = 0
        self.caused: dict[int, list[int]] = {}  # by an answer, where conversations have turns
        self.pool: deque[Request] | None = None  # what the users of a closed loop have yet to send
        if users is not None:
            self.pool = deque(self.requests.values())
            self.last_arrival = math.inf  # until it happens
            self.events = [(0.0 + overhead, ARRIVAL, -1)] * users
            return
        if parents is not None:
            for request in requests:
                if parents[request.place] < 0:
                    heapq.heappush(self.events, (request.arrival + overhead, ARRIVAL, request.place))
                else:
                    self.caused.setdefault(parents[request.place], []).append(request.place)
            self.last_arrival = math.inf  # until it happens
            return
        for request in self.requests.values():
            heapq.heappush(self.events, (request.arrival + overhead, ARRIVAL, request.place))
        joins = [request.arrival + overhead for request in self.requests.values()]
        self.last_arrival = max(joins, default=math.inf)

    def accept(self, request: Request) -> bool:
        if request.predicted_need > self.rules.memory:
            reason = "predicted_need_exceeds_memory"
        elif request.true_need > self.rules.memory:
            reason = "true_need_exceeds_memory"
        else:
            return True
        self.outcome.rejected.setdefault(reason, []).append(request.place)
        return False

    def run(self) -> Outcome:
        while self.events:
            now = self.events[0][0]
            while self.events and self.events[0][0] == now:
                _, kind, number = heapq.heappop(self.events)  # by kind, then by GPU or by place
                if kind == GPU_FREE:
                    self.complete(number, now)
                elif kind == ARRIVAL and self.pool is None and number not in self.requests:
                    self.answer(number, now - self.overhead)  # it is rejected, and joins no queue
                elif kind == ARRIVAL and self.pool is None:
                    request = self.requests[number]
                    request.sent = request.arrival if self.is_given(number) else now - self.overhead
                    request.arrival = now
                    self.arrive(request, now)
                    if self.came == len(self.requests):
                        self.last_arrival = now
                elif kind == ARRIVAL and self.pool:
                    request = self.pool.popleft()
                    request.sent, request.arrival = now - self.overhead, now
                    self.arrive(request, now)
                    if not self.pool:
                        self.last_arrival = now
            self.dispatch(now)
        return self.outcome

    def is_given(self, place: int) -> bool:
        """Whether the trace says when a request is sent, and no answer does."""
        return not any(place in turns for turns in self.caused.values())

    def complete(self, gpu: int, now: float) -> None:
        batch = self.running.pop(gpu)
        if self.pool is not None:
            for request in batch.members:
                heapq.heappush(self.events, (now + self.think[request.place] + self.overhead, ARRIVAL, -1))
        for request in batch.members:
            self.answer(request.place, now)
        self.idle_gpus.add(gpu)
        self.queues[batch.queue].size_policy.learn(batch)

    def answer(self, place: int, now: float) -> None:
        for turn in self.caused.get(place, []):
            heapq.heappush(self.events, (now + self.think[turn] + self.overhead, ARRIVAL, turn))

    def arrive(self, request: Request, now: float) -> None:
        self.outcome.sent[request.place] = request.sent
        request.number = self.came
        self.came += 1
        self.queues[request.bin].join(request, now)
        if self.rules.fill == "timeout":
            heapq.heappush(self.events, (request.arrival + self.rules.timeout, TIMEOUT, request.place))

    def dispatch(self, now: float) -> None:
        while self.idle_gpus:
            ready = [queue for queue in self.queues if queue.formed_at(now, self.last_arrival) <= now]
            if not ready:
                return
            queue = self.select(ready, now)
            self.last_served = queue.number
            self.start(queue, min(self.idle_gpus), now)

    def select(self, ready: list[Queue], now: float) -> Queue:
        rule = self.rules.selection
        if rule == "round_robin":
            return min(ready, key=lambda queue: (queue.number - self.last_served - 1) % len(self.queues))
        if rule == "longest_queue":
            return min(ready, key=lambda queue: (-len(queue.waiting), queue.number))
        if rule == "oldest_head":
            return min(ready, key=lambda queue: queue.next(now).number)
        if rule == "first_formed":
            return min(ready, key=lambda queue: (queue.formed_at(now, self.last_arrival), queue.next(now).number))
        assert rule == "shortest_bin"
        return ready[0]

    def start(self, queue: Queue, gpu: int, now: float) -> None:
        policy = queue.size_policy
        limit = policy.limit
        members = queue.take(self.rules.memory, now)
        prompts = [request.prompt for request in members]
        outputs = [request.output for request in members]
        totals = [request.true_need for request in members]
        service, first_token, step = self.law(
            len(members), max(prompts), max(outputs), max(totals), sum(prompts), sum(outputs)
        )
        if len(self.noise):
            factor = self.noise[len(self.outcome.batches)]
            service, first_token, step = service * factor, first_token * factor, step * factor
        batch = Batch(
            start=now,
            finish=now + service,
            first_token=first_token,
            step=step,
            members=members,
            gpu=gpu,
            queue=queue.number,
            limit=limit,
            b_mem=policy.b_mem,
            b_sla=policy.b_sla,
            low=policy.low,
            high=policy.high,
            overflow=sum(totals) > self.rules.memory,
        )
        self.outcome.batches.append(batch)
        self.idle_gpus.remove(gpu)
        self.running[gpu] = batch
        heapq.heappush(self.events, (batch.finish, GPU_FREE, gpu))


def simulate(
    requests: Sequence[Request],
    num_queues: int,
    num_gpus: int,
    law: Law,
    rules: Rules,
    noise: Sequence[float] = (),
    users: int | None = None,
    think: Sequence[float] = (),
    parents: Sequence[int] | None = None,
    overhead: float = 0.0,
) -> Outcome:
    """Serve `requests`, in trace order; return the batches in order of formation and the rejected places by reason."""
    return Simulator(requests, num_queues, num_gpus, law, rules, noise, users, think, parents, overhead).run()
