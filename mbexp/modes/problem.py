"""What a mode of execution is given (requests, predictions, queues and GPUs), and what it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from mbexp.config.keys import Config
from mbexp.errors import UserError
from mbexp.hardware import build_law, kv_capacity_tokens
from mbexp.hardware.law import LatencyLaw
from mbexp.prediction import Prediction, predict_trace
from mbexp.workload import load_trace
from mbexp.workload.classes import Classes, classes_of
from mbexp.workload.trace import Trace

if TYPE_CHECKING:
    import pyarrow as pa

    from mbexp.simulator.outcome import Outcome

Summary = dict[str, Any]


@dataclass(frozen=True)
class Fleet:
    """The GPUs: how many, and what each is.

    Attributes
    ----------
    count : int
    law : LatencyLaw
    kv_capacity_tokens : int
    """

    count: int
    law: LatencyLaw
    kv_capacity_tokens: int


@dataclass(frozen=True)
class Problem:
    """A checked configuration with everything that it names.

    Attributes
    ----------
    config : Config
    trace : Trace
    prediction : Prediction
    queue_of : uint16 array, shape (n,)
        Queue of each request, below `num_queues`.
    num_queues : int
    fleet : Fleet
    classes : Classes or None
        Who belongs to which class; None without classes.
    """

    config: Config
    trace: Trace
    prediction: Prediction
    queue_of: npt.NDArray[np.uint16]
    num_queues: int
    fleet: Fleet
    classes: Classes | None = None

    def random(self, stream: int) -> np.random.Generator:
        """Return a generator of random numbers of its own for one purpose; workload and predictor have theirs."""
        return np.random.default_rng(np.random.SeedSequence([self.config.seed, stream]))


def make_problem(config: Config, trace: Trace | None = None, prediction: Prediction | None = None) -> Problem:
    """Load or generate the requests, predict their lengths and build the GPUs; see `mbexp.run.run`.

    Raises
    ------
    UserError
        On a mistake in the configuration or the trace.
    """
    if trace is None:
        trace = load_trace(config.workload, config.num_requests, config.seed, config.replicate, config.columns_asked)
    if trace.closed and config.warm_up.time_s:
        raise UserError(
            f"warm_up.time_s={config.warm_up.time_s:g}: when requests of a closed loop arrive is not known before the "
            "run, nor when turns do that wait for answers; use warm_up.share_pct"
        )
    if not len(trace):
        raise UserError(f"workload={config.workload.kind}: no usable request")
    if prediction is None:
        prediction = predict_trace(config.predictor, config.bins, trace, config.seed)
    classes = classes_of(config.workload, trace, config.seed)
    queue_of, num_queues = _queues(config.scheduler.queue, len(trace), prediction, classes)
    return Problem(
        config=config,
        trace=trace,
        prediction=prediction,
        queue_of=queue_of,
        num_queues=num_queues,
        fleet=Fleet(config.gpu.count, build_law(config.gpu), kv_capacity_tokens(config.gpu)),
        classes=classes,
    )


def _queues(
    queue: str, count: int, prediction: Prediction, classes: Classes | None
) -> tuple[npt.NDArray[np.uint16], int]:
    """Return the queue of each of `count` requests, and how many queues there are."""
    if queue == "per_bin":
        return prediction.bin_of, prediction.bins.k
    if queue == "fifo":
        return np.zeros(count, np.uint16), 1
    if classes is None:
        raise UserError("scheduler.queue=per_class: there are no classes; set workload.classes")
    return classes.of.astype(np.uint16), len(classes.names)


class Mode(Protocol):
    """What a module of this package defines: a mode of execution."""

    @property
    def LOOP(self) -> str:
        """Module and name of the event loop, ``package.module:function``: what takes seconds to compile.

        The function is the one that is compiled, since machine code is kept under its name.
        """
        ...

    def simulate(self, problem: Problem) -> Outcome:
        """Serve the requests; a mistake in the configuration is a `UserError`."""
        ...

    def check(self, problem: Problem, outcome: Any) -> Summary:
        """Check the invariants; return ``invariants_checked`` and ``requests_waiting_max``."""
        ...

    def meets_token_sla(self, problem: Problem, outcome: Any, first: int) -> Any:
        """Return for each accepted request from `first` on whether its time between tokens meets the target."""
        ...

    def metrics(self, problem: Problem, outcome: Any, first: int) -> Summary:
        """Return the metrics of tokens, batches, GPUs and load; those of requests are the same for every mode."""
        ...

    def notes(self, problem: Problem, outcome: Any, summary: Summary) -> list[str]:
        """Return the sentences that a reader of such a run must see, besides those of any run."""
        ...

    def rows(self, outcome: Any) -> int:
        """Return how many rows `table` has."""
        ...

    def table(self, outcome: Any, first: int = 0, last: int | None = None) -> pa.Table:
        """Return the rows of batches.parquet from `first` up to, without, `last`."""
        ...
