"""Assignment: which GPU an arriving request is given to, where GPUs have queues of their own."""

from __future__ import annotations

from mbexp.policy.continuous_signatures import assignment


@assignment
def join_shortest(first, count, share, requests, kv_tokens, need_tokens, draw_1, draw_2, memory):
    """Give to the GPU with fewest unfinished requests; ties go to the lowest."""
    chosen = first
    for gpu in range(first + 1, first + count):
        if requests[gpu] < requests[chosen]:
            chosen = gpu
    return chosen


@assignment
def least_kv(first, count, share, requests, kv_tokens, need_tokens, draw_1, draw_2, memory):
    """Give to the GPU whose unfinished requests have the least prompt + predicted output; ties go to the lowest."""
    chosen = first
    for gpu in range(first + 1, first + count):
        if kv_tokens[gpu] < kv_tokens[chosen]:
            chosen = gpu
    return chosen


@assignment
def round_robin(first, count, share, requests, kv_tokens, need_tokens, draw_1, draw_2, memory):
    """Give to the GPUs of the share in turn; `memory[share]` counts the turns."""
    turn = int(memory[share])
    memory[share] = (turn + 1) % count
    return first + turn


@assignment
def power_of_two(first, count, share, requests, kv_tokens, need_tokens, draw_1, draw_2, memory):
    """Draw two different GPUs and give to the one with fewer unfinished requests; ties go to the first drawn.

    Mitzenmacher, "The power of two choices in randomized load balancing", IEEE TPDS 12 (2001).
    """
    if count == 1:
        return first
    one = int(draw_1 * count)
    other = int(draw_2 * (count - 1))
    if other >= one:
        other += 1
    return first + other if requests[first + other] < requests[first + one] else first + one
