"""One engine of TensorRT-LLM, a step at a time: its capacity policies and its micro-batch over one list of requests.

Written from its documentation: GUARANTEED_NO_EVICT keeps room for prompt and max_new_tokens of all that are started;
MAX_UTILIZATION looks at the blocks of the next step, and pauses from the back. Without block reuse and overlap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class Request:
    place: int
    arrival: int
    prompt: int
    output: int
    tokens: int = 0  # generated
    cached: int = 0
    started: bool = False
    paused: int = 0
    scheduled: int | None = None
    first: int | None = None
    finish: int | None = None


@dataclass
class Engine:
    """Every step takes one unit of time; a context is computed whole, within `max_num_tokens`."""

    num_blocks: int
    block: int
    max_batch_size: int
    max_num_tokens: int
    no_evict: bool
    active: list[Request] = field(default_factory=list)  # in order of arrival

    def blocks(self, tokens: int) -> int:
        return math.ceil(tokens / self.block)

    def held(self) -> int:
        return sum(self.blocks(r.cached) for r in self.active if r.started)

    def fitting(self) -> list[Request]:
        """The capacity scheduler: who may take part in the next step."""
        found: list[Request] = []
        if self.no_evict:
            reserved = sum(self.blocks(r.prompt + r.output - 1) for r in self.active if r.started)
            for r in self.active:
                if not r.started:
                    more = self.blocks(r.prompt + r.output - 1)
                    if reserved + more > self.num_blocks or len(found) >= self.max_batch_size:
                        break
                    reserved += more
                found.append(r)
            return found
        end, index, used = len(self.active), 0, 0
        while index < end:
            r = self.active[index]
            wanted = self.blocks(r.prompt + r.tokens)  # after the next step
            if used + wanted <= self.num_blocks and len(found) < self.max_batch_size:
                used += wanted
                found.append(r)
                index += 1
                continue
            started = [place for place in range(index, end) if self.active[place].started]
            if not started:
                break
            end = started[-1]
            victim = self.active[end]
            victim.started, victim.cached = False, 0
            victim.paused += 1
        return found

    def step(self, now: int) -> list[tuple[Request, int]]:
        fitting = self.fitting()
        left = self.max_num_tokens - sum(r.started for r in fitting)
        batch = [(r, 1) for r in fitting if r.started]
        for r in fitting:
            if r.started:
                continue
            length = r.prompt + r.tokens
            if length > left and batch:
                break
            left -= length
            batch.append((r, length))
            r.started = True
            if r.scheduled is None:
                r.scheduled = now
        for r, _ in batch:
            r.cached = r.prompt + r.tokens
        assert self.held() <= self.num_blocks
        return batch

    def end(self, batch: list[tuple[Request, int]], now: int) -> None:
        for r, _ in batch:
            r.tokens += 1
            if r.first is None:
                r.first = now
            if r.tokens == r.output:
                r.finish = now
                self.active.remove(r)


def serve(engine: Engine, requests: list[Request]) -> list[tuple[int, int]]:
    """Serve requests in order of arrival; return the decoding requests and the context tokens of each step."""
    ahead, now, steps = list(requests), 0, []
    while ahead or engine.active:
        while ahead and ahead[0].arrival <= now:
            engine.active.append(ahead.pop(0))
        generating = {r.place for r in engine.active if r.started}
        batch = engine.step(now)
        now += 1
        if batch:
            decoding = sum(1 for r, n in batch if r.place in generating and n == 1)
            steps.append((decoding, sum(n for r, n in batch) - decoding))
            engine.end(batch, now)
    return steps
