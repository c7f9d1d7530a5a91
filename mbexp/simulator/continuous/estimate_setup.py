"""What estimates and rules on who gives way are made of before a run, and what they do not go with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from mbexp.errors import UserError
from mbexp.policy.build import Policy
from mbexp.simulator.continuous.estimates import AS_PREDICTED, AT_LEAST, OF_HISTORY

# `low` and `high` are predictions too, other ones (`mbexp.prediction.interval`).
ESTIMATES = {
    "predicted": AS_PREDICTED, "low": AS_PREDICTED, "high": AS_PREDICTED, "lightllm": AT_LEAST, "history": OF_HISTORY,
}  # fmt: skip
HISTORY_BYTES_MAX = 8e9

EstimateRules = Any  # `mbexp.simulator.continuous.setup.ContinuousRules`, which asks this module


def refuse_estimates(policy: Policy, num_gpus: int, rules: EstimateRules) -> None:
    """Refuse what does not go with estimates, with a rule on who gives way, or with requests that begin anew."""
    if rules.future_estimate != "predicted" and rules.kv != "future":
        raise UserError(
            f"execution.future_estimate={rules.future_estimate}: is a rule of admission by the future peak; "
            "use execution.kv=future"
        )
    if rules.future_estimate == "history" and num_gpus * rules.future_history * 8 > HISTORY_BYTES_MAX:
        raise UserError(
            f"execution.future_history={rules.future_history}: {num_gpus} GPUs that remember so many outputs each need "
            "too much memory; Past-Future's 200 is enough for most"
        )
    for key, value in (("gives_way", rules.gives_way), ("preemption", rules.preemption)):
        if value not in ("least_predicted", "restart"):
            continue
        mistake = None
        if rules.prefix_cache != "none":
            mistake = "does not go with a prefix cache; use execution.prefix_cache=none"
        elif rules.output_reserve == "ratio":
            mistake = "does not go with execution.output_reserve=ratio, which has a rule of its own; use none or full"
        elif policy.wait:
            mistake = "does not go with a scheduler that waits for newcomers; use scheduler.wait=none"
        elif key == "gives_way" and policy.order is not None and policy.order.preempts:
            mistake = "does not go with scheduler.preempt=true, which names another who stops; use preempt=false"
        if mistake:
            raise UserError(f"execution.{key}={value}: {mistake}")


def estimate_sizes(rules: EstimateRules, num_gpus: int) -> dict[str, Any]:
    """Return what the head of a run says of estimates and who gives way; nothing where they are those of every run."""
    kind = ESTIMATES[rules.future_estimate]
    least_goes, restarts = rules.gives_way == "least_predicted", rules.preemption == "restart"
    if kind == AS_PREDICTED and not least_goes and not restarts:
        return {}
    looks_back = kind == OF_HISTORY
    return {
        "estimate": kind,
        "estimate_seed": rules.estimate_seed,
        "num_histories": num_gpus if looks_back else 0,
        "history_size": rules.future_history if looks_back else 0,
        "least_goes": least_goes,
        "restarts": restarts,
    }


def begin_histories(state: SimpleNamespace, longest_tokens: int) -> None:
    """Fill the histories half with the largest prediction, as before any request is answered."""
    half = max(state.lengths.shape[1] // 2, 1)
    state.lengths[:, :half] = state.lengths_by_size[:, :half] = longest_tokens
    state.histories["count"] = half
    state.histories["next"] = half % state.lengths.shape[1]
