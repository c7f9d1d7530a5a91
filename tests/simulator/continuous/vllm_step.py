"""One engine of vLLM v1, a step at a time: its scheduler's walk over lists, with blocks and a budget, and no events.

Written from what vllm/v1/core/sched/scheduler.py does for first come, first served, without prefix caching. It shares
nothing with the reference simulator, nor its words: a step walks `running`, then takes from `waiting`.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Sequence:
    place: int
    arrival: int
    prompt: int
    output: int
    known: int = 0  # prompt and outputs so far
    computed: int = 0  # of them, those with a KV cache
    blocks: int = 0
    preempted: int = 0
    scheduled: int | None = None  # instant of its first admission
    first: int | None = None
    finish: int | None = None


@dataclass
class Engine:
    """Every step takes one unit of time."""

    num_blocks: int
    block_size: int
    max_num_seqs: int
    max_num_batched_tokens: int
    reserve_full_isl: bool
    watermark: float = 0.0
    running: list[Sequence] = field(default_factory=list)
    waiting: list[Sequence] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.free = self.num_blocks - 1  # the null block

    def allocate(self, sequence: Sequence, tokens: int) -> bool:
        """Give a sequence blocks for its computed tokens and so many more, if there are enough."""
        needed = -(-(sequence.computed + tokens) // self.block_size) - sequence.blocks
        if needed > self.free:
            return False
        self.free -= needed
        sequence.blocks += needed
        return True

    def release(self, sequence: Sequence) -> None:
        self.free += sequence.blocks
        sequence.blocks = 0

    def schedule(self, now: int) -> dict[int, int]:
        """Return the tokens of each sequence in the step that begins now, by place."""
        budget = self.max_num_batched_tokens
        tokens: dict[int, int] = {}
        preempted = False
        index = 0
        while index < len(self.running) and budget > 0:
            sequence = self.running[index]
            want = min(sequence.known - sequence.computed, budget)
            scheduled = True
            while not self.allocate(sequence, want):
                victim = self.running.pop()
                self.release(victim)
                victim.computed = 0
                victim.preempted += 1
                self.waiting.insert(0, victim)
                preempted = True
                if victim is sequence:
                    scheduled = False
                    break
            if not scheduled:
                break
            tokens[sequence.place] = want
            budget -= want
            index += 1
        if preempted:
            return tokens
        while self.waiting and budget > 0 and len(self.running) < self.max_num_seqs:
            sequence = self.waiting[0]
            want = min(sequence.known, budget)
            must_fit = sequence.known if self.reserve_full_isl else want
            spare = int(self.watermark * self.num_blocks) if self.running else 0
            if -(-must_fit // self.block_size) + spare > self.free or not self.allocate(sequence, want):
                break
            self.running.append(self.waiting.pop(0))
            if sequence.scheduled is None:
                sequence.scheduled = now
            tokens[sequence.place] = want
            budget -= want
        return tokens

    def finish_step(self, tokens: dict[int, int], now: int) -> None:
        """Let the step end: caches are there, and who has all its known tokens computed emits one."""
        for sequence in list(self.running):
            sequence.computed += tokens.get(sequence.place, 0)
            if sequence.place not in tokens or sequence.computed < sequence.known:
                continue
            sequence.known += 1
            if sequence.first is None:
                sequence.first = now
            if sequence.known == sequence.prompt + sequence.output:
                sequence.finish = now
                self.release(sequence)
                self.running.remove(sequence)


def serve(engine: Engine, sequences: list[Sequence]) -> list[dict[int, int]]:
    """Serve sequences in order of arrival; return the tokens of each step."""
    steps = []
    ahead = sorted(sequences, key=lambda sequence: (sequence.arrival, sequence.place))
    now = 0
    while ahead or engine.waiting or engine.running:
        while ahead and ahead[0].arrival <= now:
            sequence = ahead.pop(0)
            sequence.known = sequence.prompt
            engine.waiting.append(sequence)
        tokens = engine.schedule(now)
        if tokens:
            steps.append(tokens)
        now += 1
        engine.finish_step(tokens, now)
    return steps
