"""The claims of docs/results.md, computed again from the stored tables."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGE = " ".join((DOCS / "results.md").read_text(encoding="utf-8").split())
LATE = "request_sla_violation_pct"


@pytest.fixture(scope="module")
def against_one_bin() -> pd.DataFrame:
    """Violation of the grid at 100x, less that of one bin with the same GPUs and requests."""
    grid = pd.read_csv(DOCS / "results/grid_search_100x.csv").pivot_table(
        index=["num_requests", "num_gpus"], columns="k_bins", values=LATE
    )
    return grid.drop(columns=1).sub(grid[1], axis=0)


def test_how_often_bins_lower_the_violation(against_one_bin: pd.DataFrame) -> None:
    change = against_one_bin.to_numpy()
    lower, tie, higher = (change < 0).sum(), (change == 0).sum(), (change > 0).sum()
    claim = f"bins lower the violation in {lower} of {change.size} settings, tie in {tie} and raise it in {higher}"
    assert claim in PAGE


def test_where_the_gain_of_bins_is_largest(against_one_bin: pd.DataFrame) -> None:
    by_bins, by_gpus = -against_one_bin.mean(), -against_one_bin.mean(axis=1).groupby("num_gpus").mean()
    best_bins, best_gpus = by_bins.idxmax(), by_gpus.idxmax()
    claim = (
        f"largest with K = {best_bins} ({by_bins[best_bins]:.1f} points on average) and many GPUs "
        f"({by_gpus[best_gpus]:.1f} with {best_gpus})"
    )
    assert claim in PAGE


def test_the_table_over_likeness() -> None:
    table = pd.read_csv(DOCS / "results/burst_likeness.csv")
    verdicts = pd.read_csv(DOCS / "results/burst_likeness_verdicts.csv")
    rows = re.findall(
        r"\| (0[.\d]*) \| ([\d.]+) ± ([\d.]+) \| ([\d.]+) ± ([\d.]+) \| ([\d.]+) ± ([\d.]+) \| ([^|]+) \|", PAGE
    )
    assert len(rows) == 4
    for likeness, *numbers, verdict in rows:
        here = table[(table["workload.burst_likeness"] == float(likeness)) & (table.num_gpus == 100)]
        here = here.set_index("scheduler").loc[["static_fifo", "dynamic_no_bins", "multi_bin_dynamic"]]
        stored = here[[LATE, f"{LATE}_half_width"]].to_numpy().ravel()
        assert [float(number) for number in numbers] == pytest.approx(stored, abs=0.06)
        one = verdicts[
            (verdicts["workload.burst_likeness"] == float(likeness))
            & (verdicts.num_gpus == 100)
            & (verdicts["first"] == "multi_bin_dynamic")
            & (verdicts.second == "dynamic_no_bins")
        ].iloc[0]
        shown = f"better by {-one.difference:.0f} points" if isinstance(one.winner, str) else "no difference shown"
        assert verdict == shown
        assert isinstance(one.winner, str) == (one.p_value_corrected < 0.05)
