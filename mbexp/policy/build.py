"""From the configuration to a policy: for each slot that the mode of execution uses, a rule with its numbers."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from mbexp.config.keys import SlaConfig
from mbexp.config.scheduler_keys import MEMORY_RULES, ORDER_BY, WAITS, SchedulerConfig
from mbexp.errors import UserError
from mbexp.policy.slots import (
    ASSIGNMENT,
    FILL,
    LIMIT,
    ORDER,
    SELECTION,
    Rule,
    Slot,
    check_names,
    find_rule,
    numbers_of,
    reads,
)
from mbexp.policy.views import Bounds

FloatArray = npt.NDArray[np.float64]

CENTRAL = "central"  # in place of an assignment rule: GPUs share the queues
FIFO = "fifo"  # in place of an order rule: nobody is asked
# Memory rules that batches which run to completion have no use for.
OF_THOSE_WHO_RUN = {"printed": "P2's rule as printed", "released": "the rule of P2's released code"}


@dataclass(frozen=True)
class QueueOrder:
    """Who is next inside a queue.

    Attributes
    ----------
    rule : Rule
    by : int
        Place in `mbexp.config.scheduler_keys.ORDER_BY`: what the rule sees as the size of a request.
    changes : bool
        Whether keys change with time, so that they are asked for anew.
    fair : bool
        Whether keys depend on what classes were served.
    preempts : bool
        Whether a head displaces who runs.
    share, margin : float
        Up to which share of its prediction a request can be displaced, and by a key how far below its own.
    grows : bool
        Whether the key of a request may grow as it is served, so that a head that waits may displace it later.
    """

    rule: Rule
    by: int
    changes: bool
    fair: bool
    preempts: bool = False
    share: float = np.inf
    margin: float = 0.0
    grows: bool = False


@dataclass(frozen=True)
class Policy:
    """The rules of a run.

    Attributes
    ----------
    limit, selection : Rule
    fill : Rule or None
        None where no batch is waited for.
    assignment : Rule or None
        None where GPUs share the queues.
    bounds : Bounds
        What the limit keeps to.
    limit_max : int
        No limit is larger.
    is_fixed : bool
        Whether the limit never changes.
    needs_draws : bool
        Whether the assignment may use random numbers.
    order : QueueOrder or None
        None where queues are first in, first out.
    wait : int
        Place in `mbexp.config.scheduler_keys.WAITS`: whether an iteration waits for newcomers.
    """

    limit: Rule
    selection: Rule
    fill: Rule | None
    assignment: Rule | None
    bounds: Bounds
    limit_max: int
    is_fixed: bool
    needs_draws: bool
    order: QueueOrder | None = None
    wait: int = 0

    def limit_state(self, owners: int) -> FloatArray:
        """Return what the limit keeps, fresh, for each queue or GPU; shape (owners, memory)."""
        return np.zeros((owners, self.limit.memory))


def build_policy(
    scheduler: SchedulerConfig,
    sla: SlaConfig,
    kv_capacity_tokens: int,
    *,
    in_batches: bool = True,
    assignment: str = CENTRAL,
) -> Policy:
    """Return the policy that the configuration names.

    Parameters
    ----------
    kv_capacity_tokens
        Of one GPU.
    in_batches
        Whether batches run to completion, so that a fill rule decides when one leaves.
    assignment
        Rule that gives an arrival to a GPU, or `CENTRAL`.

    Raises
    ------
    UserError
        If a rule does not exist, is of another slot, or has no such parameter.
    """
    fixed = scheduler.batch_size == "fixed"
    if in_batches and scheduler.memory_rule in OF_THOSE_WHO_RUN and not fixed:
        raise UserError(
            f"scheduler.memory_rule={scheduler.memory_rule}: {OF_THOSE_WHO_RUN[scheduler.memory_rule]} starts from the "
            "requests that run, and nobody runs where a batch is formed; use execution=continuous, or corrected or "
            "original"
        )
    if scheduler.batch_size == "dynamic" and sla.token_ms is None:
        raise UserError(
            "sla.token_ms=null: scheduler.batch_size=dynamic needs a limit to keep to (Algorithm 2); set it, or take "
            "scheduler.batch_size=fixed"
        )
    limit = _rule(LIMIT, scheduler.batch_size, _limit_parameters(scheduler, in_batches), scheduler)
    selection = _rule(SELECTION, scheduler.selection, np.zeros(0), scheduler)
    fill = _rule(FILL, scheduler.fill, np.array([scheduler.timeout_s]), scheduler) if in_batches else None
    assign = None if assignment == CENTRAL else _rule(ASSIGNMENT, assignment, np.zeros(0), scheduler)
    order = queue_order(scheduler)
    if scheduler.preempt:
        _refuse_to_preempt(scheduler.order, order, in_batches)
    if scheduler.wait != "none":
        _refuse_to_wait(scheduler, in_batches, assignment)
    if order and order.fair and in_batches:
        raise UserError(
            f"scheduler.order={scheduler.order}: counts what classes are served by token; use execution=continuous"
        )
    check_names((limit, selection, fill, assign, order.rule if order else None), scheduler.parameters)
    return Policy(
        limit=limit,
        selection=selection,
        fill=fill,
        assignment=assign,
        bounds=Bounds(
            float(scheduler.batch_size_min),
            float(scheduler.batch_size_max),
            float(kv_capacity_tokens),
            sla.token_s,
        ),
        limit_max=limit_max(scheduler),
        is_fixed=fixed,
        needs_draws=assign is not None and not _is_deterministic(assignment),
        order=order,
        wait=WAITS.index(scheduler.wait),
    )


def queue_order(scheduler: SchedulerConfig) -> QueueOrder | None:
    """Return who is next inside a queue; None for first in, first out."""
    if scheduler.order.removeprefix("mbexp.policy.order.") == FIFO:
        return None
    rule = _rule(ORDER, scheduler.order, np.zeros(0), scheduler)
    fair = reads(rule, "class_service")
    share = np.inf if scheduler.preempt_share is None else scheduler.preempt_share
    # Of mbexp's own orders one reads what a request has emitted, and its key falls with it.
    grows = scheduler.preempt and "." in scheduler.order and reads(rule, "emitted_tokens")
    return QueueOrder(
        rule, ORDER_BY.index(scheduler.order_by), fair or reads(rule), fair,
        scheduler.preempt, share, scheduler.preempt_margin, grows,
    )  # fmt: skip


def _refuse_to_preempt(name: str, order: QueueOrder | None, in_batches: bool) -> None:
    """Refuse orders under which nobody who runs can be displaced."""
    mistake = None
    if in_batches:
        mistake = "batches run to completion; use execution=continuous"
    elif order is None:
        mistake = "scheduler.order=fifo displaces nobody, for who runs came first; use sjf or srpt"
    elif order.changes:
        mistake = f"keys of scheduler.order={name} change while requests wait; use sjf, srpt, priority or edf"
    if mistake:
        raise UserError(f"scheduler.preempt=true: {mistake}")


def _refuse_to_wait(scheduler: SchedulerConfig, in_batches: bool, assignment: str) -> None:
    """Refuse policies under which no iteration can wait for newcomers."""
    mistake = None
    if in_batches:
        mistake = "scheduler.fill says when a batch leaves that runs to completion; use execution=continuous"
    elif scheduler.batch_size != "fixed":
        mistake = f"shares out a limit that stays; use scheduler.batch_size=fixed, not {scheduler.batch_size}"
    elif assignment == CENTRAL:
        mistake = "each GPU waits for a queue of its own; use execution.assignment=join_shortest, not central"
    elif scheduler.preempt:
        mistake = "does not go with scheduler.preempt=true, under which nobody waits for others; use false"
    if mistake:
        raise UserError(f"scheduler.wait={scheduler.wait}: {mistake}")


def first_come() -> QueueOrder:
    """Return the order of arrival as a rule, for a loop that asks one."""
    return QueueOrder(_rule(ORDER, FIFO, np.zeros(0), SchedulerConfig()), 0, False, False)


def limit_max(scheduler: SchedulerConfig) -> int:
    """Return the most requests that a limit may name."""
    if scheduler.batch_size != "fixed":
        return scheduler.batch_size_max
    assert scheduler.fixed_batch_size is not None  # `mbexp.config.engine_limits` fills it
    return scheduler.fixed_batch_size


def _rule(slot: Slot, name: str, parameters: FloatArray, scheduler: SchedulerConfig) -> Rule:
    """Return a rule of mbexp's with `parameters`, or one of the user's own with its own."""
    name = name.removeprefix(f"mbexp.policy.{slot.module}.")
    if "." in name:
        return find_rule(slot, name, scheduler.parameters)
    # Importing a module of rules compiles them, which a mode without the slot need not wait for.
    function = getattr(importlib.import_module(f"mbexp.policy.{slot.module}"), name)
    memory = slot.memory
    if slot is LIMIT:
        from mbexp.policy.limit import WINDOW

        memory = WINDOW + 4 * scheduler.controller.window_batches
    if getattr(function, "parameters", {}):
        parameters = numbers_of(function, scheduler.parameters)
    return Rule(function, parameters, memory)


def _limit_parameters(scheduler: SchedulerConfig, in_batches: bool) -> FloatArray:
    if scheduler.batch_size == "fixed":
        return np.array([float(limit_max(scheduler))])
    controller = scheduler.controller
    return np.array(
        [
            NormalDist().inv_cdf(1 - scheduler.memory_overflow_probability),
            MEMORY_RULES.index(scheduler.memory_rule),
            not in_batches,
            controller.tolerance_ms / 1000,
            controller.alpha_requests,
            controller.delta_requests,
            controller.window_batches,
            controller.interval_batches,
        ],
        dtype=np.float64,
    )


def _is_deterministic(name: str) -> bool:
    from mbexp.policy.assignment import DETERMINISTIC

    return name.removeprefix("mbexp.policy.assignment.") in DETERMINISTIC
