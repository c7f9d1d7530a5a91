"""Continuous batching as one would write it first: every iteration an event, plain objects, from docs/semantics."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Setup:
    """Names as in the page."""

    memory: int
    gpus: int
    bins: int
    price: Callable[..., float]  # (b, C, N, Q, s) -> seconds
    limit: Callable[..., Any]  # makes the rule of one GPU
    kv: str = "reserve"
    block: int = 16
    prefill: str = "first"
    budget: int = 512
    prefill_max: int | None = None
    admission: str = "budget"
    prefill_memory: str = "held"
    hold_last: bool = True
    reserved_blocks: int = 0
    watermark_pct: float = 0.0
    swap: bool = False
    swap_token: float = 0.0
    underprediction: str = "extend"
    assignment: str = "central"
    serves: str = "any_bin"
    turn: int = 128
    interval: int = 32
    selection: str = "round_robin"
    token_sla: float = math.inf
    sizes: tuple[int, int] = (1, 2**31 - 1)  # of decoding requests, that the law is supported in
    contexts: tuple[int, int] = (1, 2**31 - 1)  # mean tokens of context, likewise
    draws: Sequence[Sequence[float]] = ()
    users: int | None = None  # of a closed loop
    order: Callable[[float, Any], float] | None = None  # None: first in, first out
    order_changes: bool = False  # with time
    think: Sequence[float] = ()  # of a user after the answer to each request, by place


@dataclass
class Req:
    place: int
    arrival: float
    prompt: int
    output: int
    predicted: int
    bin: int
    emitted: int = 0
    computed: int = 0
    state: str = "new"  # new, waiting, prefill, decoding, done
    swapped: bool = False
    need: int = 0
    start: float | None = None
    first: float | None = None
    finish: float | None = None
    gpu: int = -1
    preemptions: int = 0
    last: float = 0.0  # instant of its last token
    stall: float = 0.0  # iterations and pauses since then
    away: bool = False  # has lost its place since then
    claim: Any = None  # what an order knows of it besides
    key: float = 0.0
    class_service: Any = None  # asks what its class was served


@dataclass
class Gpu:
    index: int
    rule: Any
    running: list[Req] = field(default_factory=list)  # in order of admission
    ends: float | None = None
    duration: float = 0.0
    pause: float = 0.0
    copy: int = 0
    decoded: list[Req] = field(default_factory=list)
    chunks: list[tuple[Req, int]] = field(default_factory=list)
    bin: int | None = None
    turn: int = 0
    steps: int = 0
    next_update: int = 0
    limit: int = 0
    given: int = 0
    given_kv: int = 0
    finished: list[Req] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    at_boundary: bool = False


@dataclass
class Iteration:
    gpu: int
    start: float
    decoding: int
    context: int
    prompt_tokens: int
    running: int
    limit: int
    pause: float
    duration: float
    outside: bool  # the range of the law


class Simulation:
    def __init__(self, setup: Setup, requests: list[Req]) -> None:
        self.setup = setup
        whole = setup.memory // setup.block if setup.kv == "paged" else setup.memory
        self.watermark = math.floor(setup.watermark_pct / 100 * whole)
        self.capacity = whole - setup.reserved_blocks
        self.requests = requests
        self.gpus = [Gpu(index, setup.limit()) for index in range(setup.gpus)]
        self.iterations: list[Iteration] = []
        self.gaps: list[float] = []
        self.prefilled = 0
        self.copied = 0
        self.kv_time = 0.0
        self.busy = 0.0
        self.held_max = 0
        self.outgrown = 0
        self.now = 0.0
        self.due = [0.0] * (setup.users or 0)  # when users send their next request, a heap
        sets = 1 if setup.assignment == "central" else setup.gpus
        self.queues: list[list[deque[Req]]] = [[deque() for _ in range(setup.bins)] for _ in range(sets)]
        self.pointer = [0] * sets  # of the round robin over bins
        self.turns: dict[int, int] = {}  # of the round robin over GPUs
        for gpu in self.gpus:
            gpu.limit = gpu.rule.first()
            gpu.next_update = setup.interval
        self.share_of_bin = self._shares()
        self.prompts: dict[int, int] = {}  # tokens served, by class
        self.outputs: dict[int, int] = {}
        self.lifts: dict[int, float] = {}
        for request in requests:
            request.class_service = lambda claim=request.claim: self.counter(claim)

    # Setup.

    def _shares(self) -> list[list[int]]:
        setup = self.setup
        everyone = list(range(setup.gpus))
        if setup.serves in ("any_bin", "one_bin"):
            return [everyone] * setup.bins
        if setup.serves == "equal_share":
            counts = [setup.gpus // setup.bins + (k < setup.gpus % setup.bins) for k in range(setup.bins)]
        else:
            loads = [sum(r.predicted for r in self.requests if r.bin == k) for k in range(setup.bins)]
            if not sum(loads):
                loads = [1] * setup.bins
            spare = setup.gpus - setup.bins
            exact = [spare * load / sum(loads) for load in loads]
            counts = [math.floor(x) for x in exact]
            by_remainder = sorted(range(setup.bins), key=lambda k: (counts[k] - exact[k], k))
            for k in by_remainder[: spare - sum(counts)]:
                counts[k] += 1
            counts = [count + 1 for count in counts]
        shares, first = [], 0
        for count in counts:
            shares.append(everyone[first : first + count])
            first += count
        for k, share in enumerate(shares):
            for index in share:
                self.gpus[index].bin = k
        return shares

    # Memory.

    def hold(self, request: Req, emitted: int) -> int:
        if self.setup.kv == "future":
            return request.prompt + emitted
        if self.setup.kv == "paged":
            return math.ceil((request.prompt + emitted - (not self.setup.hold_last)) / self.setup.block)
        return request.prompt + max(request.predicted, emitted)

    def hold_prefill(self, request: Req, computed: int) -> int:
        """What a request in prefill holds, `computed` tokens of its context being computed or under way."""
        if self.setup.prefill_memory == "held" or computed == request.prompt + request.emitted:
            return self.hold(request, request.emitted + 1)
        return math.ceil(computed / self.setup.block)

    def held(self, gpu: Gpu) -> int:
        return sum(
            self.hold_prefill(r, r.computed) if r.state == "prefill" else self.hold(r, r.emitted) for r in gpu.running
        )

    def chunks(self, gpu: Gpu) -> tuple[dict[int, int], int]:
        """The chunk of each request in prefill in the next iteration, by place, and the budget that is left."""
        left = self.setup.budget - sum(r.state == "decoding" for r in gpu.running)
        found = {}
        for r in gpu.running:
            if r.state == "prefill":
                found[r.place] = min(left, r.prompt + r.emitted - r.computed)
                left -= found[r.place]
        return found, left

    def step_needs(self, gpu: Gpu) -> int:
        more = sum(self.hold(r, r.emitted + 1) - self.hold(r, r.emitted) for r in gpu.running if r.state == "decoding")
        if self.setup.prefill_memory != "held":
            chunks, _ = self.chunks(gpu)
            for r in gpu.running:
                if r.state == "prefill":
                    more += self.hold_prefill(r, r.computed + chunks[r.place]) - self.hold_prefill(r, r.computed)
        return more

    def peak(self, gpu: Gpu, candidate: Req) -> int:
        """The most that a GPU will hold with a candidate, at the end of any of its requests, if predictions hold."""
        rows = []
        for r in [*gpu.running, candidate]:
            pending = r.state == "prefill" or (r is candidate and not r.swapped)
            emitted = r.emitted + (pending and self.setup.prefill == "first")
            rows.append((max(r.predicted - emitted, 0), r.prompt + emitted))
        return max(sum(held + ends for left, held in rows if left >= ends) for ends, _ in rows)

    # Queues.

    def queues_of(self, gpu: Gpu) -> list[deque[Req]]:
        return self.queues[0 if self.setup.assignment == "central" else gpu.index]

    def bound(self, gpu: Gpu) -> bool:
        """Only one bin is open to the GPU now."""
        return self.setup.serves.endswith("share") or (self.setup.serves == "one_bin" and bool(gpu.running))

    def counter(self, claim: Any) -> float:
        """VTC: a prompt token counts once, an output token twice, over the weight of the class."""
        k = claim.of_class
        served = 1.0 * self.prompts.get(k, 0) + 2.0 * self.outputs.get(k, 0)
        return served / claim.weights[k] + self.lifts.get(k, 0.0)

    def lift(self, request: Req) -> None:
        """A class of which nobody waits is lifted to the least that those who wait have."""
        waiting = [r for queues in self.queues for queue in queues for r in queue]
        if not waiting or any(r.claim.of_class == request.claim.of_class for r in waiting):
            return
        least, own = min(self.counter(r.claim) for r in waiting), self.counter(request.claim)
        if own < least:
            k = request.claim.of_class
            self.lifts[k] = self.lifts.get(k, 0.0) + (least - own)

    def put(self, queue: deque[Req], request: Req, front: bool = False) -> None:
        """Put a request into a queue: at an end of it, or where the order of the queue says."""
        if self.setup.order:
            request.key = self.setup.order(self.now, request)
            queue.append(request)
            self.sort(queue)
        elif front:
            queue.appendleft(request)
        else:
            queue.append(request)

    def sort(self, queue: deque[Req]) -> None:
        if self.setup.order_changes:
            for request in queue:
                request.key = self.setup.order(self.now, request)
        waiting = sorted(queue, key=lambda r: (r.key, r.place))
        queue.clear()
        queue.extend(waiting)

    def choose(self, gpu: Gpu) -> tuple[int, int] | None:
        """The queue that the GPU would admit from, and the round robin's pointer after it."""
        queues = self.queues_of(gpu)
        if self.setup.order_changes:
            for queue in queues:
                self.sort(queue)
        which = 0 if self.setup.assignment == "central" else gpu.index
        pointer = self.pointer[which]
        if self.bound(gpu):
            assert gpu.bin is not None
            if not queues[gpu.bin]:
                return None
            others = any(queue for k, queue in enumerate(queues) if k != gpu.bin)
            if self.setup.serves == "one_bin" and gpu.turn >= self.setup.turn and others:
                return None
            return gpu.bin, pointer
        ready = [k for k, queue in enumerate(queues) if queue]
        if not ready:
            return None
        if self.setup.bins == 1:
            return 0, pointer
        rule = self.setup.selection
        if rule == "round_robin":
            k = next((k for k in ready if k >= pointer), ready[0])
            return k, k + 1
        if rule == "longest_queue":
            return max(ready, key=lambda k: (len(queues[k]), -k)), pointer
        if rule == "oldest_head":
            return min(ready, key=lambda k: queues[k][0].place), pointer
        if rule == "first_formed":
            return min(ready, key=lambda k: (queues[k][0].arrival, queues[k][0].place)), pointer
        assert rule == "shortest_bin"
        return ready[0], pointer

    def admissible(self, gpu: Gpu) -> tuple[Req, int] | None:
        """The request that the GPU can admit now, and the pointer after it; apart from the bound on one prefill."""
        if len(gpu.running) >= gpu.limit:
            return None
        choice = self.choose(gpu)
        if choice is None:
            return None
        request = self.queues_of(gpu)[choice[0]][0]
        need = self.hold(request, request.emitted + 1)
        if self.setup.prefill == "chunked" and self.setup.admission == "budget":
            _, left = self.chunks(gpu)
            if left <= 0:
                return None
            if self.setup.prefill_memory == "first_chunk" and not request.swapped:
                need = self.hold_prefill(request, min(left, request.prompt + request.emitted))
        spare = self.watermark if gpu.running else 0
        fits = self.held(gpu) + self.step_needs(gpu) + need + spare <= self.capacity
        if self.setup.kv == "future":
            fits = self.peak(gpu, request) + spare <= self.capacity
        return (request, choice[1]) if fits else None

    # What happens.

    def run(self) -> None:
        arrivals = deque(self.requests)
        while True:
            times = [gpu.ends for gpu in self.gpus if gpu.ends is not None]
            if arrivals:
                times.append(self.next_arrival(arrivals))
            if not times:
                break
            self.now = min(times)
            while True:
                for gpu in self.gpus:
                    if gpu.ends == self.now:
                        self.end(gpu)
                while arrivals and self.next_arrival(arrivals) == self.now:
                    if self.setup.users is not None:
                        arrivals[0].arrival = heapq.heappop(self.due)
                    self.arrive(arrivals.popleft())
                ready = [g for g in self.gpus if g.at_boundary or (not g.running and self.admissible(g) is not None)]
                if not ready:
                    break
                self.start(ready[0])
        assert all(request.finish is not None for request in self.requests)

    def next_arrival(self, arrivals: deque[Req]) -> float:
        if self.setup.users is None:
            return arrivals[0].arrival
        return self.due[0] if self.due else math.inf

    def arrive(self, request: Req) -> None:
        request.state = "waiting"
        request.need = request.prompt + request.predicted
        if request.claim:
            self.lift(request)
        if self.setup.assignment == "central":
            self.put(self.queues[0][request.bin], request)
            return
        share = self.share_of_bin[request.bin]
        gpu = self.gpus[self.assign(request, share)]
        gpu.given += 1
        gpu.given_kv += request.need
        self.put(self.queues[gpu.index][request.bin], request)

    def assign(self, request: Req, share: list[int]) -> int:
        rule = self.setup.assignment
        if rule == "join_shortest":
            return min(share, key=lambda g: (self.gpus[g].given, g))
        if rule == "least_kv":
            return min(share, key=lambda g: (self.gpus[g].given_kv, g))
        if rule == "round_robin":
            turn = self.turns.get(share[0], 0)
            self.turns[share[0]] = turn + 1
            return share[turn % len(share)]
        assert rule == "power_of_two"
        if len(share) == 1:
            return share[0]
        u, v = self.setup.draws[request.place]
        one = share[math.floor(u * len(share))]
        rest = [g for g in share if g != one]
        other = rest[math.floor(v * len(rest))]
        return other if self.gpus[other].given < self.gpus[one].given else one

    def emit(self, gpu: Gpu, request: Req) -> None:
        request.emitted += 1
        if request.emitted == 1:
            request.first = self.now
        else:
            gap = self.now - request.last if request.away and request.state == "prefill" else request.stall
            self.gaps.append(gap)
            if request.state == "decoding":
                gpu.gaps.append(gap)
                if request.claim:
                    self.outputs[request.claim.of_class] = self.outputs.get(request.claim.of_class, 0) + 1
        request.last = self.now
        request.stall = 0.0
        request.away = False

    def end(self, gpu: Gpu) -> None:
        grows = bool(gpu.decoded) or self.setup.prefill_memory != "held"
        self.held_max = max(self.held_max, self.held(gpu) + (self.step_needs(gpu) if grows else 0))
        gpu.ends = None
        gpu.at_boundary = True
        for request in gpu.running:
            request.stall += gpu.pause + gpu.duration
        for request in gpu.decoded:
            self.emit(gpu, request)
        if gpu.decoded:
            gpu.steps += 1
        for request, tokens in gpu.chunks:
            request.computed += tokens
            self.prefilled += tokens
            if request.computed == request.prompt + request.emitted:
                self.emit(gpu, request)
                request.computed = 0
                request.state = "decoding"
                self.leave_or_stay(gpu, request)
        for request in sorted(gpu.decoded, key=lambda r: r.place):
            self.leave_or_stay(gpu, request)

    def leave_or_stay(self, gpu: Gpu, request: Req) -> None:
        if request.emitted == request.output:
            gpu.running.remove(request)
            request.state = "done"
            request.finish = self.now
            gpu.given -= 1
            gpu.given_kv -= request.need
            gpu.finished.append(request)
            if self.setup.users is not None:
                heapq.heappush(self.due, self.now + self.setup.think[request.place])
            return
        rule = self.setup.underprediction
        if self.setup.kv == "reserve" and rule == "extend":
            began = request not in gpu.decoded
            self.outgrown += request.emitted >= request.predicted if began else request.emitted == request.predicted
        if self.setup.kv == "reserve" and rule != "extend" and request.emitted >= request.predicted:
            self.outgrown += 1
            gpu.running.remove(request)
            request.predicted = min(2 * request.predicted, self.setup.memory - request.prompt)
            self.put_back(gpu, request, front=rule == "preempt")

    def put_back(self, gpu: Gpu, request: Req, front: bool) -> None:
        request.swapped = self.setup.swap and request.state == "decoding"
        if request.swapped:
            gpu.copy += request.prompt + request.emitted
            self.copied += request.prompt + request.emitted
        request.state = "waiting"
        request.computed = 0
        request.preemptions += 1
        request.away = True
        self.put(self.queues_of(gpu)[request.bin], request, front)

    def start(self, gpu: Gpu) -> None:
        setup = self.setup
        gpu.at_boundary = False
        if gpu.steps >= gpu.next_update:
            queues = self.queues_of(gpu)
            waiting = len(queues[gpu.bin]) if self.bound(gpu) else sum(len(queue) for queue in queues)
            waiting += sum(r.state == "prefill" for r in gpu.running)
            gpu.limit = gpu.rule.update(len(gpu.running), waiting, gpu.finished, gpu.gaps, setup.interval)
            gpu.finished, gpu.gaps = [], []
            gpu.next_update = gpu.steps + setup.interval

        preempted = False
        while self.held(gpu) + self.step_needs(gpu) > self.capacity:
            self.put_back(gpu, gpu.running.pop(), front=True)
            preempted = True

        prefill_tokens = 0
        while not preempted:
            found = self.admissible(gpu)
            if found is None:
                break
            request, pointer = found
            length = request.prompt + request.emitted
            if setup.prefill == "first" and not request.swapped and setup.prefill_max is not None:
                if prefill_tokens and prefill_tokens + length > setup.prefill_max:
                    break
                prefill_tokens += length
            self.pointer[0 if setup.assignment == "central" else gpu.index] = pointer
            self.queues_of(gpu)[request.bin].popleft()
            if not gpu.running:
                gpu.bin, gpu.turn = request.bin, 0
            gpu.turn += 1
            gpu.running.append(request)
            request.gpu = gpu.index
            if request.start is None:
                request.start = self.now
                if request.claim:
                    k = request.claim.of_class
                    self.prompts[k] = self.prompts.get(k, 0) + request.prompt
            if request.swapped:
                request.state = "decoding"
                request.stall = self.now - request.last
                gpu.copy += length
                self.copied += length
                request.swapped = False
                self.outgrown += setup.kv == "reserve" and request.emitted >= request.predicted
            else:
                request.state = "prefill"

        if not gpu.running:
            self.copied -= gpu.copy  # unseen
            gpu.copy = 0
            return
        gpu.pause = gpu.copy * setup.swap_token
        gpu.copy = 0
        in_prefill = [r for r in gpu.running if r.state == "prefill"]
        decoding = [r for r in gpu.running if r.state == "decoding"]
        gpu.chunks = []
        if setup.prefill == "first":
            gpu.decoded = [] if in_prefill else decoding
            gpu.chunks = [(r, r.prompt + r.emitted) for r in in_prefill]
        else:
            gpu.decoded = decoding
            left = setup.budget - len(decoding)
            for r in in_prefill:
                tokens = min(left, r.prompt + r.emitted - r.computed)
                if tokens > 0:
                    gpu.chunks.append((r, tokens))
                    left -= tokens
        context = sum(r.prompt + r.emitted for r in gpu.decoded)
        tokens = sum(n for _, n in gpu.chunks)
        squares = sum((r.computed + n) ** 2 - r.computed**2 for r, n in gpu.chunks)
        ended = sum(r.computed + n == r.prompt + r.emitted for r, n in gpu.chunks)
        used = sum(r.prompt + r.emitted for r in decoding) + sum(r.computed for r in in_prefill)
        self.held_max = max(self.held_max, self.held(gpu))
        gpu.duration = setup.price(len(gpu.decoded), context, tokens, squares, ended)
        gpu.ends = self.now + gpu.pause + gpu.duration
        self.kv_time += gpu.pause * used + gpu.duration * (used + tokens)
        self.busy += gpu.pause + gpu.duration
        b = len(gpu.decoded)
        outside = not setup.sizes[0] <= b <= setup.sizes[1]
        outside = outside or not b * setup.contexts[0] <= context <= b * setup.contexts[1]
        self.iterations.append(
            Iteration(
                gpu.index, self.now, b, context, tokens, len(gpu.running), gpu.limit, gpu.pause, gpu.duration, outside
            )
        )


class Cap:
    """The limit of batch_size=fixed."""

    def __init__(self, size: int) -> None:
        self.size = size

    def first(self) -> int:
        return self.size

    def update(self, *_: Any) -> int:
        return self.size


class Dynamic:
    """The limit of batch_size=dynamic."""

    def __init__(self, **constants: Any) -> None:
        self.__dict__.update(constants)
        self.seen: list[Req] = []
        self.pairs: list[tuple[float, float]] = []
        self.count = 0
        self.low, self.high = float(self.b_min), float(self.b_max)
        self.b_mem: float = self.b_max
        self.b_sla: float = math.floor((self.b_min + self.b_max) / 2)

    def first(self) -> int:
        return int(min(self.b_mem, self.b_sla))

    def update(self, running: int, waiting: int, finished: list[Req], gaps: list[float], steps: int) -> int:
        lowest = max(self.b_min, running)
        self.seen += finished
        if self.seen and running and waiting:
            totals = [r.prompt + r.output for r in self.seen]
            mu = sum(totals) / len(totals)
            sigma = math.sqrt(max(sum(x * x for x in totals) / len(totals) - mu * mu, 0.0))
            if self.rule == "original":
                b = math.floor((self.eta - 0.1 * self.eta) / mu)
            elif self.rule == "printed":
                b = math.floor(running + sigma * self.theta * math.sqrt(running) / mu)
            else:
                s = sigma * self.theta
                b = math.floor(((math.sqrt(s * s + 4.0 * mu * self.eta) - s) / (2.0 * mu)) ** 2)
            self.b_mem = min(max(b, lowest), self.b_max)
        self.pairs.append((sum(gaps) / len(gaps), len(gaps) / steps))
        self.count += 1
        if self.count % self.every == 0:
            recent = self.pairs[-self.window :]
            tau = sum(pair[0] for pair in recent) / len(recent)
            bbar = sum(pair[1] for pair in recent) / len(recent)
            low, high = self.low, self.high
            if tau > self.target + self.tolerance:
                self.high, self.low = max(bbar, low + self.alpha), max(low - self.delta, self.b_min)
            elif tau < self.target - self.tolerance:
                self.low, self.high = min(bbar, high - self.alpha), min(high + self.delta, self.b_max)
            else:
                half = math.floor(self.alpha / 2)
                self.high, self.low = min(bbar + half, self.b_max), max(bbar - half, self.b_min)
            self.b_sla = min(max(math.floor((self.low + self.high) / 2), lowest), self.b_max)
        return int(min(self.b_mem, self.b_sla))
