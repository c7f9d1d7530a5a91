"""What the requests of a problem bring into the order of their queues, the same for every mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError

if TYPE_CHECKING:
    from mbexp.config.keys import SlaConfig
    from mbexp.hardware.law import LatencyLaw
    from mbexp.modes.problem import Problem
    from mbexp.policy.build import Policy
    from mbexp.simulator.order import Claims
    from mbexp.workload.classes import Classes

Alone = Callable[["LatencyLaw", npt.NDArray[np.int32], npt.NDArray[np.int32]], npt.NDArray[np.float64]]

BY_SIZE = ("sjf", "sjf_ageing", "sjf_ageing_discount", "sjf_ageing_weighted")  # orders that read the size of a request


def claims_of(
    problem: Problem, policy: Policy, predicted_tokens: npt.NDArray[np.int32], alone_s: Alone
) -> Claims | None:
    """Return what the requests bring into an order; None where queues are first in, first out.

    Parameters
    ----------
    predicted_tokens : int32 array, shape (n,)
        As every other rule sees them.
    alone_s
        The time of each request alone on a GPU, from the law, prompts and predicted outputs.

    Raises
    ------
    UserError
        If the order sorts by predictions, and there is but one for all requests.
    """
    if policy.order is None:
        return None
    order = problem.config.scheduler.order
    if (policy.order.fair or order == "priority") and not problem.classes:
        raise UserError(f"scheduler.order={order}: is a rule for classes; set workload.classes")
    from mbexp.simulator.order import Claims

    config, trace = problem.config, problem.trace
    scheduler = config.scheduler
    by_size = order in BY_SIZE and scheduler.order_by == "output"
    rises = config.execution.preemption == "restart"  # of who lost its tokens more is known
    if (by_size or order == "srpt") and config.predictor.kind == "constant" and not rises:
        raise UserError(
            f"scheduler.order={order}: sorts by predicted outputs, and predictor=constant predicts the same "
            f"for all requests; use another predictor{', or scheduler.order_by=prompt' if by_size else ''}"
        )
    sla = config.sla
    limit_s, priority = np.full(len(trace), usual_deadline_s(sla)), np.zeros(len(trace))
    if problem.classes:
        limit_s, priority = deadline_s(problem.classes, sla), problem.classes.values("priority")
    if scheduler.order == "edf" and len(trace) and not np.isfinite(limit_s).any():
        raise UserError("scheduler.order=edf: no request has a deadline; set sla.ttft_s or sla.request_s")
    return Claims(
        service_s=alone_s(problem.fleet.law, trace.prompt_tokens, predicted_tokens),
        limit_s=limit_s,
        priority=priority,
        of_class=problem.classes.of if problem.classes else np.zeros(len(trace), np.int32),
        weights=np.array([each.weight for each in problem.classes.settings]) if problem.classes else np.ones(1),
    )


def usual_deadline_s(sla: SlaConfig) -> float:
    """Return the limit of a request without a class: to the first token where one is set, else to the last."""
    set_s = [limit_s for limit_s in (sla.ttft_s, sla.request_s) if limit_s is not None]
    return set_s[0] if set_s else np.inf


def deadline_s(classes: Classes, sla: SlaConfig) -> npt.NDArray[np.float64]:
    """Return the limit that an order looks at, shape (n,): to the first token where one is set, else to the last."""
    none_s = np.full(len(classes.of), np.inf)
    first_s, last_s = classes.limit("ttft_s", sla.ttft_s), classes.limit("request_s", sla.request_s)
    last_s = none_s if last_s is None else last_s
    return last_s if first_s is None else np.where(np.isfinite(first_s), first_s, last_s)
