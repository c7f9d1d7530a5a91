"""Policies of continuous batching, from the configuration: running limit, bin selection and assignment."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import config

from mbexp.config.keys import MEMORY_RULES, ExecutionConfig, SchedulerConfig, SlaConfig
from mbexp.config.plugins import load_object
from mbexp.errors import UserError
from mbexp.policy import assignment, running_limit, selection
from mbexp.policy.continuous_signatures import ASSIGN_MEMORY, ASSIGN_SIGNATURE, RUNNING_LIMIT_SIGNATURE
from mbexp.policy.signatures import SELECT_SIGNATURE, SELECTION_MEMORY

FloatArray = npt.NDArray[np.float64]

DETERMINISTIC = ("join_shortest", "least_kv", "round_robin")


@dataclass(frozen=True)
class ContinuousPolicy:
    """Function values and their parameters, ready for the loop.

    Attributes
    ----------
    running_limit, select, assign : compiled functions
        Of `mbexp.policy.continuous_signatures` and `mbexp.policy.signatures`.
    running_limit_parameters : float64 array
        Handed to the function unread.
    state_width : int
        Floats of state that the running limit keeps for each GPU.
    limit_max : int
        No GPU runs more than this.
    interval_steps : int
        Decode steps between two calls of the running limit; 0 for none after the first.
    central : bool
        One queue a bin for all GPUs, and no assignment.
    needs_draws : bool
        Whether the assignment needs random numbers.
    """

    running_limit: Any
    running_limit_parameters: FloatArray
    state_width: int
    limit_max: int
    interval_steps: int
    select: Any
    assign: Any
    central: bool
    needs_draws: bool

    def limit_state(self, num_gpus: int) -> FloatArray:
        """Return fresh state of the running limit, shape (num_gpus, state_width)."""
        return np.zeros((num_gpus, self.state_width))

    def selection_memory(self, num_queues: int) -> int:
        """Return how many floats the selection rule keeps."""
        return SELECTION_MEMORY + num_queues

    def assign_memory(self, num_shares: int) -> FloatArray:
        """Return fresh memory of the assignment rule."""
        return np.zeros(ASSIGN_MEMORY + num_shares)


def build_continuous_policy(
    scheduler: SchedulerConfig, sla: SlaConfig, execution: ExecutionConfig, kv_capacity_tokens: int
) -> ContinuousPolicy:
    """Return the policy that the configuration names, for GPUs of the given KV capacity."""
    interval, width = execution.interval_steps, 64
    if scheduler.batch_size == "fixed":
        rule = running_limit.cap
        parameters = np.array([float(scheduler.fixed_batch_size)])
        limit_max, interval = scheduler.fixed_batch_size, 0
    else:
        own = scheduler.batch_size != "dynamic"
        rule = _own("scheduler.batch_size", scheduler.batch_size) if own else running_limit.dynamic
        parameters = _dynamic_parameters(scheduler, sla, kv_capacity_tokens)
        width = running_limit.WINDOW + 2 * max(scheduler.controller.window_batches, 32)
        limit_max = scheduler.batch_size_max
    central = execution.assignment == "central"
    assign = assignment.round_robin
    if not central:
        own = "." in execution.assignment
        assign = (
            _own("execution.assignment", execution.assignment, ASSIGN_SIGNATURE)
            if own
            else getattr(assignment, execution.assignment)
        )
    named = scheduler.selection
    select = _own("scheduler.selection", named, SELECT_SIGNATURE) if "." in named else getattr(selection, named)
    return ContinuousPolicy(
        running_limit=rule,
        running_limit_parameters=parameters,
        state_width=width,
        limit_max=limit_max,
        interval_steps=interval,
        select=select,
        assign=assign,
        central=central,
        needs_draws=not central and execution.assignment not in DETERMINISTIC,
    )


def _dynamic_parameters(scheduler: SchedulerConfig, sla: SlaConfig, capacity: int) -> FloatArray:
    controller = scheduler.controller
    return np.array(
        [
            scheduler.batch_size_min,
            scheduler.batch_size_max,
            capacity,
            NormalDist().inv_cdf(1 - scheduler.memory_overflow_probability),
            MEMORY_RULES.index(scheduler.memory_rule),
            sla.token_ms / 1000,
            controller.tolerance_ms / 1000,
            controller.alpha_requests,
            controller.delta_requests,
            controller.window_batches,
            controller.interval_batches,
        ],
        dtype=np.float64,
    )


def _own(where: str, name: str, signature: Any = RUNNING_LIMIT_SIGNATURE) -> Any:
    function = load_object(where, name)
    if config.DISABLE_JIT and callable(function):  # type: ignore[attr-defined]  # rules are plain functions then, and cannot be checked
        return function
    if not any(known.args == signature.args for known in getattr(function, "nopython_signatures", [])):
        raise UserError(
            f"{where}={name}: not a rule of this kind under execution=continuous; decorate it with one of "
            "mbexp.policy.continuous_signatures"
        )
    return function
