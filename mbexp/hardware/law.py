"""What a latency law is: a price of whole batches, a price of iterations, their provenance and range of validity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from numba import types

from mbexp.compiled.decorators import compiled
from mbexp.config.plugins import Broken
from mbexp.errors import UserError

if TYPE_CHECKING:
    from mbexp.config.gpu_keys import GpuConfig

FloatArray = npt.NDArray[np.float64]

LAW_SIGNATURE = types.UniTuple(types.float64, 3)(types.Array(types.float64, 1, "C"), *[types.int64] * 6)
LAW_TYPE = types.FunctionType(LAW_SIGNATURE)  # of a batch price
ITERATION_SIGNATURE = types.UniTuple(types.float64, 3)(
    types.Array(types.float64, 1, "C"), *[types.int64] * 3, types.float64, types.float64, types.int64
)
ITERATION_TYPE = types.FunctionType(ITERATION_SIGNATURE)


class BatchFunction(Protocol):
    """The time of a whole batch, run to completion; made by `batch_price`.

    Returns (service_s, first_token_s, step_s): the time of the whole batch, the time from its start to the first token
    (the prefill), and the mean time between tokens while it decodes. None may be negative. All lengths are in tokens;
    `longest_total` is the largest prompt + output of one member.
    """

    def __call__(
        self,
        parameters: FloatArray,
        batch_size: int,
        longest_prompt: int,
        longest_output: int,
        longest_total: int,
        sum_prompt: int,
        sum_output: int,
        /,
    ) -> tuple[float, float, float]: ...


class IterationFunction(Protocol):
    """The time of one iteration of continuous batching; made by `iteration_price`.

    The iteration decodes one token for each of `decodes` sequences, which hold `context_tokens` in total. It computes
    `prompt_tokens` of prefill: chunks of n tokens after x, whose ``(x + n)^2 - x^2`` add up to `prompt_squares`. The
    prefill of `prompts_ended` prompts ends in it. Any of these can be zero.

    Returns (seconds, growth_s, iterations). The loop repeats an iteration while the same sequences run. Each time,
    `context_tokens` grows by `decodes` and `prompt_squares` by `square_growth`. The price must then grow by `growth_s`
    each time, for `iterations` iterations, this one included: infinity where the price is linear in both, and
    1 where every iteration is to be priced anew.
    """

    def __call__(
        self,
        parameters: FloatArray,
        decodes: int,
        context_tokens: int,
        prompt_tokens: int,
        prompt_squares: float,
        square_growth: float,
        prompts_ended: int,
        /,
    ) -> tuple[float, float, float]: ...


F = TypeVar("F", BatchFunction, IterationFunction)


def batch_price(function: Callable[..., Any]) -> BatchFunction:
    """Compile the price of a whole batch; a decorator. Arguments and result: see `BatchFunction`."""
    return _price(LAW_SIGNATURE, function, "batch")


def iteration_price(function: Callable[..., Any]) -> IterationFunction:
    """Compile the price of an iteration; a decorator. Arguments and result: see `IterationFunction`."""
    return _price(ITERATION_SIGNATURE, function, "iteration")


def _price(signature: Any, function: Callable[..., Any], prices: str) -> Any:
    try:
        done: Any = compiled(signature)(function)
    except UserError as error:  # the other functions of the file can be used
        return Broken(error)
    done.prices = prices
    return done


@dataclass(frozen=True)
class Price(Generic[F]):
    """A compiled function and the numbers that it is handed.

    Attributes
    ----------
    function : BatchFunction or IterationFunction
        Decorated with `batch_price` or `iteration_price`.
    parameters : float64 array, C-contiguous
        Handed to `function` unread by anyone else.
    notes : tuple of str
        Sentences that a reader must see of results for which this price was used.
    prices_chunks : bool
        Whether the price of an iteration knows what a piece of a prompt takes.
    rising : bool
        Of a price of batches: whether it is known never to fall as any argument grows.
    """

    function: F
    parameters: FloatArray
    notes: tuple[str, ...] = ()
    prices_chunks: bool = True
    rising: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.function, Broken):
            raise self.function.error
        object.__setattr__(self, "parameters", np.ascontiguousarray(self.parameters, np.float64))


UNBOUNDED = (1, 2**31 - 1)


@dataclass(frozen=True)
class LatencyLaw:
    """A latency law ready for the loops.

    Attributes
    ----------
    batch : Price or None
        Of whole batches, which ``execution=run_to_completion`` needs.
    iteration : Price, function that returns one, or None
        Of iterations, which ``execution=continuous`` needs. A function is called when the price is first asked for, so
        that a run of whole batches does not wait for its compilation.
    provenance : str
        Where the numbers come from ("fitted to a generated grid", "measured on ...", "roofline, efficiencies assumed").
    batch_size_range, length_range_tokens : (int, int)
        Inclusive range in which the law is supported by its source; outside it a run says that it extrapolates.
    length : str
        ``output`` or ``prompt_plus_output``: which longest length of a batch the range and padding refer to.
    notes : tuple of str
        Sentences a reader of the results must see (a grid with missing points, times made monotone).
    request_overhead_s : float
        From the arrival of a request until it joins a queue; requests do not wait for one another in it.
    """

    name: str
    batch: Price[BatchFunction] | None
    iteration: Price[IterationFunction] | Callable[[], Price[IterationFunction]] | None
    provenance: str
    batch_size_range: tuple[int, int] = UNBOUNDED
    length_range_tokens: tuple[int, int] = UNBOUNDED
    length: str = "prompt_plus_output"
    notes: tuple[str, ...] = ()
    request_overhead_s: float = 0.0

    @classmethod
    def configured(
        cls,
        gpu: GpuConfig,
        provenance: str,
        batch: Price[BatchFunction] | None = None,
        iteration: Price[IterationFunction] | Callable[[], Price[IterationFunction]] | None = None,
        batch_size_range: tuple[int, int] = UNBOUNDED,
        length_range_tokens: tuple[int, int] = UNBOUNDED,
        notes: tuple[str, ...] = (),
        request_overhead_s: float = 0.0,
    ) -> LatencyLaw:
        """Return a law with the label of `gpu`; provenance and ranges hold where ``gpu.law`` gives none."""
        law = gpu.law
        return cls(
            name=gpu.name,
            batch=batch,
            iteration=iteration,
            provenance=law.provenance or provenance,
            batch_size_range=_pair(law.batch_size_range, batch_size_range),
            length_range_tokens=_pair(law.length_range_tokens, length_range_tokens),
            length=law.length,
            notes=notes,
            request_overhead_s=request_overhead_s,
        )

    def require_batch(self) -> Price[BatchFunction]:
        """Return the price of whole batches.

        Raises
        ------
        UserError
            If the law has none.
        """
        if self.batch is None:
            raise self._missing("run_to_completion", "batch", "continuous")
        return self.batch

    def require_iteration(self) -> Price[IterationFunction]:
        """Return the price of iterations.

        Raises
        ------
        UserError
            If the law has none.
        """
        if self.iteration is None:
            raise self._missing("continuous", "iteration", "run_to_completion")
        return self._iteration

    @cached_property
    def _iteration(self) -> Price[IterationFunction]:
        assert self.iteration is not None
        return self.iteration if isinstance(self.iteration, Price) else self.iteration()

    def _missing(self, mode: str, price: str, other: str) -> UserError:
        return UserError(
            f"execution={mode}: the latency law {self.name} has no {price} price; make one with "
            f"mbexp.rules.{price}_price, or use execution={other}"
        )

    def service(
        self,
        batch_size: int,
        longest_prompt: int,
        longest_output: int,
        longest_total: int | None = None,
        sum_prompt: int | None = None,
        sum_output: int | None = None,
    ) -> tuple[float, float, float]:
        """Price one batch from Python; omitted sums and totals are those of equal members."""
        price = self.require_batch()
        service_s, first_token_s, step_s = price.function(
            price.parameters,
            batch_size,
            longest_prompt,
            longest_output,
            longest_prompt + longest_output if longest_total is None else longest_total,
            batch_size * longest_prompt if sum_prompt is None else sum_prompt,
            batch_size * longest_output if sum_output is None else sum_output,
        )
        return float(service_s), float(first_token_s), float(step_s)

    def iteration_s(
        self,
        decodes: int,
        context_tokens: int,
        prompt_tokens: int = 0,
        prompt_squares: float = 0.0,
        prompts_ended: int = 0,
    ) -> float:
        """Price one iteration from Python; arguments as of `IterationFunction`."""
        price = self.require_iteration()
        seconds, _, _ = price.function(
            price.parameters, decodes, context_tokens, prompt_tokens, prompt_squares, 0.0, prompts_ended
        )
        return float(seconds)

    def decode_step_s(self, batch_size: int, context_tokens: int) -> float:
        """Price one decode step of `batch_size` sequences that hold `context_tokens` in total."""
        return self.iteration_s(batch_size, context_tokens)

    def prefill_s(self, sequences: int, prompt_tokens: int) -> float:
        """Price one prefill of `sequences` prompts of `prompt_tokens` each."""
        tokens = sequences * prompt_tokens
        return self.iteration_s(0, 0, tokens, float(tokens * prompt_tokens), sequences)


def _pair(configured: Sequence[int] | None, default: tuple[int, int]) -> tuple[int, int]:
    return default if configured is None else (configured[0], configured[1])
