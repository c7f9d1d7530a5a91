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


METHODS = {
    "`static_fifo`, 1 GPU": "static_fifo",
    "`dynamic_no_bins`, 1 GPU": "dynamic_no_bins",
    "`multi_bin_dynamic` K = 8, 1 GPU": "multi_bin_dynamic",
    "best `multi_bin_dynamic`": "best multi_bin_dynamic",
    "`static_fifo` with as many GPUs": "static_fifo at equal GPUs",
    "`dynamic_no_bins` with as many GPUs": "dynamic_no_bins at equal GPUs",
    "`multi_bin_dynamic` K = 8 with as many GPUs": "multi_bin_dynamic at equal GPUs",
}


def test_the_table_of_the_four_methods() -> None:
    for column, scaling in enumerate((100, 10, 1)):
        table = pd.read_csv(DOCS / f"results/method_comparison_{scaling}x.csv")
        million = table[table.num_requests == 1_000_000].set_index("study.label")
        for row, label in METHODS.items():
            cells = PAGE[PAGE.index(f"| {row} |") :].split("|")[2:5]
            mean, _, half = cells[column].strip().partition(" ± ")
            assert float(mean) == pytest.approx(million.loc[label, LATE], abs=0.06)
            assert float(half or 0) == pytest.approx(million.loc[label, f"{LATE}_half_width"], abs=0.06)


def test_the_verdicts_at_equal_gpus() -> None:
    shown = {}
    for scaling in (100, 10, 1):
        table = pd.read_csv(DOCS / f"results/verdicts_{scaling}x.csv")
        at_equal = table[table["first"].eq("multi_bin_dynamic at equal GPUs") & table.metric.eq(LATE)]
        for row in at_equal.itertuples():
            found = re.search(r" beats .* by (\S+) percentage points \((\S+) to (\S+)\)", row.verdict)
            if found and str(row.second).endswith("at equal GPUs"):
                shown[scaling, row.num_requests, row.second.split()[0]] = "better by {} ({} to {})".format(
                    *found.groups()
                )
    assert {key[:2] for key in shown} == {(100, 100_000), (100, 1_000_000)}
    for requests, name in ((100_000, "100 k"), (1_000_000, "1 M")):
        no_bins, static = (shown[100, requests, method] for method in ("dynamic_no_bins", "static_fifo"))
        assert f"| {name} | {no_bins} | {static} |" in PAGE


def test_the_fewest_gpus_within_the_target() -> None:
    words = {"meets": "yes", "fails": "no", "undecided": "undecided"}
    rows = re.findall(r"(1 k|10 k|100 k|1 M) \| (\d+) \| (\d+) \| ([\d.]+) ± ([\d.]+) \| ([\d.]+) \| (\w+) \|", PAGE)
    best = pd.concat([pd.read_csv(DOCS / f"results/best_{scaling}x.csv") for scaling in (100, 10, 1)])
    assert len(rows) == len(best)
    for (_, gpus, bins, late, half, p95, met), stored in zip(rows, best.itertuples(), strict=True):
        assert (int(gpus), int(bins)) == (stored.num_gpus, stored.k_bins)
        assert met == words[stored.judgement]
        late_pct, half_pct = stored.request_sla_violation_pct, stored.request_sla_violation_pct_half_width
        for text, value in ((late, late_pct), (half, half_pct), (p95, stored.latency_p95_s)):
            decimals = len(text.partition(".")[2])
            assert float(text) == pytest.approx(value, abs=0.51 * 10.0**-decimals)
