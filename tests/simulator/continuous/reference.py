"""Continuous batching as one would write it first: every iteration an event, plain objects, from docs/semantics."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tests.simulator.continuous.reference_cache import Cache, CacheSetup


def murmur3_finalizer(h: int) -> int:
    """Austin Appleby's fmix32."""
    h ^= h >> 16
    h = h * 0x85EBCA6B % 2**32
    h ^= h >> 13
    h = h * 0xC2B2AE35 % 2**32
    return h ^ h >> 16


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
    output_reserve: str = "none"
    conservativeness: float = 1.0
    overhead: float = 0.0  # from a request's arrival until it joins a queue
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
    preempt: bool = False  # a head displaces who runs
    preempt_share: float | None = None
    preempt_margin: float = 0.0
    wait: str = "none"  # for newcomers, before an iteration begins
    future_estimate: str = "predicted"
    future_history: int = 200
    estimate_seed: int = 0
    least_gives_way: bool = False
    restart: bool = False  # who is preempted loses its tokens, too
    think: Sequence[float] = ()  # of a user after the answer to each request, by place; or before each turn
    parents: Sequence[int] | None = None  # of turns: the request whose answer causes each, by place; -1: none
    rejected: Sequence[Req] = ()  # turns that are answered when they come
    cache: CacheSetup | None = None
    router: str = "none"
    homes: Sequence[float] = ()


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
    routed: int = -1
    number: int = -1  # in the order in which requests came
    joined: float = 0.0  # its arrival as a queue sees it
    found: int = 0  # blocks of others that it uses in place since its admission
    used: list[int] = field(default_factory=list)  # these, and those of its prompt that others can find
    skipped: int | None = None  # tokens found computed at first admission
    claim: Any = None  # what an order knows of it besides
    key: float = 0.0
    first_predicted: int = 0  # before it was doubled
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
    preempted: bool = False  # in the start that is under way
    prefill_tokens: int = 0  # admitted to prefill in it
    share: float = 0.0  # of the outputs to come
    open_types: dict[int, int] = field(default_factory=dict)  # how many of each type it may still take
    paused: float | None = None  # since when it waits for newcomers, with requests on it
    closed: bool = False
    gone: int = 0  # completed with a decode step, since the last one began
    made: int = 0  # iterations
    history: deque[int] = field(default_factory=deque)


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
        self.coming: list[tuple[float, int]] = []  # when requests come that an answer caused, or none: a heap
        self.came: list[Req] = []
        sets = 1 if setup.assignment == "central" else setup.gpus
        self.queues: list[list[deque[Req]]] = [[deque() for _ in range(setup.bins)] for _ in range(sets)]
        self.pointer = [0] * sets  # of the round robin over bins
        self.turns: dict[int, int] = {}  # of the round robin over GPUs
        for gpu in self.gpus:
            gpu.limit = gpu.rule.first()
            gpu.next_update = setup.interval
            gpu.share = self.first_share()
            half = max(setup.future_history // 2, 1)
            gpu.history = deque([max((r.predicted for r in requests), default=1)] * half, setup.future_history)
        self.share_of_bin = self._shares()
        many = 1 if setup.cache and setup.cache.shared else setup.gpus
        self.caches = [Cache(setup.cache) for _ in range(many)] if setup.cache else []
        self.looked = self.hits = self.hit_requests = self.skipped = 0
        self.order = setup.order
        if (setup.kv == "future" or setup.wait != "none") and self.order is None:
            self.order = lambda now, request: request.joined  # who is preempted waits by it too
        self.prompts: dict[int, int] = {}  # tokens served, by class
        self.outputs: dict[int, int] = {}
        self.lifts: dict[int, float] = {}
        for request in requests:
            request.class_service = lambda claim=request.claim: self.counter(claim)
            request.first_predicted = request.predicted

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
        return max(math.ceil(computed / self.setup.block), request.found)

    def held(self, gpu: Gpu) -> int:
        """What requests hold; blocks that several use in place are held once."""
        own = sum(
            (self.hold_prefill(r, r.computed) if r.state == "prefill" else self.hold(r, r.emitted)) - len(r.used)
            for r in gpu.running
        )
        return own + self.in_use(gpu)

    def in_use(self, gpu: Gpu) -> int:
        """Blocks that requests of a GPU use in place: of each span as many as are kept."""
        if not self.in_memory:
            return 0
        cache = self.caches[gpu.index]
        return sum(users > 0 for users in cache.users.values())

    @property
    def in_memory(self) -> bool:
        return self.setup.cache is not None and self.setup.cache.size is None

    # The prefix cache.

    def cache_of(self, gpu: Gpu) -> Cache:
        return self.caches[0 if len(self.caches) == 1 else gpu.index]

    def path(self, request: Req) -> list[Any]:
        assert self.setup.cache is not None
        return (self.setup.cache.contexts if request.emitted else self.setup.cache.prompts)[request.place]

    def look_up(self, gpu: Gpu, request: Req) -> tuple[int, int, int]:
        """Blocks found, those of them in use, and tokens to skip."""
        if self.setup.cache is None:
            return 0, 0, 0
        tokens, length = self.setup.cache.tokens, request.prompt + request.emitted
        cache, path = self.cache_of(gpu), self.path(request)
        found = min(cache.find(path), math.ceil(length / tokens))
        skipped = min(found, (length - 1) // tokens) * tokens
        if not self.in_memory:
            return 0, 0, skipped
        blocks = [block for _, blocks in path for block in blocks][:found]
        return found, sum(cache.users[block] > 0 for block in blocks), skipped

    def use_found(self, gpu: Gpu, request: Req, found: int, skipped: int) -> None:
        cache, path = self.cache_of(gpu), self.path(request)
        self.skipped += skipped
        if request.skipped is None:
            request.skipped = skipped
            hits = found if self.in_memory else cache.find(path)
            self.looked += sum(len(blocks) for _, blocks in path)
            self.hits += hits
            self.hit_requests += hits > 0
        if self.in_memory:
            request.found = found
            request.used = cache.use(path, found)

    def share(self, gpu: Gpu, request: Req) -> None:
        assert self.setup.cache is not None
        path = self.setup.cache.prompts[request.place]
        if self.in_memory and len(request.used) < sum(len(blocks) for _, blocks in path):
            request.used = self.cache_of(gpu).share(path, request.used)

    def free(self, gpu: Gpu, request: Req, tokens: int) -> None:
        """A request has left `gpu.running`; so many tokens of its context are computed."""
        if not self.in_memory:
            return
        assert self.setup.cache is not None
        full = tokens // self.setup.cache.tokens
        if tokens >= request.prompt:
            full = max(full, sum(len(blocks) for _, blocks in self.setup.cache.prompts[request.place]))
        self.cache_of(gpu).leave(self.setup.cache.contexts[request.place], request.used, full, request.place)
        request.used, request.found = [], 0

    def make_way(self, gpu: Gpu, more: int = 0) -> None:
        if self.in_memory:
            self.cache_of(gpu).evict(self.capacity - self.held(gpu) - more)

    def chunks(self, gpu: Gpu) -> tuple[dict[int, int], int]:
        """The chunk of each request in prefill in the next iteration, by place, and the budget that is left."""
        left = self.setup.budget
        if self.setup.prefill == "chunked":
            left -= sum(r.state == "decoding" for r in gpu.running)
        found = {}
        for r in gpu.running:
            if r.state == "prefill":
                found[r.place] = min(left, r.prompt + r.emitted - r.computed)
                left -= found[r.place]
        return found, left

    def tokens_need(self, gpu: Gpu) -> int:
        return sum(self.hold(r, r.emitted + 1) - self.hold(r, r.emitted) for r in gpu.running if r.state == "decoding")

    def chunks_need(self, gpu: Gpu) -> int:
        if self.setup.prefill_memory == "held":
            return 0
        chunks, _ = self.chunks(gpu)
        return sum(
            self.hold_prefill(r, r.computed + chunks[r.place]) - self.hold_prefill(r, r.computed)
            for r in gpu.running
            if r.state == "prefill"
        )

    def step_needs(self, gpu: Gpu) -> int:
        return self.tokens_need(gpu) + self.chunks_need(gpu)

    # A share of the outputs to come.

    def first_share(self) -> float:
        return min(1.0, 0.7 * self.setup.conservativeness)

    def least_share(self) -> float:
        return 0.14 * self.first_share()

    def allowed(self, request: Req) -> int:
        block = self.setup.block
        beside = self.capacity * block - math.ceil(request.prompt / block) * block - block - 1
        return max(min(request.predicted, beside), 0)

    def to_come(self, request: Req) -> int:
        return min(max(self.allowed(request) - request.emitted, 0), 4096)

    def charge(self, request: Req, chunk: int) -> int:
        ends = request.computed + chunk == request.prompt + request.emitted
        return (math.ceil(chunk / self.setup.block) + 1) * self.setup.block + ends * min(self.allowed(request), 4096)

    def room(self, gpu: Gpu) -> float:
        chunks, _ = self.chunks(gpu)
        taken = sum(self.charge(r, chunks[r.place]) for r in gpu.running if r.state == "prefill")
        outputs = sum(self.to_come(r) for r in gpu.running if r.state == "decoding")
        return (self.capacity - self.held(gpu)) * self.setup.block - taken - gpu.share * outputs

    def stood_idle(self, gpu: Gpu) -> None:
        gpu.share, gpu.closed, gpu.gone = self.first_share(), False, 0

    def admit_by_share(self, gpu: Gpu) -> None:
        if not gpu.running and (gpu.closed or gpu.gone >= gpu.limit):
            self.stood_idle(gpu)
        if gpu.closed:
            return
        room = self.room(gpu)
        while self.chunks(gpu)[1] > 0:
            if len(gpu.running) + gpu.gone >= gpu.limit:
                gpu.closed = any(self.queues_of(gpu))
                return
            choice = self.choose(gpu)
            if choice is None:
                return
            request = self.queues_of(gpu)[choice[0]][0]
            length = request.prompt + request.emitted
            if gpu.running and not length + self.to_come(request) + self.setup.block < room:
                gpu.closed = True
                return
            left = self.chunks(gpu)[1]
            self.take(gpu, request, choice[1])
            room -= self.charge(request, min(left, length))
            if room <= 0:
                gpu.closed = True
                return

    def retract(self, gpu: Gpu) -> None:
        """Before a decode step: who gives way, and what share is kept for those who stay."""
        if not gpu.running:
            self.stood_idle(gpu)
        if not gpu.running or any(r.state == "prefill" for r in gpu.running):
            return
        if gpu.gone:
            gpu.closed = False
        gpu.gone = 0
        if self.held(gpu) + self.tokens_need(gpu) <= self.capacity:
            gpu.share = max(gpu.share - (self.first_share() - self.least_share()) / 600, self.least_share())
            return
        while self.held(gpu) + self.tokens_need(gpu) > self.capacity:
            last = min(reversed(gpu.running), key=lambda r: (r.emitted, -r.prompt))
            gpu.running.remove(last)
            self.put_back(gpu, last, front=False)
        outputs = sum(r.emitted for r in gpu.running) + 20 * len(gpu.running)
        gpu.share = min(1.0, outputs / max(sum(self.allowed(r) for r in gpu.running), 1))
        gpu.closed = False

    def peak(self, gpu: Gpu, candidate: Req) -> int:
        """The most that a GPU will hold with a candidate, at the end of any of its requests, if estimates hold."""
        lists = min(200 // max(len(gpu.running), 1) + 1, 5) if self.setup.future_estimate == "history" else 1
        peaks = []
        for number in range(1, lists + 1):
            rows = []
            for r in [*gpu.running, candidate]:
                pending = r.state == "prefill" or (r is candidate and not r.swapped)
                emitted = r.emitted + (pending and self.setup.prefill != "chunked")
                expected = self.expected(gpu, r, emitted, number)
                rows.append((max(expected - emitted, 0), r.prompt + emitted))
            peaks.append(max(sum(held + ends for left, held in rows if left >= ends) for ends, _ in rows))
        return max(peaks)

    def expected(self, gpu: Gpu, request: Req, emitted: int, number: int) -> int:
        """The output that is expected of a request, in one of the lists that are drawn."""
        if self.setup.future_estimate == "lightllm":
            return min(request.predicted, max(math.floor(emitted * 11 / 10), 1024))
        if self.setup.future_estimate != "history":
            return request.predicted
        known = sorted(gpu.history)
        u = 0
        for part in (self.setup.estimate_seed, gpu.index, gpu.made, request.number, number):
            u = murmur3_finalizer((u ^ part) % 2**32)
        if request.state != "decoding":
            return min(known[math.floor(u / 2**32 * len(known))], request.predicted)
        points = [request.emitted, *(x for x in known if x > request.emitted), request.predicted]
        at = u / 2**32 * (len(points) - 1)
        before = math.floor(at)
        drawn = points[before] + (points[before + 1] - points[before]) * (at - before)
        return min(math.floor(drawn + 0.5), request.predicted)

    # Waiting for newcomers.

    def places_due(self, gpu: Gpu) -> dict[int, int]:
        """How many newcomers an iteration of the GPU takes of each type that anyone belongs to."""
        every = [r.first_predicted for r in self.requests]
        found = {}
        for k in range(self.setup.bins):
            own = [r.first_predicted for r in self.requests if r.bin == k]
            if not own:
                continue
            newcomers = max(1, math.floor(Fraction(gpu.limit * len(own), sum(every))))
            most = max(1, math.floor(Fraction(gpu.limit * sum(own), sum(every))))
            room = most - sum(r.bin == k for r in gpu.running)
            found[k] = newcomers if self.setup.wait == "strict" else min(newcomers, room)
        return found

    def filled(self, gpu: Gpu) -> bool:
        ready = [len(self.queues_of(gpu)[k]) >= number for k, number in self.places_due(gpu).items()]
        enough = any(ready) if self.setup.wait == "any_type" else all(ready)
        return enough or len(gpu.running) >= gpu.limit or len(self.came) == len(self.requests)

    def goes(self, gpu: Gpu) -> bool:
        """A GPU without an iteration under way would begin one."""
        return gpu.ends is None and bool(gpu.running or any(self.queues_of(gpu))) and self.filled(gpu)

    def start_or_pause(self, gpu: Gpu) -> None:
        self.open(gpu)
        if not self.filled(gpu):
            if not gpu.running:
                self.begin(gpu)  # it is empty
            elif gpu.paused is None:
                gpu.paused = self.now
            return
        if gpu.paused is not None:
            seconds, gpu.paused = self.now - gpu.paused, None
            for r in gpu.running:
                r.stall += seconds
                self.kv_time += seconds * (r.computed if r.state == "prefill" else r.prompt + r.emitted)
        gpu.open_types = self.places_due(gpu)
        while self.admit(gpu):
            pass
        self.begin(gpu)

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
        if self.order:
            request.key = self.order(self.now, request)
            queue.append(request)
            self.sort(queue)
        elif front:
            queue.appendleft(request)
        else:
            queue.append(request)

    def sort(self, queue: deque[Req]) -> None:
        if self.setup.order_changes:
            for request in queue:
                request.key = self.order(self.now, request)
        waiting = sorted(queue, key=lambda r: (r.key, r.number))
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
        if self.setup.wait != "none":
            taken = [k for k in ready if gpu.open_types.get(k, 0) > 0]
            return (min(taken, key=lambda k: queues[k][0].number), pointer) if taken else None
        if self.setup.bins == 1:
            return 0, pointer
        rule = self.setup.selection
        if rule == "round_robin":
            k = next((k for k in ready if k >= pointer), ready[0])
            return k, k + 1
        if rule == "longest_queue":
            return max(ready, key=lambda k: (len(queues[k]), -k)), pointer
        if rule == "oldest_head":
            return min(ready, key=lambda k: queues[k][0].number), pointer
        if rule == "first_formed":
            return min(ready, key=lambda k: (queues[k][0].arrival, queues[k][0].number)), pointer
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
        if self.setup.output_reserve == "ratio":
            return None if gpu.running else (request, choice[1])
        if self.setup.prefill != "first" and self.setup.admission != "any":
            _, left = self.chunks(gpu)
            if left <= 0:
                return None
            too_long = request.prompt + request.emitted > left
            if self.setup.admission == "whole" and gpu.running and too_long and not request.swapped:
                return None
        return (request, choice[1]) if self.has_memory(gpu, request) else None

    def has_memory(self, gpu: Gpu, request: Req) -> bool:
        """What the admission of a request needs is free, and what outputs to come need."""
        need = self.hold(request, request.emitted + 1)
        found, in_use, skipped = self.look_up(gpu, request)
        if self.setup.output_reserve == "full":
            promised = sum(self.hold(r, r.predicted) for r in [*gpu.running, request])
            if promised > self.capacity:
                return False
        if self.setup.prefill_memory == "first_chunk" and not request.swapped:
            left = self.chunks(gpu)[1]
            request.found = found
            need = self.hold_prefill(request, min(skipped + left, request.prompt + request.emitted))
        spare = self.watermark if gpu.running else 0
        fits = self.held(gpu) + self.step_needs(gpu) + need - in_use + spare <= self.capacity
        if self.setup.kv == "future":
            beside = request.swapped or self.setup.prefill == "chunked"  # the next iteration decodes
            fits = (fits or not beside) and self.peak(gpu, request) + spare <= self.capacity
        return fits

    # What happens.

    def run(self) -> None:
        if self.setup.parents is not None:
            self.run_turns()
            return
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
                ready = self.ready()
                if not ready:
                    break
                self.start(ready)
        assert all(request.finish is not None for request in self.requests)

    def ready(self) -> list[Gpu]:
        """The GPUs that stand at a boundary, and the empty ones that could admit; or that would go on."""
        if self.setup.wait != "none":
            return [g for g in self.gpus if g.at_boundary or self.goes(g)]
        return [g for g in self.gpus if g.at_boundary or (not g.running and self.admissible(g) is not None)]

    def start(self, ready: list[Gpu]) -> None:
        """Start those that share queues together, else the first."""
        if self.setup.wait != "none":
            self.start_or_pause(ready[0])
            return
        if self.setup.assignment == "central":
            self.start_together([g for g in self.gpus if g.at_boundary or not g.running])
            return
        self.open(ready[0])
        if self.setup.output_reserve == "ratio":
            self.admit_by_share(ready[0])
            self.retract(ready[0])
        else:
            while self.admit(ready[0]):
                pass
        self.begin(ready[0])

    def run_turns(self) -> None:
        """As `run`, with requests that come when others are answered."""
        parents = self.setup.parents
        assert parents is not None
        every = {request.place: request for request in [*self.requests, *self.setup.rejected]}
        kept = {request.place for request in self.requests}
        for place, request in every.items():
            if parents[place] < 0:
                heapq.heappush(self.coming, (request.arrival, place))
        while True:
            times = [gpu.ends for gpu in self.gpus if gpu.ends is not None] + [when for when, _ in self.coming[:1]]
            if not times:
                break
            self.now = min(times)
            while True:
                for gpu in self.gpus:
                    if gpu.ends == self.now:
                        self.end(gpu)
                while self.coming and self.coming[0][0] == self.now:
                    _, place = heapq.heappop(self.coming)
                    if place not in kept:
                        self.answer(place)
                        continue
                    every[place].arrival = self.now
                    self.arrive(every[place])
                ready = self.ready()
                if not ready:
                    break
                self.start(ready)
        assert all(request.finish is not None for request in self.requests)
        self.requests = self.came

    def answer(self, place: int) -> None:
        for turn, parent in enumerate(self.setup.parents or ()):
            if parent == place:
                heapq.heappush(self.coming, (self.now + self.setup.think[turn], turn))

    def next_arrival(self, arrivals: deque[Req]) -> float:
        if self.setup.users is None:
            return arrivals[0].arrival + self.setup.overhead
        return self.due[0] + self.setup.overhead if self.due else math.inf

    def arrive(self, request: Req) -> None:
        request.state = "waiting"
        request.number, request.joined = len(self.came), self.now
        self.came.append(request)
        request.need = request.prompt + request.predicted
        if request.claim:
            self.lift(request)
        if self.setup.assignment == "central":
            self.put(self.queues[0][request.bin], request)
            return
        share = self.share_of_bin[request.bin]
        gpu = self.gpus[self.assign(request, share)]
        request.routed = gpu.index
        gpu.given += 1
        gpu.given_kv += request.need
        self.put(self.queues[gpu.index][request.bin], request)

    def assign(self, request: Req, share: list[int]) -> int:
        rule = self.setup.assignment
        if self.setup.router != "none":
            return self.route(request, share)
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

    def route(self, request: Req, share: list[int]) -> int:
        """What public routers do, by name."""
        if self.setup.router == "session_affinity":
            return share[math.floor(self.setup.homes[request.place] * len(share))]
        assert self.setup.cache is not None
        paths = self.setup.cache.prompts

        def blocks(r: Req) -> int:
            return sum(len(each) for _, each in paths[r.place])

        given = {g: [r for r in self.came if r.routed == g and r.finish is None] for g in share}
        found = {g: self.cache_of(self.gpus[g]).find(paths[request.place]) for g in share}
        if self.setup.router == "prefix_dynamo":

            def cost(g: int) -> int:
                to_compute = sum(blocks(r) for r in given[g] if r.first is None)
                decode = sum(blocks(r) for r in given[g] if r.first is not None)
                return max(to_compute + blocks(request) - found[g], 0) + decode + blocks(request)

            return min(share, key=lambda g: (cost(g), g))
        least = min(share, key=lambda g: (len(given[g]), g))
        if self.setup.router == "prefix_sglang":
            low, high = len(given[least]), max(len(each) for each in given.values())
            if high - low > 64 and high > 1.5 * low:
                return least
            longest = max(share, key=lambda g: (found[g], -g))
            return longest if found[longest] > 0.3 * blocks(request) else least
        assert self.setup.router == "prefix_llm_d"
        waiting = {g: sum(len(queue) for queue in self.queues[g]) for g in share}
        low, high = min(waiting.values()), max(waiting.values())

        def score(g: int) -> float:
            queue = 1.0 if high == low else (high - waiting[g]) / (high - low)
            free = max(0.0, 1.0 - self.gpus[g].given_kv / self.setup.memory)
            return 2 * queue + 2 * free + 3 * (found[g] / blocks(request) if blocks(request) else 0.0)

        return max(share, key=lambda g: (score(g), -g))

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
        more = (self.tokens_need(gpu) if gpu.decoded else 0) + self.chunks_need(gpu)
        self.held_max = max(self.held_max, self.held(gpu) + more)
        self.make_way(gpu, more)
        gpu.ends = None
        gpu.made += 1
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
                if self.setup.cache is not None:
                    self.share(gpu, request)
                    if not self.in_memory:
                        self.cache_of(gpu).keep(self.setup.cache.prompts[request.place], request.place)
                request.found = 0
                self.emit(gpu, request)
                request.computed = 0
                request.state = "decoding"
                self.leave_or_stay(gpu, request)
        for request in sorted(gpu.decoded, key=lambda r: r.number):
            self.leave_or_stay(gpu, request)

    def leave_or_stay(self, gpu: Gpu, request: Req) -> None:
        if request.emitted == request.output:
            gpu.running.remove(request)
            self.free(gpu, request, request.prompt + request.emitted - 1)
            if self.setup.cache is not None and not self.in_memory and self.setup.cache.answers_known:
                self.cache_of(gpu).keep(self.setup.cache.contexts[request.place], request.place)
            if request in gpu.decoded:
                gpu.gone += 1
            else:
                gpu.closed = False
            request.state = "done"
            request.finish = self.now
            gpu.given -= 1
            gpu.given_kv -= request.need
            gpu.finished.append(request)
            gpu.history.append(request.output)
            if self.setup.users is not None:
                heapq.heappush(self.due, self.now + self.setup.think[request.place])
            self.answer(request.place)
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
        if self.setup.restart:
            request.predicted, request.emitted = max(request.predicted, request.emitted), 0
        request.state = "waiting"
        request.computed = 0
        request.preemptions += 1
        request.away = True
        self.put(self.queues_of(gpu)[request.bin], request, front)

    def start_together(self, gpus: list[Gpu]) -> None:
        for gpu in gpus:
            self.open(gpu)
        emptiest_first = sorted(gpus, key=lambda g: (len(g.running), g.index))
        while any(self.admit(gpu) for gpu in emptiest_first):
            emptiest_first.sort(key=lambda g: (len(g.running), g.index))
        for gpu in gpus:
            self.begin(gpu)

    def open(self, gpu: Gpu) -> None:
        setup = self.setup
        gpu.at_boundary = False
        if gpu.steps >= gpu.next_update:
            queues = self.queues_of(gpu)
            waiting = len(queues[gpu.bin]) if self.bound(gpu) else sum(len(queue) for queue in queues)
            memory = (waiting, self.held(gpu), self.capacity)
            waiting += sum(r.state == "prefill" for r in gpu.running)
            gpu.limit = gpu.rule.update(len(gpu.running), waiting, gpu.finished, gpu.gaps, setup.interval, memory)
            gpu.finished, gpu.gaps = [], []
            gpu.next_update = gpu.steps + setup.interval

        gpu.preempted = False
        gpu.prefill_tokens = 0
        if setup.output_reserve == "ratio":
            return
        while self.held(gpu) + self.step_needs(gpu) > self.capacity:
            last = gpu.running[-1]
            if setup.least_gives_way:
                last = min(reversed(gpu.running), key=lambda r: max(r.predicted, r.emitted))
            gpu.running.remove(last)
            self.free(gpu, last, last.computed if last.state == "prefill" else last.prompt + last.emitted - 1)
            self.put_back(gpu, last, front=True)
            gpu.preempted = True

        if not gpu.preempted and self.in_memory and setup.prefill == "chunked" and self.chunks(gpu)[1] > 0:
            for r in gpu.running:
                if r.state == "prefill":
                    self.share(gpu, r)

    def admit(self, gpu: Gpu) -> bool:
        """Admit one request, if the GPU can."""
        if gpu.preempted and not (self.setup.least_gives_way and self.setup.prefill == "chunked"):
            return False
        found = self.admissible(gpu)
        while found is None and self.displace(gpu):
            found = self.admissible(gpu)
        return found is not None and self.take(gpu, *found)

    def displace(self, gpu: Gpu) -> bool:
        """Let the head take the place of the last request that runs, where limit or memory keeps it out."""
        setup, queue = self.setup, self.queues_of(gpu)[0]
        if not setup.preempt or not queue:
            return False
        if setup.prefill != "first" and setup.admission != "any" and self.chunks(gpu)[1] <= 0:
            return False
        if len(gpu.running) < gpu.limit and self.has_memory(gpu, queue[0]):
            return False
        share = math.inf if setup.preempt_share is None else setup.preempt_share
        keys = [(self.order(self.now, r), r.number, r) for r in gpu.running if r.emitted <= share * r.predicted]
        if not keys:
            return False
        key, _, last = max(keys)
        if not queue[0].key + setup.preempt_margin < key:
            return False
        gpu.running.remove(last)
        self.free(gpu, last, last.computed if last.state == "prefill" else last.prompt + last.emitted - 1)
        self.put_back(gpu, last, front=True)
        return True

    def take(self, gpu: Gpu, request: Req, pointer: int) -> bool:
        """Admit a request, unless a prefill would pass its most tokens."""
        setup = self.setup
        length = request.prompt + request.emitted
        found_blocks, _, skipped = self.look_up(gpu, request)
        if setup.prefill == "first" and not request.swapped and setup.prefill_max is not None:
            if gpu.prefill_tokens and gpu.prefill_tokens + length - skipped > setup.prefill_max:
                return False
            gpu.prefill_tokens += length - skipped
        self.pointer[0 if setup.assignment == "central" else gpu.index] = pointer
        self.queues_of(gpu)[request.bin].popleft()
        if setup.wait != "none":
            gpu.open_types[request.bin] -= 1
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
            left = self.chunks(gpu)[1]
            request.state = "prefill"
            if setup.cache is not None:
                request.computed = skipped
                self.use_found(gpu, request, found_blocks, skipped)
                if setup.prefill == "first" or setup.admission == "any" or left >= length - skipped:
                    self.share(gpu, request)
                self.make_way(gpu)
        return True

    def begin(self, gpu: Gpu) -> None:
        setup = self.setup
        if not gpu.running:
            self.copied -= gpu.copy  # unseen
            gpu.copy = 0
            return
        gpu.pause = gpu.copy * setup.swap_token
        gpu.copy = 0
        in_prefill = [r for r in gpu.running if r.state == "prefill"]
        decoding = [r for r in gpu.running if r.state == "decoding"]
        gpu.chunks = []
        gpu.decoded = [] if in_prefill and setup.prefill != "chunked" else decoding
        if setup.prefill == "first":
            gpu.chunks = [(r, r.prompt + r.emitted - r.computed) for r in in_prefill]
        else:
            left = setup.budget - (len(decoding) if setup.prefill == "chunked" else 0)
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

    def update(
        self,
        running: int,
        waiting: int,
        finished: list[Req],
        gaps: list[float],
        steps: int,
        memory: tuple[int, int, int],
    ) -> int:
        lowest = max(self.b_min, running)
        self.seen += finished
        if self.rule == "released":
            in_queues, held, capacity = memory
            if in_queues and running and held:
                self.b_mem = min(max(math.floor(0.95 * capacity / (held / running)), lowest), self.b_max)
        elif self.seen and running and waiting:
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
