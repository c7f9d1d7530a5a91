"""Batching policies: batch size, bin selection and fill, each a compiled function named in the config."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from mbexp.config.keys import SchedulerConfig, SlaConfig
from mbexp.config.plugins import load_object
from mbexp.errors import UserError
from mbexp.policy.signatures import (
    BATCH_SIZE_SIGNATURE,
    FILL_SIGNATURE,
    SELECT_SIGNATURE,
    SELECTION_MEMORY,
)

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Policy:
    """Function values and their parameters, ready for the loop.

    Attributes
    ----------
    batch_size, select, fill : compiled functions
        Of the signatures in `mbexp.policy.signatures`.
    batch_size_parameters, fill_parameters : float64 arrays
        Handed to the functions unread.
    state_width : int
        Floats of state that the batch-size rule keeps for each queue.
    limit_max : int
        No batch is larger than this.
    """

    batch_size: Any
    batch_size_parameters: FloatArray
    state_width: int
    select: Any
    fill: Any
    fill_parameters: FloatArray
    limit_max: int

    def state(self, num_queues: int) -> FloatArray:
        """Return fresh state, shape (num_queues, state_width)."""
        return np.zeros((num_queues, self.state_width))

    def memory(self, num_queues: int) -> FloatArray:
        """Return fresh memory of the selection rule."""
        return np.zeros(SELECTION_MEMORY + num_queues)


def build_policy(scheduler: SchedulerConfig, sla: SlaConfig, kv_capacity_tokens: int) -> Policy:
    """Return the policy that `scheduler` names, for GPUs of the given KV capacity."""
    from mbexp.policy import fill, selection  # imports compile, which continuous batching need not wait for

    rule, parameters, width, limit_max = _batch_size(scheduler, sla, kv_capacity_tokens)
    return Policy(
        batch_size=rule,
        batch_size_parameters=parameters,
        state_width=width,
        select=_named("scheduler.selection", scheduler.selection, selection, SELECT_SIGNATURE),
        fill=_named("scheduler.fill", scheduler.fill, fill, FILL_SIGNATURE),
        fill_parameters=np.array([scheduler.timeout_s]),
        limit_max=limit_max,
    )


def _batch_size(scheduler: SchedulerConfig, sla: SlaConfig, capacity: int) -> tuple[Any, FloatArray, int, int]:
    from mbexp.policy import batch_size

    if scheduler.batch_size == "fixed":
        size = scheduler.fixed_batch_size
        return batch_size.fixed, np.array([float(size)]), 4, size
    if scheduler.memory_rule == "printed":
        raise UserError(
            "scheduler.memory_rule=printed: P2's rule as printed starts from the requests that run; use "
            "execution=continuous, or corrected or original"
        )
    controller = scheduler.controller
    width = batch_size.WINDOW + 4 * controller.window_batches
    parameters = np.array(
        [
            scheduler.batch_size_min,
            scheduler.batch_size_max,
            capacity,
            NormalDist().inv_cdf(1 - scheduler.memory_overflow_probability),
            scheduler.memory_rule == "original",
            sla.token_ms / 1000,
            controller.tolerance_ms / 1000,
            controller.alpha_requests,
            controller.delta_requests,
            controller.window_batches,
            controller.interval_batches,
        ],
        dtype=np.float64,
    )
    rule = _named("scheduler.batch_size", scheduler.batch_size, batch_size, BATCH_SIZE_SIGNATURE)
    return rule, parameters, width, scheduler.batch_size_max


def _named(where: str, name: str, module: Any, signature: Any) -> Any:
    function = load_object(where, name) if "." in name else getattr(module, name)
    if numba.config.DISABLE_JIT and callable(function):  # type: ignore[attr-defined]
        # rules are plain functions then, and cannot be checked
        return function
    if not any(known.args == signature.args for known in getattr(function, "nopython_signatures", [])):
        raise UserError(f"{where}={name}: not a rule of this kind; decorate it with one of mbexp.policy.signatures")
    return function
