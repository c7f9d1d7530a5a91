"""Claims of docs/results.md and docs/continuous_results.md, computed again from the stored tables."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGE = " ".join((DOCS / "results.md").read_text(encoding="utf-8").split())
CONTINUOUS = " ".join((DOCS / "continuous_results.md").read_text(encoding="utf-8").split())
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


def test_what_continuous_batching_carries_beside_batches() -> None:
    carried = {}
    for workload in ("synthetic", "burstgpt_like", "azure"):
        table = pd.read_csv(DOCS / f"results/continuous_binning_{workload}.csv")
        beyond = table[table["workload.rate_scaling"] == table["workload.rate_scaling"].max()]
        carried[workload] = beyond.set_index("study.label")["throughput_requests_per_s"]
    ratios = pd.DataFrame(carried)
    over_fifo, over_bins = (
        ratios.loc["continuous"] / ratios.loc["static"],
        ratios.loc["continuous"] / ratios.loc["multi-bin"],
    )
    of_bins = ratios.loc["multi-bin"] / ratios.loc["static"]
    assert f"({of_bins.min():.1f} to {of_bins.max():.1f} times), as P1 says" in CONTINUOUS
    assert (
        f"carries {over_fifo.min():.0f} to {over_fifo.max():.0f} times as much as batches in order of arrival, and "
        f"{over_bins.min():.0f} to {over_bins.max():.0f} times as much as batches with bins"
    ) in CONTINUOUS


def test_what_whole_prompts_carry_within_the_token_target() -> None:
    table = pd.read_csv(DOCS / "results/continuous_token_sla.csv")
    fits = table[(table.tbt_mean_ms <= 50) & ~table.queue_climbing & ~table.overloaded]
    carried = fits.groupby(["study.label", "execution.prefill"])["workload.arrivals.rate_per_s"].max()
    whole, chunks = carried["cap 128", "first"], carried["cap 128", "chunked"]
    assert f"halve what a cap of 128 carries** ({whole:g} against {chunks:g} requests/s)" in CONTINUOUS
