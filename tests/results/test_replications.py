"""Replications: the same as runs of each seed, with means and intervals known by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from mbexp import UserError, configure, simulate
from mbexp.results.replications import combine, run_replications, said_once
from mbexp.results.store import run_key
from mbexp.results.terminal import report
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
    halves = [value for name, value in result.summary.items() if name.endswith("_half_width")]
    assert halves
    assert all(map(math.isnan, halves))  # copies are one observation


def trace_file(path: Path, rows: int) -> dict[str, Any]:
    """A trace of `rows` requests, the i-th of 10 + i output tokens; return the keys that read it."""
    lines = [f"{index},10,{10 + index}" for index in range(rows)]
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + "\n".join(lines) + "\n")
    return {"workload": "csv", "workload.path": str(path)}


def test_windows_of_a_file_are_its_replications(tmp_path: Path) -> None:
    keys = trace_file(tmp_path / "a.csv", 35)

    result, summaries = run_replications(configure(**keys, num_requests=10, replications=3, replicate="windows"), run)

    alone = [
        simulate(**keys, num_requests=10, **{"workload.window": {"kind": "rows", "start_row": 10 * place}}).summary
        for place in range(3)
    ]
    for one, other in zip(summaries, alone, strict=True):
        assert one["latency_mean_s"] == other["latency_mean_s"]
    assert result.summary["latency_mean_s_half_width"] > 0
    assert "windows: window 1 to 3 of 3 consecutive ones of 10 requests each" in result.warnings
    assert any("means of 3 windows of 10 requests" in line for line in report(result))
    with pytest.raises(
        UserError, match=r"^seed=3: replicate=windows takes window 4, but 35 usable requests hold 3 windo"
    ):
        run_replications(configure(**keys, num_requests=10, replications=4, replicate="windows"), run)
    asked = []
    with pytest.raises(UserError, match=r"^seed=29: replicate=windows takes window 30"):
        run_replications(
            configure(**keys, num_requests=10, replications=30, replicate="windows"),
            lambda config: (asked.append(config.seed), run(config))[1],
        )
    assert asked == [29]  # said before the others are run


def test_seeds_of_a_file_are_called_what_they_are(tmp_path: Path) -> None:
    """Its requests are the same for every seed; what a noisy prediction draws is not other traffic."""
    keys = trace_file(tmp_path / "a.csv", 35)
    noisy = configure(**keys, num_requests=30, replications=2, predictor="noisy", num_gpus=1)

    copies = run_replications(configure(**keys, num_requests=30, replications=2), run)[0].warnings
    draws = run_replications(noisy, run)[0].warnings

    assert any(warning.endswith("replicate=windows takes other requests of the file for each") for warning in copies)
    assert any(warning.startswith("seeds: all of them meet the same requests") for warning in draws)


def test_generated_requests_have_no_windows() -> None:
    with pytest.raises(UserError, match=r"^replicate=windows: workload=synthetic is generated"):
        simulate(workload="synthetic", replicate="windows", num_requests=10)


def test_a_run_key_knows_windows_only_where_they_are_asked_for() -> None:
    assert run_key(configure(replicate="seeds"), "t") == run_key(configure(), "t")
    assert run_key(configure(replicate="windows"), "t") != run_key(configure(), "t")


def test_sentences_that_differ_in_numbers_are_one_with_ranges() -> None:
    runs = [["load is 2.50 of 1,000", "p99 reads low"], ["load is 15.3 of 1,000"], ["load is 1.5 to 3 of 12,000"], []]

    assert said_once(runs) == [("load is 1.5 to 15.3 of 1,000 to 12,000", 3), ("p99 reads low", 1)]


def test_a_warning_with_other_numbers_is_said_once() -> None:
    result, _ = run_replications(configure(num_requests=300, num_gpus=1, replications=3), run)

    assert sum(warning.startswith("overload") for warning in result.warnings) == 1


def test_one_replication_is_the_run_itself() -> None:
    config = configure(num_requests=100)

    result, summaries = run_replications(config, run)

    assert "latency_mean_s_half_width" not in result.summary
    assert len(summaries) == 1
    assert result.config == config
