"""What the prompts of a trace share, whichever way the trace says it; and what a cache finds in its order."""

from __future__ import annotations

from mbexp.errors import UserError
from mbexp.workload.hit_rates import TraceHits, trace_hits
from mbexp.workload.prefixes import Prefixes, from_contents, from_hashes
from mbexp.workload.trace import Trace


def shared_prefixes(trace: Trace, block_tokens: int = 16) -> Prefixes:
    """Return the blocks of a trace: those that it names, or those of `block_tokens` that its conversations share.

    Raises
    ------
    UserError
        If it says neither.
    """
    if trace.blocks is not None:
        return from_hashes(trace.blocks, trace.prompt_tokens, trace.output_tokens)
    if trace.contents is not None:
        return from_contents(trace.contents, trace.prompt_tokens, trace.output_tokens, block_tokens)
    raise UserError(
        "execution.prefix_cache: the trace does not say what its prompts share; use workload=sessions, a file with "
        "hash_ids (workload=mooncake), or name the columns of its conversations in workload.sessions"
    )


def hits_in_order(
    trace: Trace, capacity_blocks: int | None = None, policy: str = "lru", block_tokens: int = 16
) -> TraceHits:
    """Return what a prefix cache finds if requests come one by one in the order of a trace, without a run.

    See `mbexp.workload.hit_rates.trace_hits` for the parameters.

    Examples
    --------
    >>> from mbexp import load_trace
    >>> trace = load_trace("sessions", num_requests=100)
    >>> hits_in_order(trace).hit_rate > hits_in_order(trace, 50).hit_rate
    True
    """
    return trace_hits(shared_prefixes(trace, block_tokens), capacity_blocks, policy)
