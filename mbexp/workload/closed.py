"""A closed loop: a fixed number of users, each of whom sends the next request once the last is answered."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mbexp.config.workload_keys import ArrivalsConfig, WorkloadConfig
from mbexp.errors import UserError

STREAM_THINK = 104  # beside those of `mbexp.workload.kinds.synthetic`

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class ClosedLoop:
    """Who sends the requests of a trace, where an answer is what makes the next request come.

    Requests are sent in the order of the trace, whichever user sends them: the j-th arrival is that of request j.

    Attributes
    ----------
    users : int
        Each sends a request at 0.
    think_s : float64 array, shape (n,)
        How long after the answer to each request its user sends another.
    first_s : float
        When the first request of each user comes.
    """

    users: int
    think_s: FloatArray
    first_s: float = 0.0

    def arrivals_before_the_run(self) -> FloatArray:
        """Return the arrivals that are known: that of one request of each user, infinity for the others."""
        arrival_s = np.full(len(self.think_s), np.inf)
        arrival_s[: self.users] = self.first_s
        return arrival_s

    def digest(self) -> bytes:
        """Return the bytes that tell these users from others."""
        return str(self.users).encode() + np.ascontiguousarray(self.think_s).tobytes()

    def of(self, accepted: IntArray) -> ClosedLoop:
        """Return the loop of the accepted requests: the user of a rejected one sends the next at once."""
        return dataclasses.replace(self, think_s=self.think_s[accepted])

    def later(self, delay_s: float) -> ClosedLoop:
        """Return the loop as a queue sees it that every request reaches `delay_s` after it was sent."""
        return ClosedLoop(self.users, self.think_s + delay_s, self.first_s + delay_s)


def closed_loop(workload: WorkloadConfig, count: int, seed: int) -> ClosedLoop | None:
    """Return the users that a workload names, None where arrivals do not depend on answers.

    Raises
    ------
    UserError
        If users are named without the closed loop, or the other way round.
    """
    arrivals = workload.arrivals
    if workload.kind == "sessions" and arrivals.kind == "closed":
        return None  # users begin conversations there: `mbexp.workload.sessions`
    applies = workload.kind == "synthetic" or workload.timestamps == "generated"
    if arrivals.kind != "closed" or not applies:
        if arrivals.users is not None:
            raise UserError(
                f"workload.arrivals.users={arrivals.users}: has no effect with workload.arrivals.kind={arrivals.kind}; "
                "use workload.arrivals.kind=closed"
            )
        return None
    if arrivals.users is None:
        raise UserError("workload.arrivals.users=null: workload.arrivals.kind=closed needs it; say how many users")
    return ClosedLoop(arrivals.users, draw_think_s(arrivals, count, seed))


def draw_think_s(arrivals: ArrivalsConfig, count: int, seed: int) -> FloatArray:
    """Return the think time of a user after each of so many answers, seconds, float64, shape (count,)."""
    if arrivals.think_kind == "constant":
        return np.full(count, arrivals.think_time_s)
    rng = np.random.default_rng(np.random.SeedSequence([seed, STREAM_THINK]))
    return rng.standard_exponential(count) * arrivals.think_time_s
