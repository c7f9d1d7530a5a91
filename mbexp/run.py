"""One run, from a checked configuration to a result, in the order in which the data flows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mbexp.config.keys import Config
from mbexp.modes import mode_of
from mbexp.modes.problem import Problem, Summary, make_problem
from mbexp.prediction import Prediction
from mbexp.results.by_class import request_metrics_by_class
from mbexp.results.metrics import request_metrics, warm_up_requests
from mbexp.results.notes import notes, short_tail
from mbexp.results.own import own_metrics
from mbexp.results.result import Result
from mbexp.simulator.outcome import OF_ANY_MODE, Outcome
from mbexp.workload.trace import Trace


def run(
    config: Config,
    trace: Trace | None = None,
    prediction: Prediction | None = None,
    metrics: Sequence[Callable[..., float]] = (),
) -> Result:
    """Run one configuration.

    Parameters
    ----------
    config
        As `mbexp.config.keys.load_config` returns it.
    trace
        Requests to use in place of those that `config.workload` names.
    prediction
        Predicted lengths and bins of `trace` under `config`, where they are known already.
    metrics
        Functions decorated with `mbexp.metric`, besides those that `config.metrics` names.

    Raises
    ------
    UserError
        On a mistake in the configuration or the trace.
    """
    began = time.perf_counter()
    problem = make_problem(config, trace, prediction)
    mode = mode_of(config)
    outcome = mode.simulate(problem)
    summary = {
        **_counts(problem, outcome),
        **mode.check(problem, outcome),
        **summarize(problem, outcome),
        "misbin_pct": problem.prediction.misbin_pct,
        **problem.prediction.errors,
        "bins": problem.num_queues,
        "kv_capacity_tokens": problem.fleet.kv_capacity_tokens,
        **own_metrics(config, problem.trace, outcome, mode, metrics),
        "wall_time_s": time.perf_counter() - began,
    }
    known = problem.trace, problem.prediction, problem.fleet.law
    warnings = (
        *notes(*known, summary),
        *short_tail(config, outcome, summary),
        *mode.notes(problem, outcome, summary),
    )
    return Result(config, *known, outcome, summary, warnings, mode)


def summarize(problem: Problem, outcome: Outcome) -> Summary:
    """Return every metric of an outcome that docs/metrics.md defines, but counts and what is known without a run."""
    mode = mode_of(problem.config)
    first = warm_up_requests(problem.config, outcome.arrival_s)
    seen = problem.config, outcome, first, mode.meets_token_sla(problem, outcome, first)
    of_requests = (
        request_metrics(*seen) if problem.classes is None else request_metrics_by_class(*seen, problem.classes)
    )
    return {
        **of_requests,
        **mode.metrics(problem, outcome, first),
    }


def _counts(problem: Problem, outcome: Outcome) -> Summary:
    rejected = {reason: len(outcome.rejected.get(reason, ())) for reason in OF_ANY_MODE}
    return {
        "arrived_requests": len(problem.trace),
        "completed_requests": len(outcome.arrival_s),  # as the invariants say
        "rejected_requests": sum(len(places) for places in outcome.rejected.values()),
        **{f"rejected_{reason}": count for reason, count in rejected.items()},
        "dropped_rows": sum(problem.trace.dropped.values()),
        "changed_rows": sum(problem.trace.changed.values()),
    }
