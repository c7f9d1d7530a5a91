"""Replications: the same as runs of each seed, with means and intervals known by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mbexp import configure, simulate
from mbexp.results.replications import combine, run_replications
from mbexp.run import run


def test_replications_are_the_runs_of_their_seeds() -> None:
    config = configure(num_requests=300, num_gpus=32, seed=5, replications=3)

    result, summaries = run_replications(config, run)

    assert [summary["seed"] for summary in summaries] == [5, 6, 7]
    alone = [simulate(num_requests=300, num_gpus=32, seed=seed).summary for seed in (5, 6, 7)]
    for one, other in zip(summaries, alone, strict=True):
        assert {k: v for k, v in one.items() if k not in ("seed", "wall_time_s")} == pytest.approx(
            {k: v for k, v in other.items() if k != "wall_time_s"}, rel=0, abs=0, nan_ok=True
        )
    assert result.config == config
    assert result.trace.sha256 == simulate(num_requests=300, num_gpus=32, seed=5).trace.sha256


def test_means_and_half_widths_are_students() -> None:
    """Of 1, 2, 3: mean 2, s = 1, t(0.975, 2) = 4.302653, half width 4.302653 / sqrt(3)."""
    summaries: list[dict[str, Any]] = [
        {"seed": seed, "latency_mean_s": value, "completed_requests": 10, "overloaded": value > 2, "wall_time_s": 0.5}
        for seed, value in enumerate((1.0, 2.0, 3.0))
    ]

    made = combine(summaries)

    assert made["latency_mean_s"] == 2
    assert made["latency_mean_s_half_width"] == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert made["completed_requests"] == 10
    assert isinstance(made["completed_requests"], int)
    assert made["completed_requests_half_width"] == 0
    assert made["overloaded"] is True
    assert made["wall_time_s"] == 1.5
    assert "wall_time_s_half_width" not in made
    assert "seed" not in made


def test_a_metric_that_a_seed_lacks_has_no_mean() -> None:
    made = combine([{"seed": 0, "x_ms": 1.0}, {"seed": 1, "x_ms": math.nan}])

    assert math.isnan(made["x_ms"])
    assert math.isnan(made["x_ms_half_width"])


def test_seeds_that_change_nothing_are_called_so() -> None:
    result, _ = run_replications(
        configure(
            workload="synthetic", num_requests=50, replications=2,
            **{
                "workload.arrivals.kind": "constant",
                "workload.prompt": {"kind": "constant", "value_tokens": 5},
                "workload.output": {"kind": "constant", "value_tokens": 5},
            },
        ),
        run,
    )  # fmt: skip

    assert any("all 2 seeds gave the same numbers" in warning for warning in result.warnings)


def test_a_warning_with_other_numbers_is_said_once() -> None:
    result, _ = run_replications(configure(num_requests=300, num_gpus=1, replications=3), run)

    assert sum(warning.startswith("overload") for warning in result.warnings) == 1


def test_one_replication_is_the_run_itself() -> None:
    config = configure(num_requests=100)

    result, summaries = run_replications(config, run)

    assert "latency_mean_s_half_width" not in result.summary
    assert len(summaries) == 1
    assert result.config == config
