"""A trace made in Python is checked when it is made, and shows itself in a line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mbexp
from mbexp import Trace, UserError, load_trace, simulate

GOOD: dict[str, Any] = {"arrival_s": [0.0, 1.0, 1.0], "prompt_tokens": [1, 2, 3], "output_tokens": [4, 5, 6]}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"arrival_s": [0, np.nan, 1]}, "arrival_s[1] is nan: must be a finite number of seconds, 0 or more"),
        ({"arrival_s": [0, 1, np.inf]}, "arrival_s[2] is inf: must be a finite"),
        ({"arrival_s": [-1, 0, 1]}, "arrival_s[0] is -1.0: must be a finite number of seconds, 0 or more"),
        ({"arrival_s": [0, 2, 1]}, "arrival_s[2] is 1.0: is before the one in front of it; sort the requests"),
        ({"arrival_s": [0, 2]}, "prompt_tokens has shape (3,), arrival_s (2,)"),
        ({"arrival_s": [[0, 1, 2]]}, "arrival_s has shape (1, 3); it must have one dimension"),
        ({"arrival_s": ["a", "b", "c"]}, "arrival_s must be numbers"),
        ({"arrival_s": None}, "arrival_s must be numbers"),
        ({"prompt_tokens": [1, 0, 1]}, "prompt_tokens[1] is 0: a request has at least 1 token each way"),
        ({"output_tokens": [1, 1, -5]}, "output_tokens[2] is -5: a request has at least 1 token"),
        ({"output_tokens": [1, 1.5, 1]}, "output_tokens[1] is 1.5: must be a whole number up to 2147483647"),
        ({"output_tokens": [1, np.nan, 1]}, "output_tokens[1] is nan: must be a whole number"),
        ({"output_tokens": np.array([1, 2**40, 1])}, "output_tokens[1] is 1099511627776: must be a whole number"),
        ({"output_tokens": [[1], [1, 2], [1]]}, "output_tokens must be numbers"),
        ({"extra": {"model": np.zeros(2)}}, "model has shape (2,), arrival_s (3,)"),
    ],
)
def test_a_value_that_no_request_can_have(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        Trace(**(GOOD | changed))
    assert str(caught.value).startswith(f"Trace: {said}")


def test_lists_are_taken_and_simulated() -> None:
    trace = Trace(**GOOD)
    assert (trace.arrival_s.dtype, trace.output_tokens.dtype) == (np.float64, np.int32)
    assert simulate(trace, scheduler="static_fifo", num_gpus=1).summary["completed_requests"] == 3
    whole = np.array([4.0, 5.0, 6.0])
    assert Trace(**(GOOD | {"output_tokens": whole})).output_tokens.tolist() == [4, 5, 6]
    arrays = Trace(np.zeros(2), np.ones(2, np.int32), np.ones(2, np.int32))
    assert Trace(arrays.arrival_s, arrays.prompt_tokens, arrays.output_tokens).arrival_s is arrays.arrival_s


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"workload": "synthetic", "num_requests": 5}, "workload=synthetic: has no effect beside a trace"),
        ({"num_requests": 5}, "num_requests=5: has no effect beside a trace; give it to load_trace"),
        ({"workload.rate_scaling": 2}, "workload.rate_scaling=2: has no effect beside a trace"),
    ],
)
def test_keys_that_choose_requests_beside_a_trace(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        simulate(Trace(**GOOD), **keys)


def test_what_a_notebook_shows_is_short() -> None:
    trace = load_trace("synthetic", num_requests=2000)
    result = simulate(trace, **{"scheduler.name": "a <b>"})
    for shown in (repr(trace), repr(result)):
        assert len(shown) < 400
        assert "\n" not in shown
    assert repr(trace).startswith(
        "Trace(of synthetic: poisson arrivals, lognormal prompts, exponential outputs; requests 2,000"
    )
    assert repr(result).startswith("Result(of a <b> on 4 x rtx4080_qwen3_1_7b; on 2,000 requests, synthetic")
    assert "a &lt;b&gt; on 4 x" in result._repr_html_()
    assert "2,000" in trace._repr_html_()
    assert repr(Trace([], [], [])) == "Trace(of a trace from Python; requests 0)"


def test_the_public_names_are_listed() -> None:
    assert {"simulate", "load_trace", "Trace", "Result", "configure", "UserError"} <= set(dir(mbexp))
