"""Batch-size rules against the papers' numbers, and rules of the user's own."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from mbexp import UserError, simulate
from mbexp.config.keys import SlaConfig
from mbexp.config.scheduler_keys import ControllerConfig, SchedulerConfig
from mbexp.policy.build import Policy, build_policy
from mbexp.policy.views import BEFORE_THE_RUN, Interval


def first_limit(policy: Policy, state: np.ndarray) -> int:
    return policy.limit.function(BEFORE_THE_RUN, policy.bounds, state, policy.limit.parameters)


def next_limit(policy: Policy, state: np.ndarray, size: int, tokens: float, squares: float, step_s: float) -> int:
    """Return the limit after a batch of `size` that ran to completion."""
    interval = Interval(False, 0, 0, size, tokens, squares, step_s, float(size), 0, 0.0, 0.0)
    return policy.limit.function(interval, policy.bounds, state, policy.limit.parameters)


@pytest.mark.parametrize(
    ("capacity", "mean", "deviation", "chance", "expected"),
    [
        # docs/policies.md: 80.499, 77.564, 74.406 for the first GPU and 20.361, 18.711, 17.030 for the second.
        (62_000, 704.1, 360.6, 0.05, 80),
        (62_000, 704.1, 360.6, 0.01, 77),
        (62_000, 704.1, 360.6, 0.001, 74),
        (20_000, 800.0, 500.0, 0.05, 20),
        (20_000, 800.0, 500.0, 0.01, 18),
        (20_000, 800.0, 500.0, 0.001, 17),
    ],
)
def test_algorithm_1_table(capacity: int, mean: float, deviation: float, chance: float, expected: int) -> None:
    policy = build_policy(SchedulerConfig(memory_overflow_probability=chance), SlaConfig(), capacity)
    state = policy.limit_state(1)[0]
    first_limit(policy, state)

    count = 1000
    squares = count * (deviation**2 + mean**2)
    next_limit(policy, state, count, count * mean, squares, 0.001)

    assert state[0] == expected


def test_the_originals_memory_rule_keeps_a_tenth_free() -> None:
    policy = build_policy(SchedulerConfig(memory_rule="original"), SlaConfig(), 62_000)
    state = policy.limit_state(1)[0]
    first_limit(policy, state)

    next_limit(policy, state, 10, 7041.0, 10 * 704.1**2, 0.001)

    assert state[0] == int(0.9 * 62_000 / 704.1)


def test_the_memory_bound_is_b_max_before_anything_completed() -> None:
    policy = build_policy(SchedulerConfig(batch_size_max=50), SlaConfig(), 100)
    state = policy.limit_state(1)[0]

    assert first_limit(policy, state) == 25
    assert state[:4].tolist() == [50, 25, 1, 50]


def _settle(policy: Policy, seed: int, noise: float) -> float:
    """Drive Algorithm 2 with tau = .22 b + 30 ms and return its mean batch after settling."""
    state = policy.limit_state(1)[0]
    rng = np.random.default_rng(seed)
    limit = first_limit(policy, state)
    limits = []
    for _ in range(3000):
        step_s = (0.22 * limit + 30) / 1000 * (1 + noise * rng.standard_normal())
        limit = next_limit(policy, state, limit, 100.0 * limit, 1e4 * limit, step_s)
        limits.append(limit)
    return float(np.mean(limits[1000:]))


@pytest.mark.parametrize("seed", range(5))
def test_algorithm_2_settles_at_the_target(seed: int) -> None:
    # tau(b) = 50 ms at b = 90.9.
    controller = ControllerConfig(alpha_requests=16, delta_requests=4, tolerance_ms=2, window_batches=16)
    policy = build_policy(SchedulerConfig(controller=controller), SlaConfig(token_ms=50), 10**9)

    assert _settle(policy, seed, noise=0.05) == pytest.approx(90, abs=1.5)


def test_a_band_wider_than_the_law_never_moves_the_controller() -> None:
    # The original's 5 ms band around 10 ms: TBT is always inside it, so b_SLA only follows the mean batch.
    controller = ControllerConfig(tolerance_ms=5)
    policy = build_policy(SchedulerConfig(controller=controller), SlaConfig(token_ms=10), 10**9)
    state = policy.limit_state(1)[0]
    limit = first_limit(policy, state)

    for _ in range(50):
        limit = next_limit(policy, state, limit, 100.0 * limit, 1e4 * limit, 0.0075)

    assert limit == 64


TEN_LINES = """
from mbexp.rules import bin_selection


@bin_selection
def longest_lengths(now_s, queues, memory, parameters):
    return queues.ready[queues.ready_count - 1]
"""


@pytest.fixture
def module_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    return tmp_path


def test_a_users_own_rule_runs(module_folder: Path, make_trace) -> None:  # type: ignore[no-untyped-def]
    (module_folder / "rules_one.py").write_text(TEN_LINES)
    trace = make_trace([0.0] * 4, [1, 2, 100, 101])

    result = simulate(
        trace,
        num_gpus=1,
        k_bins=2,
        **{"scheduler.selection": "rules_one.longest_lengths", "gpu.kv_capacity_tokens": 10**6},
    )

    assert result.batches["bin"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("source", "path", "message"),
    [
        (None, "no_such_module.rule", "no module named no_such_module"),
        ("import mbexp\n", "rules_two.missing", "has no missing"),
        ("import mbexp\nrule = 3\n", "rules_three.rule", "not a rule of this kind"),
        ("raise SystemExit('ran')\n", "rules_four.rule", "does not import mbexp, so it is not run"),
        (
            "import mbexp\n1/0\n",
            "rules_five.rule",
            r"importing rules_five failed \(rules_five\.py line 2\): ZeroDivisionError",
        ),
        (None, "os.system", "does not import mbexp, so it is not run"),
        (None, "math.floor", "math is not a Python source file|no module named math"),
        ("import mbexp\ndef (:\n", "rules_eight.rule", r"rules_eight\.py line 2: invalid syntax"),
        (TEN_LINES, "rules_six..rule", "not a dotted path"),
        (
            TEN_LINES.replace("queues.ready[queues.ready_count - 1]", "99"),
            "rules_seven.longest_lengths",
            "named a queue that is not ready",
        ),
    ],
)
def test_a_bad_rule_is_refused(source: str | None, path: str, message: str, module_folder: Path, make_trace) -> None:  # type: ignore[no-untyped-def]
    if source:
        (module_folder / f"{path.split('.')[0]}.py").write_text(source)

    with pytest.raises(UserError, match=message):
        simulate(make_trace([0.0], [1]), **{"scheduler.selection": path})


def test_a_rule_of_another_kind_is_refused(make_trace) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=r"another slot \(bin_selection\); decorate it with mbexp\.rules\.batch_fill"):
        simulate(make_trace([0.0], [1]), **{"scheduler.fill": "mbexp.policy.selection.round_robin"})
