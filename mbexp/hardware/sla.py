"""What the latency targets mean under a law: whether they can bind, can be met, and which batch they allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mbexp.config.keys import SlaConfig
    from mbexp.config.scheduler_keys import SchedulerConfig
    from mbexp.hardware.law import LatencyLaw


def largest_batch(law: LatencyLaw, token_s: float, limit: int, context_tokens: int = 1) -> int:
    """Return the largest batch, at most `limit`, whose time between tokens is at most `token_s`; 0 where none is.

    Assumes that the time between tokens does not fall as the batch grows.

    Parameters
    ----------
    law
        Latency law.
    token_s
        Longest time between tokens, seconds.
    limit
        Largest batch to consider.
    context_tokens
        Prompt of every member; the batch decodes two tokens from there.
    """

    def fits(batch_size: int) -> bool:
        return law.service(batch_size, context_tokens, 2)[2] <= token_s

    if not fits(1):
        return 0
    low, high = 1, limit + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def check_sla(law: LatencyLaw, sla: SlaConfig, scheduler: SchedulerConfig) -> list[str]:
    """Return one sentence for each thing a user must know of the latency targets before the run.

    A target is named that no batch of the scheduler can miss, and one that even the smallest batch misses. In between
    stands the largest batch that the token target allows, at the shortest and the longest context of the law.
    """
    return [*_of_tokens(law, sla.token_ms, scheduler), *_of_requests(law, sla.request_s)]


def _of_tokens(law: LatencyLaw, token_ms: float | None, scheduler: SchedulerConfig) -> list[str]:
    if token_ms is None:
        return []
    limit = (scheduler.fixed_batch_size or 1) if scheduler.batch_size == "fixed" else scheduler.batch_size_max
    smallest = 1 if scheduler.batch_size == "fixed" else scheduler.batch_size_min
    token_s = token_ms / 1e3
    longest = max(1, min(law.length_range_tokens[1], 1_000_000) - 2)
    best_s = law.service(1, 1, 2)[2]
    worst_s = law.service(limit, longest, 2)[2]
    sentences = []
    where = f"sla.token_ms={token_ms:g}"
    if best_s > token_s:
        sentences.append(
            f"{where} cannot be met: under this law a batch of one request already takes {1e3 * best_s:.4g} ms "
            "between tokens"
        )
    elif worst_s <= token_s:
        sentences.append(
            f"{where} cannot bind: under this law no batch of up to {limit} requests takes more than "
            f"{1e3 * worst_s:.4g} ms between tokens"
        )
    else:
        short = largest_batch(law, token_s, limit)
        long = largest_batch(law, token_s, limit, longest)
        contexts = ""
        if short != long:
            contexts = f" of short requests, {long or 'none'} at a context of {longest + 2} tokens"
        sentences.append(f"{where} allows batches of up to {short}{contexts} (of at most {limit}) under this law")
        if short < smallest:
            sentences.append(
                f"{where} allows no batch of scheduler.batch_size_min={smallest}: the controller cannot go below it"
            )
    return sentences


def _of_requests(law: LatencyLaw, request_s: float | None) -> list[str]:
    shortest_s = law.service(1, 1, 1)[0]
    if request_s is None or shortest_s <= request_s:
        return []
    return [
        f"sla.request_s={request_s:g} cannot be met: under this law the shortest request, alone on an idle "
        f"GPU, takes {shortest_s:.4g} s"
    ]
