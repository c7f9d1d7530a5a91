"""Corners of docs/semantics/iterations.md, each as one small simulation whose outcome is worked out by hand.

All times are multiples of a power of two. Where no price is given an iteration takes 1 s, whatever it does: a prompt
prefilled whole gives its first token 1 s after its admission, and each decode step a token a second.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mbexp.hardware.iteration import ClosedForm
from tests.simulator.continuous.agreement import Case


class Corner(NamedTuple):
    """A simulation and what must come out of it.

    `served` gives for requests, by their place in the trace, the first columns of: first admission, first token,
    completion, GPU, preemptions. `gaps_s` holds every gap between two tokens of a request, `above` the number of gaps
    above the token SLA, `held_max` the most that a GPU held, in tokens or blocks. The test skips what is None.
    """

    case: Case
    served: dict[int, tuple[float, ...]]
    gaps_s: list[float] | None = None
    above: int | None = None
    held_max: int | None = None
    prefill_tokens: int | None = None
    copied_tokens: int | None = None


def price(**terms: float) -> ClosedForm:
    names = ("sequence_s", "floor_s", "compute_s", "context_s", "prefill_token_s", "prefill_sequence_s")
    return ClosedForm(**{"fixed_s": 1.0, "prefill_square_s": 0.0, **dict.fromkeys(names, 0.0), **terms})


def case(*requests: tuple[float, ...], cap: int = 4, selection: str = "round_robin", **settings: Any) -> Case:
    """Requests are (arrival, prompt, output, prediction or else the output, bin or else 0)."""
    rows, before = [], 0.0
    for arrival, prompt, output, *rest in requests:
        predicted, queue = [*rest, *(output, 0)[len(rest) :]]
        rows.append((arrival - before, int(prompt), int(output), int(predicted), int(queue)))
        before = arrival
    scheduler = {"batch_size": "fixed", "fixed_batch_size": cap, "selection": selection}
    return Case(rows, **{"price": price(), "scheduler": scheduler, **settings})


def dynamic(**controller: Any) -> dict[str, Any]:
    """Settings of a limit of at most 8, every 2 decode steps; a gap of less than 2 s is fast."""
    constants = {"alpha_requests": 1.0, "delta_requests": 1.0, "tolerance_ms": 0.0, "window_batches": 1}
    scheduler = {"batch_size": "dynamic", "batch_size_min": 1, "batch_size_max": 8}
    return {
        "scheduler": scheduler,
        "controller": constants | controller,
        "interval_steps": 2,
        "token_ms": 2000.0,
    }


PAGED = {"kv": "paged", "block_tokens": 4}
CHUNKS = PAGED | {"prefill": "chunked", "token_budget": 4, "hold_last_token": False}
# Two requests of one block each, which both need another for their second token; there are two blocks.
TWO_BLOCKS = {"memory": 8, "rules": PAGED}
TWO_REQUESTS = ((0.0, 3, 3), (0.0, 3, 3))

CORNERS: dict[str, Corner] = {
    # The search for a GPU.
    "of GPUs that come to a boundary at once the lowest admits": Corner(
        # GPU 0 takes 0 and 2 and has room from 2 s on; GPU 1 takes 1. Both are at a boundary at 3 s.
        case((0.0, 1, 2), (0.0, 1, 9), (0.0, 1, 9), (2.5, 1, 1), cap=2, gpus=2),
        {0: (0, 1, 2, 0), 1: (0, 1, 9, 1), 2: (0, 1, 10, 0), 3: (3, 4, 4, 0)},
    ),
    "of GPUs that come to a boundary at once the emptiest admits": Corner(
        # GPU 0 runs 0 and 2, GPU 1 runs 1. Both have room, and are at a boundary at 3 s.
        case((0.0, 1, 9), (0.0, 1, 9), (0.0, 1, 9), (2.5, 1, 1), cap=3, gpus=2),
        {0: (0, 1, 9, 0), 1: (0, 1, 10, 1), 2: (0, 1, 9, 0), 3: (3, 4, 4, 1)},
    ),
    "requests that wait go to the emptiest GPU, one by one": Corner(
        # GPU 0 still runs 0 when the others come, at 2 s, where both are at a boundary.
        case((0.0, 1, 9), *[(2.0, 1, 1)] * 6, cap=4, gpus=2),
        {place: (2, 3, 3, gpu) for place, gpu in enumerate((1, 0, 1, 0, 1, 0), 1)},
    ),
    "a GPU whose memory cannot take the head is passed over": Corner(
        # Of ten tokens GPU 0 holds eight for 0, GPU 1 three for 1 and three for 2. Request 3 needs four.
        case((0.0, 1, 7), (0.0, 1, 2), (0.0, 1, 2), (1.0, 1, 3), cap=4, gpus=2, memory=10),
        {0: (0, 1, 7, 0), 1: (0, 1, 3, 1), 2: (0, 1, 3, 1), 3: (1, 2, 4, 1)},
    ),
    "of many GPUs the one whose iteration ends first admits": Corner(
        # A step of b requests takes 1 + 3 b. Each GPU takes one request at 0, for one prompt fills a prefill; GPU 0
        # takes another at 1 s. Its boundaries are 2, 9, 16, 23; those of the others 1, 5, 9, 13, 17.
        case(
            *[(0.0, 1, 6)] * 9,
            (14.0, 1, 1),
            cap=3,
            gpus=8,
            price=price(sequence_s=3.0),
            rules={"prefill_max_tokens": 1},
        ),
        {7: (0, 1, 21, 7), 8: (1, 2), 9: (16, 17, 17, 0)},
    ),
    "a GPU that serves one bin looks at the head of that bin": Corner(
        # Eight GPUs of ten tokens hold eight each, for bin 0. The longest queue is that of bin 1, whose head does not
        # fit; the head of bin 0 does, at the boundary of 2 s.
        case(
            *[(0.0, 4, 4)] * 8,
            *[(1.25, 4, 4, 4, 1)] * 2,
            (1.5, 1, 1),
            bins=2,
            gpus=8,
            memory=10,
            selection="longest_queue",
            rules={"gpu_serves": "one_bin", "prefill_max_tokens": 4},
        ),
        {0: (0, 1, 5, 0), 7: (0, 1, 4, 7), 10: (2, 3, 3, 0)},
    ),
    "the lowest of the GPUs that stand at a boundary starts": Corner(
        case((0.0, 1, 2), (0.0, 1, 2), (0.5, 1, 1), cap=1, gpus=2),
        {0: (0, 1, 2, 0), 1: (0, 1, 2, 1), 2: (2, 3, 3, 0)},
    ),
    "iterations that end at once end in the order of the GPUs": Corner(
        # At 3 s both are put back at the tail, that of GPU 0 first, though GPU 1 began its steps before GPU 0.
        case(
            (0.0, 1, 1),
            (0.0, 1, 4, 3),
            (1.0, 1, 3, 2),
            cap=1,
            gpus=2,
            rules={"underprediction": "requeue"},
        ),
        {0: (0, 1, 1, 0, 0), 1: (0, 1, 4, 1, 1), 2: (1, 2, 4, 0, 1)},
    ),
    # Segments.
    "an arrival at a boundary is admitted there": Corner(
        case((0.0, 1, 6), (3.0, 1, 1)),
        {0: (0, 1, 7), 1: (3, 4, 4)},
        gaps_s=[1, 1, 2, 1, 1],
    ),
    "an arrival is admitted at the next boundary of steps that grow": Corner(
        # A step takes 1 + C, C from 2 on: boundaries 1, 4, 8, 13, 19. From 14 s on, C = 5: 6 + 7 + 8 + 9 + 10 + 11.
        case((0.0, 1, 10), (12.5, 1, 1), price=price(context_s=1.0)),
        {0: (0, 1, 65), 1: (13, 14, 14)},
        gaps_s=[3, 4, 5, 7, 7, 8, 9, 10, 11],
    ),
    "a request of a GPU's own queue may fill its memory": Corner(
        case((0.0, 1, 5), (1.5, 1, 1), memory=8, assignment="join_shortest"),
        {0: (0, 1, 6), 1: (2, 3, 3)},
        held_max=8,
    ),
    # Prefill.
    "one prefill may hold the most tokens to the last": Corner(
        case((0.0, 2, 1), (0.0, 3, 1), (0.0, 1, 1), rules={"prefill_max_tokens": 5}),
        {0: (0, 1, 1), 1: (0, 1, 1), 2: (1, 2, 2)},
    ),
    "a chunk costs its square beside what was computed before": Corner(
        # Chunks of 2 after 0, 2, 4 and 6 tokens: squares of 4, 12, 20 and 28, a quarter of a second each.
        case(
            (0.0, 8, 2),
            cap=1,
            price=price(prefill_square_s=0.25),
            rules={"prefill": "chunked", "token_budget": 2},
        ),
        {0: (0, 20, 21)},
    ),
    "requests that decode use up the budget of a step": Corner(
        # From 1 s on two prompt tokens a step: 2, 4, then the fifth.
        case((0.0, 1, 9), (0.5, 5, 1), cap=2, rules={"prefill": "chunked", "token_budget": 3}),
        {0: (0, 1, 9), 1: (1, 4, 4)},
    ),
    # Memory.
    "the token that a prefill will emit is held from admission on": Corner(
        # 1 and 2 blocks; there are two.
        case((0.0, 3, 1), (0.0, 4, 1), **TWO_BLOCKS),
        {0: (0, 1, 1), 1: (1, 2, 2)},
        held_max=2,
    ),
    "a part of a block is no block": Corner(
        case((0.0, 3, 1), (0.0, 3, 1), (0.0, 3, 1), memory=11, rules=PAGED),
        {0: (0, 1, 1), 1: (0, 1, 1), 2: (1, 2, 2)},
    ),
    "the youngest is preempted where the next token needs a block": Corner(
        # At 1 s both contexts are 4. 1 comes back at 3 s, and its prefill of 4 tokens emits its second.
        case(*TWO_REQUESTS, **TWO_BLOCKS),
        {0: (0, 1, 3, 0, 0), 1: (0, 1, 5, 0, 1)},
        gaps_s=[1, 1, 3, 1],
        prefill_tokens=3 + 3 + 4,
        held_max=2,
    ),
    "blocks end a segment shorter than a block": Corner(
        # Three blocks; at 3 s both contexts are 4, and only one can have another block.
        case((0.0, 1, 4), (0.0, 1, 4), memory=12, rules=PAGED),
        {0: (0, 1, 4, 0, 0), 1: (0, 1, 5, 0, 1)},
        prefill_tokens=1 + 1 + 4,
    ),
    "outputs that outgrew their predictions end a segment": Corner(
        # 3 + 7 tokens are held, one more from 3 s on; at 3 s a second does not fit. 1 comes back when 0 is done.
        case((0.0, 1, 5, 2), (0.0, 1, 6), memory=11),
        {0: (0, 1, 5, 0, 0), 1: (0, 1, 8, 0, 1)},
        prefill_tokens=1 + 1 + 4,
        held_max=11,
    ),
    # Preemption and what is put back.
    "copies delay the iteration, and gaps hold them": Corner(
        # As above, but 4 tokens are copied out at 1 s and in at 4 s, a second each time: 0 steps from 2 s on, 1 from 5.
        case(*TWO_REQUESTS, memory=8, rules={**PAGED, "preemption": "swap", "swap_token_s": 0.25}),
        {0: (0, 1, 4, 0, 0), 1: (0, 1, 7, 0, 1)},
        gaps_s=[2, 1, 5, 1],
        copied_tokens=8,
        prefill_tokens=6,
    ),
    "requeue puts back at the tail": Corner(
        case((0.0, 1, 3, 2), (0.5, 1, 1), cap=1, rules={"underprediction": "requeue"}),
        {0: (0, 1, 4, 0, 1), 1: (2, 3, 3, 0, 0)},
        gaps_s=[1, 2],
    ),
    "an outgrown prediction doubles": Corner(
        # 1, 2, 4, 8: put back with 1, 2 and 4 tokens emitted.
        case((0.0, 1, 5, 1), rules={"underprediction": "preempt"}),
        {0: (0, 1, 5, 0, 3)},
        prefill_tokens=1 + 2 + 3 + 5,
    ),
    "decoding requests are put back in the order of the trace": Corner(
        # At 2 s 0 and then 1 go to the head: 1 is admitted before 0. At 4 s the same, and now (need 9 of 17) only one.
        case((0.0, 1, 6, 2), (0.0, 1, 6, 2), memory=17, rules={"underprediction": "preempt"}),
        {0: (0, 1, 8, 0, 2), 1: (0, 1, 6, 0, 2)},
    ),
    # Queues.
    "a head that does not fit leaves the turn with its bin": Corner(
        # Bin 0 has had its turn. Bin 1's head needs 8 of 10 and waits until 4 s; nobody overtakes it.
        case((0.0, 2, 4), (0.0, 4, 4, 4, 1), (0.0, 1, 1), bins=2, memory=10),
        {0: (0, 1, 4), 1: (4, 5, 8), 2: (4, 5, 5)},
    ),
    "an arrival that is not admitted takes nobody's turn": Corner(
        case((0.0, 1, 4), (0.5, 1, 1), (1.5, 1, 1, 1, 1), bins=2, cap=1),
        {0: (0, 1, 4), 1: (5, 6, 6), 2: (4, 5, 5)},
    ),
    "a bin has its turn until turn_requests were admitted": Corner(
        case(
            *[(0.0, 1, 2)] * 3,
            (0.0, 1, 1, 1, 1),
            bins=2,
            selection="shortest_bin",
            rules={"gpu_serves": "one_bin", "turn_requests": 2},
        ),
        {0: (0, 1, 2), 1: (0, 1, 2), 2: (2, 3, 4), 3: (4, 5, 5)},
    ),
    "a queue is as old as its present head": Corner(
        case((0.0, 1, 1), (0.25, 1, 1), (0.5, 1, 1, 1, 1), (0.75, 1, 1), bins=2, cap=1, selection="first_formed"),
        {0: (0, 1, 1), 1: (1, 2, 2), 2: (2, 3, 3), 3: (3, 4, 4)},
    ),
    # Which GPU.
    "GPUs are shared by the largest remainders of the load": Corner(
        # Loads 1 and 3: of one GPU to share, 1/4 and 3/4.
        case(
            (0.0, 1, 1, 1, 0),
            (0.0, 1, 2, 2, 1),
            (0.0, 1, 1, 1, 1),
            bins=2,
            gpus=3,
            cap=1,
            rules={"gpu_serves": "load_share"},
        ),
        {0: (0, 1, 1, 0), 1: (0, 1, 2, 1), 2: (0, 1, 1, 2)},
    ),
    "the second GPU drawn is another than the first": Corner(
        # u = 0.33 and 0.32: GPU 0 is drawn first, both times; GPU 1 has fewer when 1 arrives.
        case((0.0, 1, 2), (0.0, 1, 1), gpus=2, assignment="power_of_two", seed=8),
        {0: (0, 1, 2, 0), 1: (0, 1, 1, 1)},
    ),
    "a rejected request keeps its draws": Corner(
        # u = 0.64 and 0.04: of requests 0 and 1.
        case((0.0, 9, 9), (0.0, 1, 1), memory=10, gpus=2, assignment="power_of_two"),
        {1: (0, 1, 1, 0)},
    ),
    # The limit.
    "the end of an interval raises the limit": Corner(
        # floor((1 + 4)/2) = 2. Two steps of two requests, fast: low = min(2, 4 - 1), high = 4, and floor(6/2) = 3.
        case(
            *[(0.0, 1, 9)] * 3,
            **dynamic() | {"scheduler": dynamic()["scheduler"] | {"batch_size_max": 4}},
        ),
        {0: (0, 1, 10), 1: (0, 1, 10), 2: (3, 4, 12)},
    ),
    "a request in prefill lets the limit learn": Corner(
        # b_SLA = floor((1 + 8)/2) = 4. Prompts take 8 tokens a step: 0 and 1 decode from 4 s on, and 0 is done at 5.
        # At 6 s, with 2 in prefill, mu = 32 and sigma = 0: b_mem = floor(100/32) = 3. So at 7 s 3 is admitted, 4 not.
        # 2 has computed 1, 7, 14, 21, 28, 35, 40 tokens at 4 to 10 s, and 3 its own in the step to 10 s.
        case(
            (0.0, 30, 2),
            (0.0, 1, 9),
            (0.0, 40, 1),
            *[(6.5, 1, 1)] * 2,
            memory=100,
            rules={"prefill": "chunked", "token_budget": 8, "admission": "any"},
            **dynamic(interval_batches=10),
        ),
        {0: (0, 4, 5), 1: (0, 4, 12), 2: (0, 10, 10), 3: (7, 10, 10), 4: (10, 11, 11)},
    ),
    # Rules of engines.
    "nobody is admitted once the tokens of the iteration are used up": Corner(
        # 0 takes all 4 tokens of the first step, and 2 of the second, which leaves 2 for 1. In the third 0 decodes, 1
        # takes its last 2, and 1 is left for 2.
        case((0.0, 6, 3), (0.0, 4, 1), (0.0, 1, 1), rules={"prefill": "chunked", "token_budget": 4}),
        {0: (0, 2, 4), 1: (1, 3, 3), 2: (2, 3, 3)},
    ),
    "where the budget is not looked at, all are admitted at once": Corner(
        case(
            *((0.0, 6, 3), (0.0, 4, 1), (0.0, 1, 1)),
            rules={"prefill": "chunked", "token_budget": 4, "admission": "any"},
        ),
        {0: (0, 2, 4), 1: (0, 3, 3), 2: (0, 3, 3)},
    ),
    "a context is tested as a whole, and held chunk by chunk": Corner(
        # 0 needs all 3 blocks, though it holds 1 until 1 s and 2 until 2 s. In its third step 3 tokens are left for 1,
        # and no block.
        case((0.0, 9, 1), (0.0, 1, 1), memory=12, rules=CHUNKS | {"prefill_memory": "tested"}),
        {0: (0, 3, 3), 1: (3, 4, 4)},
        held_max=3,
    ),
    "a first chunk that fits admits a request": Corner(
        # At 1 s 0 takes its second block, and the first 3 tokens of 1 the third. At 2 s 3 more need another, so 1 gives
        # way; 0 leaves at 3 s, and 1 begins anew.
        case((0.0, 4, 3), (0.0, 8, 1), memory=12, cap=2, rules=CHUNKS | {"prefill_memory": "first_chunk"}),
        {0: (0, 1, 3, 0, 0), 1: (1, 5, 5, 0, 1)},
        prefill_tokens=4 + 3 + 8,
    ),
    "a token whose cache is not computed yet needs no memory": Corner(
        # Prompts of 4 fill a block each; the token that the prefill emits is stored by the step after it.
        case((0.0, 4, 1), (0.0, 4, 1), memory=8, rules=PAGED | {"hold_last_token": False}),
        {0: (0, 1, 1), 1: (0, 1, 1)},
        held_max=2,
    ),
    "a null block holds nobody": Corner(
        case((0.0, 3, 1), (0.0, 3, 1), memory=8, rules=PAGED | {"reserved_blocks": 1}),
        {0: (0, 1, 1), 1: (1, 2, 2)},
        held_max=1,
    ),
    "a watermark is kept free only where something runs": Corner(
        # Half of 2 blocks: 0 takes one on an empty GPU, and 1 would leave none.
        case((0.0, 3, 1), (0.0, 3, 1), memory=8, rules=PAGED | {"watermark_pct": 50.0}),
        {0: (0, 1, 1), 1: (1, 2, 2)},
    ),
    "a request beyond the longest allowed is rejected": Corner(
        case((0.0, 3, 6), (0.0, 3, 5), rules={"max_model_len_tokens": 8}),
        {1: (0, 1, 5)},
    ),
    # What is recorded.
    "a gap equal to the token SLA is not above it": Corner(
        case((0.0, 1, 5), price=price(context_s=1.0), token_ms=4000.0),
        {0: (0, 1, 19)},
        gaps_s=[3, 4, 5, 6],
        above=2,
    ),
    "gaps that grow fill one bin after the other": Corner(
        # A bin is 1/512 wide here: bins 2, 3, 4 and 5 from 1 s on.
        case((0.0, 1, 5), price=price(fixed_s=1 + 0.75 / 512, context_s=1 / 512)),
        {},
        gaps_s=[1 + tick / 512 for tick in (2.75, 3.75, 4.75, 5.75)],
    ),
}
