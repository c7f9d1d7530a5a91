"""What a sweep prints at its end: the table of its rows, which runs a warning is of, verdicts over settings."""

from __future__ import annotations

from typing import Any

import pytest

from mbexp.sweep.ending import _results, _warnings
from mbexp.sweep.told import _by


def runs(**warned: bool) -> list[dict[str, Any]]:
    """Return a row for each pair of ``kN_gM``: k_bins=N, num_gpus=M."""
    return [
        {
            "run": name,
            "k_bins": int(name[1]),
            "num_gpus": int(name.split("_g")[1]),
            "warnings": "overload: the queue grows" if said else None,
        }
        for name, said in warned.items()
    ]


@pytest.mark.parametrize(
    ("warned", "head"),
    [
        ({"k1_g2": True, "k1_g4": True}, "! 2 of 2 runs: overload"),
        ({"k1_g2": True, "k1_g4": False, "k2_g2": True, "k2_g4": False}, "! 2 of 4 runs (num_gpus=2): overload"),
        ({"k1_g2": True, "k1_g4": False, "k2_g2": False, "k2_g4": False}, "! 1 of 4 runs (k_bins=1 num_gpus=2): "),
        (
            {"k1_g2": True, "k1_g4": False, "k2_g2": False, "k2_g4": True},
            "! 2 of 4 runs (k_bins=1 num_gpus=2; k_bins=2 num_gpus=4): overload",
        ),
        ({f"k1_g{n}": n < 6 for n in range(1, 9)}, "! 5 of 8 runs (num_gpus=1,2,3, ... 2 more): overload"),
    ],
)
def test_a_warning_of_some_runs_says_of_which(
    warned: dict[str, bool], head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    first = _warnings(runs(**warned), [], ["k_bins", "num_gpus"])
    assert " ".join(first).startswith(head)


def test_the_metrics_that_were_asked_for_are_columns_and_the_usual_ones_leave_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = {
        "request_sla_violation_pct": 11.4,
        "latency_p95_s": 26.0,
        "throughput_requests_per_s": 9.34,
        "goodput_requests_per_s": 8.26,
        "gpu_utilization_pct": 80.5,
    }
    halves = {f"{name}_half_width": 1.0 for name in [*usual, "ttft_mean_s", "ttft_p99_s"]}
    row = {"scheduler": "static_fifo", **usual, "ttft_mean_s": 1.5, "ttft_p99_s": 7.5, **halves}
    monkeypatch.setenv("COLUMNS", "80")

    lines = _results([row], ["scheduler"], ["ttft_mean_s", "ttft_p99_s"])

    assert max(map(len, lines)) <= 80
    assert lines.index("") == len(lines) - 1  # one table
    *_, body, _ = lines
    assert body.split()[:7] == ["static_fifo", "1.5", "±", "1.0", "7.5", "±", "1.0"]
    head = " ".join(lines[:-2])
    assert "ttft" in head
    assert "violation" in head
    assert "busy" not in head
    assert " ".join(_results([row], ["scheduler"])[:-2]).split().count("busy") == 1  # as before without metrics


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ((-50.0, -20.0), "20 to 50 %"),
        ((30.0,), "30 %"),
        ((30.0, 257.0), "1.3 to 3.6 times"),
        ((900.0,), "10 times"),
        ((13146.0,), "132 times"),
    ],
)
def test_a_range_over_settings_is_of_factors_where_it_passes_100_percent(changes: tuple[float, ...], text: str) -> None:
    assert _by("latency_mean_s", [{"relative_pct": change, "difference": 1.0} for change in changes]) == text
