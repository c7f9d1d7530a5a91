"""What a notebook uses: load a trace, simulate, hold data frames; the same names as the configuration."""

from __future__ import annotations

from typing import Any

from mbexp.config.compose import configure
from mbexp.errors import UserError
from mbexp.prediction import given_prediction
from mbexp.results.result import Result
from mbexp.run import run
from mbexp.workload import load_trace as load_configured
from mbexp.workload.trace import Trace


def load_trace(
    workload: str = "burstgpt_like",
    num_requests: int | None = 10_000,
    seed: int = 0,
    replicate: str = "seeds",
    **keys: Any,
) -> Trace:
    """Read the requests of a trace file, or generate requests.

    Parameters
    ----------
    workload
        Name of a file of ``conf/workload``, such as ``burstgpt_like``, ``azure``, ``csv``, ``sessions`` or
        ``synthetic``.
    num_requests
        Number of requests. None takes all requests of the trace.
    seed
        Seed of a generated workload. With ``replicate="windows"``, the number of the window of the file.
    replicate
        ``seeds``, or ``windows`` for consecutive windows of `num_requests` requests of a trace file.
    **keys
        Keys of the group: ``path="BurstGPT_1.csv"``, ``timestamps="real"``, ``window={"kind": "busiest"}``.

    Returns
    -------
    Trace

    Raises
    ------
    UserError
        If a key is wrong, or the file cannot be read.

    Examples
    --------
    >>> from mbexp import load_trace
    >>> trace = load_trace("synthetic", num_requests=3, arrivals={"kind": "constant", "rate_per_s": 2.0})
    >>> trace.arrival_s
    array([0. , 0.5, 1. ])
    """
    dotted = {f"workload.{key}": value for key, value in keys.items()}
    config = configure(workload=workload, num_requests=num_requests, seed=seed, replicate=replicate, **dotted)
    return load_configured(config.workload, config.num_requests, config.seed, config.replicate)


def simulate(trace: Trace | None = None, predicted_tokens: Any = None, **values: Any) -> Result:
    """Run one configuration and return its result.

    Parameters
    ----------
    trace
        Requests of `load_trace`, or a `Trace` of your own. None takes the requests of the configuration.
    predicted_tokens : array, shape (n,)
        Predicted output length of each request of `trace`, in place of a predictor. Lengths are rounded, and at
        least 1.
    **values
        As for `mbexp.configure`: ``scheduler="static_fifo"``, ``num_gpus=8``, ``sla={"request_s": 5}``. With a trace,
        keys that choose requests are refused. ``metrics`` takes dotted paths and functions decorated with
        `mbexp.metric`.

    Returns
    -------
    Result
        ``summary`` is a flat dict, ``batches`` and ``requests`` are data frames, and ``warnings`` are sentences.

    Raises
    ------
    UserError
        If a key is wrong, or if both a trace and keys that choose requests are given.
    """
    given = values.pop("metrics", [])
    metrics = [given] if callable(given) or isinstance(given, str) else list(given)
    functions = [each for each in metrics if callable(each)]
    if names := [each for each in metrics if not callable(each)]:
        values["metrics"] = names
    of_requests = ("workload.classes", "workload.class_column")  # what a trace does not say
    choosing = [
        key
        for key in values
        if key.partition(".")[0] in ("workload", "num_requests") and not key.startswith(of_requests)
    ]
    if trace is not None and choosing:
        raise UserError(
            f"{choosing[0]}={values[choosing[0]]}: has no effect beside a trace; give it to load_trace, or no trace"
        )
    if predicted_tokens is None:
        return run(configure(**values), trace, metrics=functions)
    if trace is None:
        raise UserError("predicted_tokens: needs the trace that they are predictions of")
    for key in values:
        if key.partition(".")[0] == "predictor":
            raise UserError(f"{key}={values[key]}: has no effect beside predicted_tokens; give one of them")
    config = configure(predictor="column", **values, **{"predictor.column": "predicted_tokens"})
    return run(config, trace, given_prediction(predicted_tokens, config.bins, trace), functions)
