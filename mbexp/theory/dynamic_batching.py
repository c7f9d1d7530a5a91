"""Dynamic batching, the model of P2: the memory bound of Algorithm 1, the target of Algorithm 2, and what a slot holds.

P2 is "Optimizing LLM Inference Throughput via Memory-aware and SLA-constrained Dynamic Batching", Pang et al.,
arXiv 2503.05248. Where it errs, the docstrings say how.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError

FloatArray = npt.NDArray[np.float64]


# ---- Algorithm 1: memory -------------------------------------------------------------------------------------------


def memory_bound(capacity_tokens: float, mean_tokens: float, sd_tokens: float, overflow_probability: float) -> float:
    """Return b_mem, not yet rounded down: the largest batch that overflows with at most `overflow_probability`.

    b = ((sqrt((theta sigma)^2 + 4 mu eta) - theta sigma) / (2 mu))^2, theta = Phi^-1(1 - eps_M): the solution of
    mu b + theta sigma sqrt(b) = eta, where the total of b independent requests is taken as Normal.

    Parameters
    ----------
    capacity_tokens
        eta, the KV tokens that fit.
    mean_tokens, sd_tokens
        mu and sigma of one request's prompt + output.
    overflow_probability
        eps_M.
    """
    buffer = overflow_quantile(overflow_probability) * sd_tokens
    root = math.sqrt(buffer * buffer + 4 * mean_tokens * capacity_tokens)
    return ((root - buffer) / (2 * mean_tokens)) ** 2


def memory_bound_fixed_point(
    capacity_tokens: float, mean_tokens: float, sd_tokens: float, overflow_probability: float, steps: int = 200
) -> float:
    """Return `memory_bound` by Algorithm 1's own iteration b <- (eta - theta sigma sqrt(b)) / mu, from no buffer."""
    theta = overflow_quantile(overflow_probability)
    batch = capacity_tokens / mean_tokens
    for _ in range(steps):
        batch = (capacity_tokens - corrected_buffer(batch, sd_tokens, theta)) / mean_tokens
        batch = max(batch, 0.0)
    return batch


def corrected_buffer(batch: float, sd_tokens: float, theta: float) -> float:
    """Return the right L0 = theta sigma sqrt(b), in tokens."""
    return theta * sd_tokens * math.sqrt(batch)


def printed_buffer(capacity_tokens: float, batch: float, mean_tokens: float, sd_tokens: float, theta: float) -> float:
    """Return L0 as P2 prints it: eta - (theta sigma_S + mu_S), of the total S of the current batch.

    Put into b_mem = (eta - L0) / mu, eta cancels: the rule then gives `printed_memory_bound`, whatever the memory.
    """
    return capacity_tokens - (corrected_buffer(batch, sd_tokens, theta) + batch * mean_tokens)


def printed_memory_bound(batch: float, mean_tokens: float, sd_tokens: float, overflow_probability: float) -> float:
    """Return b_mem by the printed L0: b + theta sigma sqrt(b) / mu. It exceeds any current batch b, without end."""
    return batch + overflow_quantile(overflow_probability) * sd_tokens * math.sqrt(batch) / mean_tokens


def original_memory_bound(capacity_tokens: float, mean_tokens: float) -> float:
    """Return b_mem by the original code's L0 = 0.1 eta: 0.9 eta / mu, blind to the spread of lengths."""
    return 0.9 * capacity_tokens / mean_tokens


def overflow_quantile(overflow_probability: float) -> float:
    """Return theta = Phi^-1(1 - eps_M)."""
    from scipy.special import ndtri

    if not 0 < overflow_probability < 1:
        raise UserError(f"overflow_probability={overflow_probability}: must be between 0 and 1")
    return float(-ndtri(overflow_probability))


def overflow_chance(capacity_tokens: float, mean_tokens: float, sd_tokens: float, batch: float) -> float:
    """Return the probability that `batch` requests need more than the memory, in the Normal model of P2."""
    from scipy.special import ndtr

    return float(ndtr((batch * mean_tokens - capacity_tokens) / (sd_tokens * math.sqrt(batch))))


# ---- Algorithm 2: token SLA ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LinearStep:
    """P2's decode step: tau(b) = c0 + c1 b (its Fig. 3: .22 b + 30 ms)."""

    fixed_ms: float = 30.0
    per_request_ms: float = 0.22

    def step_ms(self, batch: float) -> float:
        """Return tau(b)."""
        return self.fixed_ms + self.per_request_ms * batch

    def tokens_per_s(self, batch: float) -> float:
        """Return the throughput b / tau(b)."""
        return 1000 * batch / self.step_ms(batch)

    def batch_within(self, token_sla_ms: float) -> float:
        """Return the real batch size whose step takes exactly the SLA: what Algorithm 2 searches for."""
        if token_sla_ms < self.fixed_ms:
            raise UserError(f"token_sla_ms={token_sla_ms:g}: cannot be met, a step takes at least {self.fixed_ms:g} ms")
        return (token_sla_ms - self.fixed_ms) / self.per_request_ms

    def tokens_per_s_within(self, token_sla_ms: float) -> float:
        """Return the largest throughput under the SLA."""
        return self.tokens_per_s(self.batch_within(token_sla_ms))


@dataclass
class SlaSearch:
    """Algorithm 2 of P2, plainly: two bounds close in on the largest batch within the token SLA.

    P2 prints no numbers for `alpha`, `delta` and `tolerance_ms`. On tau = .22 b + 30 ms with D = 50 ms the target is
    90.9; with alpha 16, delta 4, tolerance 2 ms it settles near it, anywhere in the band of 9 requests on either side.
    """

    token_sla_ms: float
    batch_min: int = 1
    batch_max: int = 128
    alpha: float = 16.0
    delta: float = 4.0
    tolerance_ms: float = 2.0
    low: float = field(init=False)
    high: float = field(init=False)

    def __post_init__(self) -> None:
        self.low, self.high = float(self.batch_min), float(self.batch_max)

    def limit(self, running: int = 0) -> int:
        """Return b_SLA: the middle of the bounds, rounded down, between the running count of that GPU and B_max."""
        return min(max(math.floor((self.low + self.high) / 2), running), self.batch_max)

    def update(self, mean_step_ms: float, mean_batch: float) -> None:
        """Take in the recent means; the right-hand sides use the bounds before the update."""
        low, high = self.low, self.high
        if mean_step_ms > self.token_sla_ms + self.tolerance_ms:
            self.high = max(mean_batch, low + self.alpha)
            self.low = max(low - self.delta, self.batch_min)
        elif mean_step_ms < self.token_sla_ms - self.tolerance_ms:
            self.low = min(mean_batch, high - self.alpha)
            self.high = min(high + self.delta, self.batch_max)
        else:
            self.high = min(mean_batch + math.floor(self.alpha / 2), self.batch_max)
            self.low = max(mean_batch - math.floor(self.alpha / 2), self.batch_min)


def original_law_batch_limit(token_sla_ms: float, beta_ms: float = 5.742, gamma: float = 0.316) -> float:
    """Return the largest batch whose TBT beta (1 + gamma (b - 1) / b) is within the SLA, under the original's law.

    0 where the SLA cannot be met (below beta), ``inf`` where it cannot bind: TBT stays below beta (1 + gamma) =
    7.5565 ms for any batch, so that the original's 10 ms never binds.
    """
    if token_sla_ms < beta_ms:
        return 0
    excess = (token_sla_ms / beta_ms - 1) / gamma
    if excess >= 1:
        return math.inf
    limit = math.floor(1 / (1 - excess))
    # rounding can push an exact fit across a whole number
    if original_law_step_ms(limit + 1, beta_ms, gamma) <= token_sla_ms:
        limit += 1
    return limit


def original_law_step_ms(batch: float, beta_ms: float = 5.742, gamma: float = 0.316) -> float:
    """Return the original's TBT: beta h(b), h(b) = 1 + gamma (b - 1) / b."""
    return beta_ms * (1 + gamma * (batch - 1) / batch)


def relative_gain_pct(before: float, after: float) -> float:
    """Return by how much `after` exceeds `before`; P2's Table I prints 26.0 % for 2215 -> 2569, which is 16.0 %."""
    return 100 * (after / before - 1)


# ---- Memory of a slot under continuous batching --------------------------------------------------------------------


def slot_tokens(prompt_tokens: npt.ArrayLike, output_tokens: npt.ArrayLike) -> float:
    """Return the mean KV tokens of a busy slot under continuous batching: E[in out]/E[out] + E[out^2]/(2 E[out]).

    A request is seen in proportion to the steps that it stays, so long outputs count for more (length bias); the mean
    of prompt + output, which P2's Algorithm 1 uses, is the need at the last step, not this. Counted at the
    end of each step, whole tokens add another 1/2: `slot_tokens_after_step`.
    """
    prompt, output = np.asarray(prompt_tokens, dtype=np.float64), np.asarray(output_tokens, dtype=np.float64)
    if prompt.shape != output.shape or output.size == 0 or output.sum() <= 0:
        raise UserError("slot_tokens: needs as many prompt as output lengths, and some output")
    return float((prompt * output).mean() / output.mean() + (output**2).mean() / (2 * output.mean()))


def slot_tokens_after_step(prompt_tokens: npt.ArrayLike, output_tokens: npt.ArrayLike) -> float:
    """Return the same with the step's own token counted: the mean over steps j = 1..out of in + j."""
    return slot_tokens(prompt_tokens, output_tokens) + 0.5


def continuous_saturation_throughput(slots: int, mean_output_time: float) -> float:
    """Return the requests per unit of time of B always busy slots, B / E[out time].

    It equals the limit of P1's throughput as k grows: with a step time that does not depend on the batch, binning
    wins what continuous batching wins, and gains nothing on top of it to first order.
    """
    return slots / mean_output_time
