"""What a continuous simulation leaves: what happened to each request, each GPU, and the time between tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mbexp.simulator.continuous.tokens import bin_edges_s
from mbexp.simulator.outcome import Outcome

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TokenGaps:
    """Time between two tokens of a request, over all tokens but the first of each request.

    Attributes
    ----------
    count, above : int
        Gaps, and those above the token SLA; exact.
    sum_s, max_s : float
        Exact, apart from the rounding of sums.
    counts : int64 array
        Gaps in each bin of `mbexp.simulator.continuous.tokens.bin_edges_s`.
    """

    count: int
    above: int
    sum_s: float
    max_s: float
    counts: npt.NDArray[np.int64]

    @property
    def mean_s(self) -> float:
        """Mean gap; NaN of none."""
        return self.sum_s / self.count if self.count else np.nan

    def quantile_s(self, share: float) -> float:
        """Return the gap that a share of all does not exceed, at most 0.1 % off (between 1 microsecond and 24 days).

        It is the middle of the bin that holds that gap, but never more than the largest gap.
        """
        if not self.count:
            return np.nan
        place = int(np.searchsorted(np.cumsum(self.counts), share * self.count))
        edges = bin_edges_s()
        return float(min(0.5 * (edges[place] + edges[place + 1]), self.max_s))


@dataclass(frozen=True)
class PrefixHits:
    """What a prefix cache found.

    Attributes
    ----------
    skipped_at_first : int32 array, shape (accepted,)
        Prompt tokens of each request that its first admission found computed.
    looked_blocks, found_blocks, found_requests : int
        At first admissions: blocks of prompts that could be kept, those found, and requests with any.
    skipped_tokens : int
        Tokens that all admissions found computed, those after a preemption too.
    evicted_blocks : int
    block_tokens : int
    """

    skipped_at_first: IntArray
    looked_blocks: int
    found_blocks: int
    found_requests: int
    skipped_tokens: int
    evicted_blocks: int
    block_tokens: int


@dataclass(frozen=True, kw_only=True)
class ContinuousOutcome(Outcome):
    """Outcome of a continuous simulation.

    Attributes
    ----------
    start_s, first_token_s, finish_s : float64 arrays, shape (accepted,)
        First admission, first token, last token.
    gpu, preemptions : int32 arrays, shape (accepted,)
        GPU that finished the request; how often it lost its place before.
    gaps : TokenGaps
    gpus : structured array, shape (num_gpus,)
        Totals of each GPU: time ``busy_s`` (of it ``busy_before_s`` before gaps were counted, ``prefill_s`` and
        ``copy_s``), its products with the context, the requests and the limit (``kv_token_s running_s limit_s``),
        tokens (``prefill_tokens copied_tokens decoded_tokens``), decode steps (``step``, of them ``mixed_steps`` and
        ``outside_steps``), iterations without decoding (``prefills``), and the most held and running
        (``held_max running_max``).
    samples : structured array
        ``time_s held running waiting`` over all GPUs, up to 4096 instants evenly thinned; what is held on a GPU is as
        of its last event, in tokens or blocks.
    segments : structured array
        One row a segment, like iterations of a GPU, in order of their beginning, as many as were asked for
        (`mbexp.simulator.continuous.layout.SEGMENT`).
    num_segments : int
        How many there were.
    block_tokens : int
        Tokens in a unit of what is held: 1 where memory is reserved.
    prefix : PrefixHits or None
        None where prefixes are not cached.
    paused_request_s : float
        Time that requests ran on GPUs which waited for newcomers: while no iteration was under way.
    waiting_max, outgrown, instants : int
        Most requests that waited at one time; outputs that outgrew their prediction; instants of the event loop.
    lost_gaps : int
        Gaps that were counted between tokens which were lost later.
    """

    REQUEST_COLUMNS: ClassVar[tuple[str, ...]] = ("preemptions", *Outcome.REQUEST_COLUMNS)

    start_s: FloatArray
    first_token_s: FloatArray
    finish_s: FloatArray
    gpu: IntArray
    preemptions: IntArray
    gaps: TokenGaps
    gpus: npt.NDArray[Any]
    samples: npt.NDArray[Any]
    segments: npt.NDArray[Any]
    num_segments: int
    block_tokens: int
    waiting_max: int
    outgrown: int
    instants: int
    prefix: PrefixHits | None = None
    paused_request_s: float = 0.0
    lost_gaps: int = 0

    def column(self, name: str, chosen: slice | npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return a column of `REQUEST_COLUMNS` for some of the accepted requests."""
        values: npt.NDArray[Any] = getattr(self, name)[chosen]
        return values

    def started_before(self, instants_s: FloatArray) -> npt.NDArray[np.int64]:
        """Return how many requests had started before each instant."""
        return np.searchsorted(np.sort(self.start_s), instants_s)

    def busy_while_arriving_s(self) -> float:
        """Return how long all GPUs together were busy up to the last arrival.

        After it a GPU is busy until its last completion, since nothing new comes to one that is empty. Requests that
        move between GPUs, preempted under central queues, can make this a little too low.
        """
        until_s = np.full(self.num_gpus, self.arrival_s[-1])
        ends_s = until_s.copy()
        np.maximum.at(ends_s, self.gpu, self.finish_s)
        return float(self.gpus["busy_s"].sum() - (ends_s - until_s).sum())

    def measured(self, first: int) -> MeasuredOneByOne:
        """Return the instants of the accepted requests from `first` on."""
        columns = (self.arrival_s, self.start_s, self.first_token_s, self.finish_s)
        return MeasuredOneByOne(first, *(column[first:] for column in columns))

    @property
    def recomputed_tokens(self) -> int:
        """Tokens that prefills computed, or found computed, beyond every prompt once."""
        skipped = self.prefix.skipped_tokens if self.prefix else 0
        return int(self.gpus["prefill_tokens"].sum()) + skipped - int(self.prompt_tokens.sum(dtype=np.int64))

    @property
    def mean_decoding(self) -> float:
        """Mean number of requests in a decode step; NaN where there was none."""
        steps = int(self.gpus["step"].sum())
        return int(self.gpus["decoded_tokens"].sum()) / steps if steps else np.nan


@dataclass(frozen=True)
class MeasuredOneByOne:
    """Requests whose instants are kept one by one.

    Attributes
    ----------
    first : int
        Place of the first of them among the accepted requests.
    arrival_s, start_s, first_token_s, finish_s : float64 arrays, shape (measured,)
        Instants of each.
    """

    first: int
    arrival_s: FloatArray
    start_s: FloatArray
    first_token_s: FloatArray
    finish_s: FloatArray

    def latency_s(self) -> FloatArray:
        """Completion - arrival."""
        return self.finish_s - self.arrival_s

    def ttft_s(self) -> FloatArray:
        """First token - arrival."""
        return self.first_token_s - self.arrival_s

    def queue_delay_s(self) -> FloatArray:
        """Start - arrival."""
        return self.start_s - self.arrival_s

    def service_s(self) -> FloatArray:
        """Completion - start."""
        return self.finish_s - self.start_s

    def decode_s(self) -> FloatArray:
        """Completion - first token."""
        return self.finish_s - self.first_token_s

    @property
    def end_s(self) -> float:
        """Last completion."""
        return float(self.finish_s.max())
