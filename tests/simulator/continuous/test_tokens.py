"""Gaps between tokens that are counted by closed form are those that one would count one by one."""

from __future__ import annotations

import numpy as np
import pytest

from mbexp.config.keys import SlaConfig
from mbexp.config.scheduler_keys import SchedulerConfig
from mbexp.hardware.iteration import ClosedForm
from mbexp.policy.build import build_policy
from mbexp.simulator.continuous.serve import ContinuousRules, continuous
from mbexp.simulator.continuous.tokens import bin_edges_s
from tests.simulator.continuous.agreement import priced

PROMPT = 5


def alone(fixed_s: float, context_s: float, output: int, token_sla_s: float):
    """Run one request by itself: its step at context c takes fixed + context c, from c = prompt + 1 on."""
    policy = build_policy(SchedulerConfig(batch_size="fixed"), SlaConfig(), 10**6, in_batches=False)
    price = priced(ClosedForm(fixed_s, 0.0, 0.0, 0.0, context_s, 0.0, 0.0, 0.0))
    lengths = [np.array([tokens], np.int32) for tokens in (PROMPT, output, output)]
    zeros = np.zeros(1), np.zeros(1, np.uint16)
    rules = ContinuousRules()
    return continuous(zeros[0], *lengths, zeros[1], 1, 1, 10**6, price, policy, rules, token_sla_s, log_segments=9)


# Powers of two, so that steps, the edges of the histogram and the targets are exact and meet.
@pytest.mark.parametrize("context_s", [0.0, 2.0**-12, -(2.0**-12), 2.0**-7, -(2.0**-10)])
@pytest.mark.parametrize("output", [1, 2, 3, 600])
@pytest.mark.parametrize("token_sla_s", [0.25, 1.0, 1.0 + 2.0**-8, 0.875, 0.875 + 2.0**-13])
def test_steps_that_grow_or_shrink_with_the_context(context_s: float, output: int, token_sla_s: float) -> None:
    found = alone(1.0, context_s, output, token_sla_s).gaps
    gaps_s = 1.0 + context_s * (PROMPT + 1 + np.arange(output - 1))
    assert found.count == len(gaps_s)
    assert found.above == np.count_nonzero(gaps_s > token_sla_s)
    assert found.sum_s == gaps_s.sum()
    assert found.max_s == (gaps_s.max() if len(gaps_s) else 0.0)
    places = np.searchsorted(bin_edges_s(), gaps_s, "right") - 1
    assert np.array_equal(found.counts, np.bincount(places, minlength=len(found.counts)))


def test_targets_at_a_step_of_any_price() -> None:
    """A target that is one of the steps is not above itself, whatever the last bit of a division says."""
    rng = np.random.default_rng(3)
    for _ in range(300):
        fixed_s, context_s = rng.uniform(0.5, 1.0), float(rng.choice([-1, 1])) * rng.uniform(1e-6, 5e-4)
        _, decode = alone(fixed_s, context_s, 400, 1.0).segments
        gaps_s = np.array([decode["first_s"] + decode["growth_s"] * step for step in range(399)])
        assert gaps_s == pytest.approx(fixed_s + context_s * (PROMPT + 1 + np.arange(399)))
        target_s = float(gaps_s[rng.integers(399)])
        assert alone(fixed_s, context_s, 400, target_s).gaps.above == np.count_nonzero(gaps_s > target_s)
