"""A price of iterations of the user's own, in the loop: against the closed form and against the reference simulator."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import mbexp
from mbexp.hardware.law import Price, iteration_price
from tests.simulator.continuous.agreement import OwnPrice, difference
from tests.simulator.continuous.test_agreement import random_case

OWN = """
import math
from mbexp.hardware.law import iteration_price

@iteration_price
def same(parameters, decodes, context_tokens, prompt_tokens, prompt_squares, square_growth, prompts_ended):
    # The closed form of docs/semantics/iterations.md.
    seconds = parameters[0]
    compute_s = 0.0
    growth_s = 0.0
    if decodes > 0:
        seconds += parameters[1] * decodes + parameters[8] * (decodes - 1) / decodes
        compute_s = parameters[3] * decodes
        growth_s = parameters[4] * decodes
    if prompt_tokens > 0:
        compute_s += parameters[5] * prompt_tokens + parameters[6] * prompts_ended
        seconds += parameters[9] + parameters[7] * prompt_squares
        growth_s += parameters[7] * square_growth
    return seconds + max(parameters[2], compute_s) + parameters[4] * context_tokens, growth_s, math.inf
"""
SETTINGS = {
    "execution": "continuous",
    "scheduler": "static_fifo",
    "workload": "synthetic",
    "gpu": "roofline_h100",
    "num_requests": 400,
    "num_gpus": 2,
    "workload.arrivals.rate_per_s": 40.0,
    "workload.prompt": {"kind": "uniform", "low_tokens": 10, "high_tokens": 900},
    "workload.output": {"kind": "uniform", "low_tokens": 1, "high_tokens": 300},
}


def simulate(**keys):
    config = mbexp.configure(**{**SETTINGS, **keys})
    from mbexp.run import run

    return run(config)


@pytest.mark.parametrize("mode", [{}, {"execution.prefill": "chunked", "execution.kv": "paged"}])
def test_an_own_price_equal_to_the_closed_form_gives_every_bit_of_it(mode, tmp_path, monkeypatch):
    (tmp_path / "my_prices.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "my_prices", raising=False)
    closed = simulate(**mode)
    numbers = closed.law.require_iteration().parameters.tolist()
    own = simulate(**mode, **{"gpu.law.kind": "my_prices.same", "gpu.law.parameters": numbers})
    assert own.law.require_iteration().function is not closed.law.require_iteration().function
    for name in ("start_s", "first_token_s", "finish_s", "gpu"):
        assert np.array_equal(getattr(own.outcome, name), getattr(closed.outcome, name)), name
    assert np.array_equal(own.outcome.segments, closed.outcome.segments)
    others = simulate(**mode, **{"gpu.law.kind": "my_prices.same", "gpu.law.parameters": [1e-4, *numbers[1:]]})
    assert others.outcome.finish_s[-1] < own.outcome.finish_s[-1]


@iteration_price
def mixed(parameters, decodes, context_tokens, prompt_tokens, prompt_squares, square_growth, prompts_ended):
    """Experts of which each token wakes a few, and attention that costs more beside a prompt: linear in the context."""
    seconds = parameters[0] + parameters[1] * (1 - (1 - parameters[2]) ** (decodes + prompt_tokens))
    context_s = parameters[3] + (parameters[4] if prompt_tokens > 0 else 0.0)
    seconds += context_s * context_tokens + parameters[5] * prompt_squares + parameters[6] * prompts_ended
    return seconds, context_s * decodes + parameters[5] * square_growth, math.inf


def plain_mixed(b, context, tokens, squares, ended):
    experts = 0.02 * (1 - (1 - 0.1) ** (b + tokens))
    return 0.003 + experts + (3e-5 if tokens else 1e-5) * context + 1e-6 * squares + 1e-4 * ended


@iteration_price
def bent(parameters, decodes, context_tokens, prompt_tokens, prompt_squares, square_growth, prompts_ended):
    """A price that is linear in nothing: every iteration is priced anew."""
    return parameters[0] + 1e-3 * decodes**1.5 + 1e-4 * math.sqrt(context_tokens) + 1e-3 * prompt_tokens**0.5, 0.0, 1.0


def plain_bent(b, context, tokens, squares, ended):
    return 0.002 + 1e-3 * b**1.5 + 1e-4 * context**0.5 + 1e-3 * tokens**0.5


MIXED = OwnPrice(Price(mixed, np.array([0.003, 0.02, 0.1, 1e-5, 2e-5, 1e-6, 1e-4])), plain_mixed)
BENT = OwnPrice(Price(bent, np.array([0.002])), plain_bent)


@pytest.mark.parametrize("price", [MIXED, BENT], ids=["mixed", "bent"])
def test_an_own_price_is_what_the_reference_simulates(price):
    for seed in range(60):
        found = difference(dataclasses.replace(random_case(seed), price=price))
        assert found is None, f"seed {seed}: {found}"
