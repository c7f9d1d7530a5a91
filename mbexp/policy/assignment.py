"""Assignment: which GPU an arriving request is given to, where GPUs have queues of their own."""

from __future__ import annotations

from mbexp.policy.slots import assignment

DETERMINISTIC = ("join_shortest", "least_kv", "round_robin")  # any other rule is given random numbers


@assignment
def join_shortest(gpus, request, memory, parameters):
    """Give to the GPU with fewest unfinished requests; ties go to the lowest."""
    chosen = gpus.first
    for gpu in range(gpus.first + 1, gpus.end):
        if gpus.requests[gpu] < gpus.requests[chosen]:
            chosen = gpu
    return chosen


@assignment
def least_kv(gpus, request, memory, parameters):
    """Give to the GPU whose unfinished requests have the least prompt + predicted output; ties go to the lowest."""
    chosen = gpus.first
    for gpu in range(gpus.first + 1, gpus.end):
        if gpus.kv_tokens[gpu] < gpus.kv_tokens[chosen]:
            chosen = gpu
    return chosen


@assignment
def round_robin(gpus, request, memory, parameters):
    """Give to the GPUs of the share in turn; `memory[share]` counts the turns."""
    turn = int(memory[gpus.share])
    memory[gpus.share] = (turn + 1) % (gpus.end - gpus.first)
    return gpus.first + turn


@assignment
def power_of_two(gpus, request, memory, parameters):
    """Draw two different GPUs and give to the one with fewer unfinished requests; ties go to the first drawn.

    Mitzenmacher, "The power of two choices in randomized load balancing", IEEE TPDS 12 (2001).
    """
    count = gpus.end - gpus.first
    if count == 1:
        return gpus.first
    one = int(request.draw_1 * count)
    other = int(request.draw_2 * (count - 1))
    if other >= one:
        other += 1
    fewer = gpus.requests[gpus.first + other] < gpus.requests[gpus.first + one]
    return gpus.first + other if fewer else gpus.first + one
