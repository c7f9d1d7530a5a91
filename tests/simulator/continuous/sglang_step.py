"""One engine of SGLang 0.5, a round at a time: its scheduler's batches over plain lists, and no events.

Written from what its scheduler.py and schedule_policy.py do for first come, first served, without the radix cache and
without overlap. It shares nothing with the reference simulator, nor its words: a round merges the last prefill batch,
then makes a new one, or else updates the running batch for a decode step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

CLIP = 4096


@dataclass
class Req:
    place: int
    arrival: int
    prompt: int
    output: int
    max_new: int
    outputs: int = 0
    cached: int = 0
    pages: int = 0
    finished: bool = False
    retracted: int = 0
    scheduled: int | None = None
    first: int | None = None
    finish: int | None = None

    @property
    def known(self) -> int:
        return self.prompt + self.outputs


@dataclass
class Engine:
    """Every batch takes one unit of time."""

    pool_tokens: int
    page: int
    max_running: int
    chunk_size: int
    conservativeness: float
    waiting: list[Req] = field(default_factory=list)
    running: list[Req] = field(default_factory=list)  # with those that are finished, until a decode step drops them
    last_prefill: list[tuple[Req, int]] = field(default_factory=list)
    chunked: Req | None = None
    is_full: bool = False

    def __post_init__(self) -> None:
        self.pool_tokens = self.pool_tokens // self.page * self.page
        self.start = min(1.0, 0.7 * self.conservativeness)
        self.least = self.start * 0.14
        self.ratio = self.start
        self.free = self.pool_tokens // self.page  # pages

    def clip(self, req: Req) -> int:
        beside = self.pool_tokens - math.ceil(req.prompt / self.page) * self.page - self.page - 1
        return max(0, min(req.max_new, beside))

    def grow(self, req: Req, cached: int) -> None:
        pages = math.ceil(cached / self.page)
        self.free -= pages - req.pages
        req.pages, req.cached = pages, cached
        assert self.free >= 0

    def release(self, req: Req) -> None:
        self.free += req.pages
        req.pages = req.cached = 0

    def next_batch(self, now: int) -> tuple[str, list[tuple[Req, int]]] | None:
        if self.last_prefill:
            done = [req for req, _ in self.last_prefill if req.finished]
            if done:
                self.is_full = False
            self.running += [req for req, _ in self.last_prefill if not req.finished and req is not self.chunked]
            self.last_prefill = []
        batch = self.new_prefill(now)
        if batch:
            self.last_prefill = batch
            return "prefill", batch
        if self.running:
            self.update_running()
            if self.running:
                for req in self.running:
                    self.grow(req, req.known)
                return "decode", [(req, 1) for req in self.running]
        return None

    def new_prefill(self, now: int) -> list[tuple[Req, int]]:
        if (self.is_full or not self.waiting) and self.chunked is None:
            return []
        if len(self.running) >= self.max_running and self.chunked is None:
            self.is_full = True
            return []
        offset = sum(self.ratio * min(max(self.clip(r) - r.outputs, 0), CLIP) for r in self.running if not r.finished)
        rem_total = self.free * self.page - offset
        rem_chunk = self.chunk_size
        batch: list[tuple[Req, int]] = []

        def take(req: Req) -> None:
            nonlocal rem_total, rem_chunk
            length = min(req.known - req.cached, rem_chunk)
            ends = length == req.known - req.cached
            rem_total -= (
                math.ceil(length / self.page) * self.page + self.page + (min(self.clip(req), CLIP) if ends else 0)
            )
            rem_chunk -= length
            batch.append((req, length))
            self.chunked = None if ends else req

        if self.chunked is not None:
            take(self.chunked)
            if rem_chunk <= 0:
                return self.launch(batch, now)
        for req in list(self.waiting):
            if len(batch) >= self.max_running - len(self.running):
                self.is_full = True
            if self.is_full:
                break
            need = req.known + min(max(self.clip(req) - req.outputs, 0), CLIP) + self.page
            nobody = not batch and all(r.finished for r in self.running)
            if need >= rem_total and not nobody:  # to an idle engine the least request is admitted here
                self.is_full = True
                break
            self.waiting.remove(req)
            take(req)
            if rem_total <= 0:
                self.is_full = True
                break
            if rem_chunk <= 0:
                break
        return self.launch(batch, now)

    def launch(self, batch: list[tuple[Req, int]], now: int) -> list[tuple[Req, int]]:
        for req, length in batch:
            if req.scheduled is None:
                req.scheduled = now
            self.grow(req, req.cached + length)
        return batch

    def update_running(self) -> None:
        before = len(self.running)
        self.running = [req for req in self.running if not req.finished]
        if not self.running:
            self.is_full = False
            return

        def wanted(reqs: list[Req]) -> int:
            return sum(math.ceil(req.known / self.page) - req.pages for req in reqs)

        if wanted(self.running) > self.free:
            order = sorted(self.running, key=lambda req: (req.outputs, -req.prompt), reverse=True)
            while wanted(order) > self.free:
                req = order.pop()
                self.release(req)
                req.retracted += 1
                self.waiting.append(req)
                self.running.remove(req)
            outputs = sum(req.outputs for req in self.running)
            allowed = max(sum(self.clip(req) for req in self.running), 1)
            self.ratio = min(1.0, (outputs + 20 * len(self.running)) / allowed)
        else:
            self.ratio = max(self.ratio - (self.start - self.least) / 600, self.least)
        if len(self.running) < before:
            self.is_full = False

    def finish_batch(self, batch: list[tuple[Req, int]], now: int) -> None:
        for req, _ in batch:
            if req.cached < req.known or req is self.chunked:
                continue
            req.outputs += 1
            if req.first is None:
                req.first = now
            if req.outputs == req.output:
                req.finished, req.finish = True, now
                self.release(req)


def serve(engine: Engine, reqs: list[Req]) -> list[tuple[int, int]]:
    """Serve requests in order of arrival; return the decoding requests and the prompt tokens of each batch."""
    ahead, now, batches = list(reqs), 0, []
    while True:
        while ahead and ahead[0].arrival <= now:
            engine.waiting.append(ahead.pop(0))
        planned = engine.next_batch(now)
        if planned is None:
            engine.ratio = engine.start  # idle
            if not engine.waiting:
                if not ahead:
                    return batches
                now = ahead[0].arrival
            continue
        kind, batch = planned
        batches.append((len(batch), 0) if kind == "decode" else (0, sum(length for _, length in batch)))
        now += 1
        engine.finish_batch(batch, now)
