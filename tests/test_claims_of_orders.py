"""Claims of docs/orders.md and docs/schedulers.md, computed again from the stored tables of three workloads."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from scipy import stats

DOCS = Path(__file__).parent.parent / "docs"
TEXT = (DOCS / "orders.md").read_text(encoding="utf-8")
PAGE = " ".join(TEXT.split())
SCHEDULERS = (DOCS / "schedulers.md").read_text(encoding="utf-8")
MEAN, P99, LONGEST = "latency_mean_s", "latency_p99_s", "queue_delay_max_s"
THREE = ("lognormal", "burstgpt_like", "azure")


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("orders_of_docs", DOCS / "results/orders.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


SCRIPT = _script()
TABLES = SCRIPT.stored(DOCS / "results")


def row(study: str, workload: str, load: float, label: str, sigma: float | None = 0.5) -> pd.Series:
    table = TABLES[study]
    here = (table.workload == workload) & (table.load == load) & (table.label == label)
    if sigma is not None:
        here &= table["predictor.sigma"] == sigma
    assert here.sum() == 1
    return table[here].iloc[0]


def ratio(study: str, workload: str, load: float, label: str, sigma: float | None = 0.5, metric: str = MEAN) -> float:
    return float(row(study, workload, load, label, sigma)[f"{metric}_of_base_pct"])


def decided(found: pd.Series, metric: str = MEAN) -> int:
    """-1 where a ratio is below 100 with all of its interval, 1 where it is above, 0 where 100 is inside."""
    low, high = found[f"{metric}_of_base_pct_low"], found[f"{metric}_of_base_pct_high"]
    return int(low > 100) - int(high < 100)


def says(claim: str) -> None:
    assert claim in PAGE, claim


BATCHES, VLLM = "queue_orders_run_to_completion", "queue_orders_vllm"


def test_every_row_of_a_table_is_cut_from_the_stored_one() -> None:
    rows = SCRIPT.page(TABLES)
    shown = set(TEXT.splitlines())
    assert [line for lines in rows.values() for line in lines if line not in shown] == []
    assert sum(map(len, rows.values())) == 138


def test_every_table_holds_three_workloads_at_the_loads_it_says() -> None:
    for study, table in TABLES.items():
        assert set(table.workload) == {*THREE, "alike"}, study
        first = {"future_peak": "paged", "unknown_lengths": "pages"}.get(study, "fifo")
        base = table[table.workload.isin(THREE) & (table.label == first)]
        if study != "bins_or_order":  # FIFO has another label there
            assert base.offered_load.to_numpy() == pytest.approx(base.load.to_numpy(), rel=0.01), study


def test_ratios_are_paired_and_their_intervals_are_students() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.uniform(1, 2, 6), rng.uniform(1, 2, 6)
    table = pd.DataFrame({
        "seed": [*range(6), *range(6)], "label": ["a"] * 6 + ["b"] * 6, MEAN: [*first, *second],
    })  # fmt: skip
    found = SCRIPT.paired(table, MEAN, "a").loc["b"]
    logs = np.log(second / first)
    low, high = stats.t.interval(0.95, 5, logs.mean(), stats.sem(logs))
    assert found.to_numpy() == pytest.approx(100 * np.exp([logs.mean(), low, high]))


def test_claims_of_batches() -> None:
    at_full = [ratio(BATCHES, workload, 1.0, "sjf") for workload in THREE]
    says(
        "At load 1, it is {:.0f} % of FIFO's on lognormal, {:.0f} % on BurstGPT-like and {:.0f} % on Azure".format(
            *at_full
        )
    )
    assert all(decided(row(BATCHES, workload, 1.0, "sjf"), metric) < 0 for workload in THREE for metric in (MEAN, P99))
    loads = [row(BATCHES, workload, 1.0, "sjf").offered_load for workload in THREE]
    says("from 1.00 to {:.2f} (lognormal), {:.2f} (BurstGPT-like) and {:.2f} (Azure)".format(*loads))
    saved = [100 - ratio(BATCHES, workload, 0.6, "sjf") for workload in THREE[:2]]
    says("At load 0.6 SJF saves {:.0f} % of the mean on lognormal and {:.0f} % on BurstGPT-like".format(*saved))
    assert [decided(row(BATCHES, workload, 0.6, "sjf")) for workload in THREE] == [-1, -1, 0]
    means = [ratio(BATCHES, "lognormal", 1.0, "sjf", sigma) for sigma in (0, 2)]
    says("rises from {:.0f} to {:.0f} % of FIFO's on lognormal".format(*means))
    longest = [ratio(BATCHES, name, 1.0, "sjf", sigma, LONGEST) for name in ("lognormal", "azure") for sigma in (0, 2)]
    says("from {:.0f} to {:.0f} % there, and from {:.0f} to {:.0f} % on Azure".format(*longest))
    longest = [ratio(BATCHES, "burstgpt_like", 1.0, "sjf", sigma, LONGEST) for sigma in (0, 2)]
    says("On BurstGPT-like it rises from {:.0f} to {:.0f} %, and the interval at 2 holds 100".format(*longest))
    assert decided(row(BATCHES, "burstgpt_like", 1.0, "sjf", 2), LONGEST) == 0


def test_claims_of_hrrn_and_ageing_in_batches() -> None:
    starved = {(name, label): row(BATCHES, name, 1.0, label) for name in THREE for label in ("sjf", "hrrn")}
    shares = {key: found.starved_pct for key, found in starved.items()}
    says(f"lognormal**, {shares['lognormal', 'hrrn']:.1f} % against {shares['lognormal', 'sjf']:.1f} %")
    says(f"starves {shares['burstgpt_like', 'hrrn']:.1f} against {shares['burstgpt_like', 'sjf']:.1f} %")
    overlap = [
        abs(shares[name, "sjf"] - shares[name, "hrrn"])
        < sum(starved[name, label].starved_pct_half_width for label in ("sjf", "hrrn"))
        for name in THREE
    ]
    assert overlap == [False, True, True]
    higher = {
        (name, load): row(BATCHES, name, load, "hrrn")[f"{MEAN}_of_base_pct_low"]
        > row(BATCHES, name, load, "sjf")[f"{MEAN}_of_base_pct_high"]
        for name in THREE
        for load in (0.6, 0.8, 1.0)
    }
    assert list(higher.values()) == [True, True, False, True, True, True, False, False, False]
    for name in THREE:
        aged, plain = row(BATCHES, name, 1.0, "sjf with ageing"), row(BATCHES, name, 1.0, "sjf")
        apart = aged[f"{MEAN}_of_base_pct_low"] > plain[f"{MEAN}_of_base_pct_high"]
        assert apart == (name == "burstgpt_like")
    aged = ratio(BATCHES, "burstgpt_like", 1.0, "sjf with ageing")
    says(f"{aged:.0f} % of FIFO's, for {ratio(BATCHES, 'burstgpt_like', 1.0, 'sjf'):.0f} % under SJF")


def test_claims_of_continuous_batching() -> None:
    table = TABLES[VLLM]
    calm = table[table.workload.isin(("lognormal", "azure"))]
    off = [(calm[calm.load == load][f"{MEAN}_of_base_pct"] - 100).abs().max() for load in (0.6, 0.8)]
    assert off[0] < 0.1
    says("all means are within 0.1 % of FIFO's on lognormal and Azure")
    says(f"At load 0.8 they are within {off[1]:.1f} %")
    bursts = [ratio(VLLM, "burstgpt_like", load, "sjf") for load in (1.0, 0.6)]
    says("SJF has {:.0f} to {:.0f} % of FIFO's mean with sigma 0.5".format(*bursts))
    says(f"At load 1 SJF saves {100 - ratio(VLLM, 'lognormal', 1.0, 'sjf'):.0f} % on lognormal")
    assert [decided(row(VLLM, name, 1.0, "sjf")) for name in THREE] == [-1, -1, 0]
    tails = [ratio(VLLM, name, 1.0, "sjf", metric=P99) - 100 for name in THREE[:2]]
    says("rises by {:.0f} % on lognormal and by {:.0f} % on BurstGPT-like at load 1".format(*tails))
    assert [decided(row(VLLM, name, 1.0, "sjf"), P99) for name in THREE] == [1, 1, 0]
    longest = [ratio(VLLM, name, 1.0, "sjf", metric=LONGEST) / 100 for name in THREE]
    says(
        "it is {:.1f} times FIFO's on lognormal, {:.1f} times on BurstGPT-like and {:.1f} times on Azure".format(
            *longest
        )
    )
    halved = [
        ratio(VLLM, name, 1.0, "hrrn", metric=LONGEST) / 100 / long for name, long in zip(THREE, longest, strict=True)
    ]
    assert [0.45 < share < 0.6 for share in halved] == [True, False, True]
    errors = [ratio(VLLM, "burstgpt_like", 1.0, "sjf", sigma) for sigma in (2, 0)]
    says("With sigma 2, SJF has {:.0f} % of FIFO's mean on BurstGPT-like at load 1, for {:.0f} % with".format(*errors))
    says(f'FIFO "starves" {row(VLLM, "lognormal", 1.0, "fifo").starved_pct:.0f} % on lognormal')
    tokens = [
        100
        * row("fair_orders", name, 1.4, "sjf", None).throughput_tokens_per_s
        / row("fair_orders", name, 1.4, "fifo", None).throughput_tokens_per_s
        for name in THREE
    ]
    says(f"SJF serves {min(tokens):.0f} to {max(tokens):.0f} % of FIFO's tokens/s")


def test_claims_of_bins() -> None:
    settings = {
        name: [row("bins_or_order", name, load, "4 bins", sigma) for load in (0.6, 0.8, 1.0) for sigma in (0, 0.5, 1)]
        for name in THREE
    }
    more = {name: [found[f"{MEAN}_of_base_pct"] - 100 for found in rows] for name, rows in settings.items()}
    for name, words in (
        ("lognormal", "lognormal, by {:.0f} to {:.0f} %"),
        ("burstgpt_like", "nine, by {:.0f} to {:.0f} %"),
    ):
        assert all(decided(found) > 0 for found in settings[name])
        says(words.format(min(more[name]), max(more[name])))
    here = [found for found in settings["azure"] if decided(found)]
    assert len(here) == 1
    says(f"there bins are {here[0][f'{MEAN}_of_base_pct'] - 100:.0f} % higher")
    longest = [ratio("bins_or_order", name, 1.0, "4 bins", metric=LONGEST) for name in THREE]
    says("{:.0f} % of SJF's on lognormal, {:.0f} % on BurstGPT-like and {:.0f} % on Azure".format(*longest))
    fifo = [ratio("bins_or_order", name, 1.0, "one FIFO", metric=LONGEST) for name in THREE]
    says("about one FIFO's: {:.0f}, {:.0f} and {:.0f} %".format(*fifo))
    assert all(decided(row("bins_or_order", name, 1.0, "4 bins"), P99) < 0 for name in THREE)
    cut = [
        row("bins_or_order", name, 1.0, "sjf").padding_waste_pct
        - row("bins_or_order", name, 1.0, "4 bins").padding_waste_pct
        for name in THREE
    ]
    assert max(map(abs, cut[:2])) < 1
    says(f"within 1 point. On Azure 4 bins cut {cut[2]:.0f} points more")
    service = ratio(BATCHES, "burstgpt_like", 1.0, "sjf")
    output = 1e4 / ratio("bins_or_order", "burstgpt_like", 1.0, "one FIFO")
    says(f"has {service:.0f} % of FIFO's mean on BurstGPT-like at load 1. SJF by output has {output:.0f} %")


def test_claims_of_bins_against_one_fifo() -> None:
    """Where the intervals of the two, both against SJF, are apart."""
    found = {}
    for name in THREE:
        for load in (0.6, 0.8, 1.0):
            bins, fifo = (row("bins_or_order", name, load, label) for label in ("4 bins", "one FIFO"))
            better = bins[f"{MEAN}_of_base_pct"] < fifo[f"{MEAN}_of_base_pct"]
            apart = (
                bins[f"{MEAN}_of_base_pct_high"] < fifo[f"{MEAN}_of_base_pct_low"]
                or bins[f"{MEAN}_of_base_pct_low"] > fifo[f"{MEAN}_of_base_pct_high"]
            )
            found[name, load] = (better, apart)
    assert all(found["burstgpt_like", load][0] for load in (0.6, 0.8, 1.0))
    assert [found["lognormal", load] for load in (0.6, 0.8, 1.0)] == [(False, True), (False, True), (True, True)]
    assert not any(found["azure", load][1] for load in (0.6, 0.8, 1.0))


def test_claims_of_memory() -> None:
    table = TABLES["future_peak"]
    exact = table[(table["predictor.sigma"] == 0) & table.label.str.startswith("future peak")]
    assert (exact.preempted_requests_pct == 0).all()
    at_exact = [ratio("future_peak", name, 1.0, "future peak", 0) for name in THREE]
    says("{:.0f} % of paged memory's on lognormal and {:.0f} % on BurstGPT-like".format(*at_exact))
    assert [decided(row("future_peak", name, 1.0, "future peak", 0)) for name in THREE] == [-1, -1, 0]
    erring = [ratio("future_peak", name, 1.0, "future peak") - 100 for name in THREE]
    says("its mean is {:.0f} % above paged memory's on lognormal, {:.0f} % on BurstGPT-like".format(*erring))
    says(f"and {erring[2]:.0f} % on Azure. It preempts more")
    assert all(decided(row("future_peak", name, 1.0, "future peak")) > 0 for name in THREE)
    for name in THREE:
        peak, paged = (
            row("future_peak", name, 1.0, label).preempted_requests_pct for label in ("future peak", "paged")
        )
        assert peak > paged
    kept = [ratio("future_peak", name, 1.0, "reserved") / 100 for name in THREE]
    says("has {:.0f} times the mean of paged memory on lognormal, and {:.1f} times on BurstGPT-like".format(*kept))
    assert decided(row("future_peak", "azure", 1.0, "reserved")) == 0
    bins, sjf = (ratio("future_peak", "lognormal", 1.0, label) / 100 for label in ("4 bins", "reserved by sjf"))
    says(f"4 bins have {bins:.1f} times the mean of paged memory on lognormal and SJF {sjf:.1f} times")
    bins, sjf = (ratio("future_peak", "burstgpt_like", 1.0, label) for label in ("4 bins", "reserved by sjf"))
    assert 45 < bins < 55  # halved
    assert 18 < sjf < 22.5  # divided by five
    assert all(decided(row("future_peak", "azure", 1.0, label)) == 0 for label in ("4 bins", "reserved by sjf"))
    labels = ("future peak", "future peak by 4 bins", "future peak by sjf")
    for name, words in (
        ("lognormal", "are {:.0f}, {:.0f} and {:.0f} %. On"),
        ("burstgpt_like", "On BurstGPT-like they are {:.0f}, {:.0f} and {:.0f} %"),
    ):
        says(words.format(*(ratio("future_peak", name, 1.0, label) for label in labels)))
        longest = [ratio("future_peak", name, 1.0, label, metric=LONGEST) for label in labels]
        assert longest == sorted(longest)


def test_claims_of_classes() -> None:
    at = {
        (name, order): row("fair_orders", name, 1.4, order, None)
        for name in THREE
        for order in ("fifo", "sjf", "edf", "vtc")
    }
    share = [100 * at[name, "vtc"].throughput_tokens_per_s / at[name, "fifo"].throughput_tokens_per_s for name in THREE]
    says(f"{min(share):.1f} to {max(share):.1f} % of FIFO's tokens/s")
    light = {key: found["latency_mean_s@light"] for key, found in at.items()}
    says(f"in {light['lognormal', 'vtc']:.1f} s for FIFO's {light['lognormal', 'fifo']:.0f}")
    says(f"takes {light['azure', 'vtc']:.1f} s for {light['azure', 'fifo']:.0f}")
    says(f"takes {light['burstgpt_like', 'vtc']:.0f} s for {light['burstgpt_like', 'fifo']:.0f}")
    good = {key: found.goodput_requests_per_s for key, found in at.items()}
    over = {order: [good[name, "sjf"] / good[name, order] for name in THREE] for order in ("fifo", "vtc")}
    says(
        f"at {min(over['fifo']):.0f} to {max(over['fifo']):.0f} times FIFO's and {min(over['vtc']):.0f} to "
        f"{max(over['vtc']):.0f} times VTC's"
    )
    tails = [at[name, "sjf"][f"{P99}_of_base_pct"] / 100 for name in ("lognormal", "azure")]
    assert [f"{tail:.1f}" for tail in tails] == ["2.9", "2.9"]
    assert [decided(at[name, "sjf"], P99) for name in THREE] == [1, 0, 1]
    for name in THREE:  # with equal limits
        assert at[name, "edf"].drop("label").equals(at[name, "fifo"].drop("label"))


def test_claims_of_stopping() -> None:
    few, many = "displacing_orders_4", "displacing_orders_64"
    for label, words in (
        ("srpt", "saves {:.0f} to {:.0f} % on lognormal"),
        ("srpt with swap", "{:.0f} to {:.0f} % with swap"),
    ):
        found = [row(few, "lognormal", load, label) for load in (0.6, 0.8)]
        assert all(decided(each) < 0 for each in found)
        says(words.format(*(100 - each[f"{MEAN}_of_base_pct"] for each in found)))
    assert decided(row(few, "lognormal", 1.0, "srpt")) > 0
    assert all(decided(row(few, name, load, "srpt")) > 0 for name in THREE[1:] for load in (0.6, 0.8, 1.0))
    times = [ratio(many, name, 1.0, "srpt") / 100 for name in THREE]
    says(f"SRPT has {min(times):.1f} to {max(times):.1f} times SJF's mean")
    tables = [
        TABLES[study].pivot(index=["workload", "load", "predictor.sigma"], columns="label", values=MEAN)
        for study in (few, many)
    ]
    shares = tables[0]["trail"] / tables[0]["srpt"]
    says(f"TRAIL's mean is {shares.min():.2f} to {shares.max():.2f} of SRPT's where four run")
    assert all(table["trail at 0"].equals(table["sjf"].rename("trail at 0")) for table in tables)


def unknown(name: str, label: str, metric: str = MEAN) -> float:
    return ratio("unknown_lengths", name, 1.0, label, None, metric)


def test_claims_of_unknown_lengths() -> None:
    rows = {(name, label): row("unknown_lengths", name, 1.0, label, None) for name in THREE
            for label in ("Past-Future", "pages", "A_min from 1", "exact", "MC-SF exact")}  # fmt: skip
    stopped = [rows[name, label].preempted_requests_pct for label in ("Past-Future", "pages") for name in THREE]
    says("it preempts {:.2f}, {:.2f} and {:.2f} % of requests, for {:.1f}, {:.1f} and {:.1f} %".format(*stopped))
    means = [unknown(name, "Past-Future") for name in THREE[:2]]
    says("mean is {:.0f} % of that of `pages` on lognormal and {:.0f} % on BurstGPT-like".format(*means))
    assert [decided(rows[name, "Past-Future"]) for name in THREE] == [1, 1, 0]
    for words, factor in (("means are {:.0f} and {:.0f} % on", 2), ("Within 4 they are {:.0f} and {:.0f} %", 4)):
        says(words.format(*(unknown("lognormal", f"{rule} within {factor}") for rule in ("A_max", "A_min"))))
    says(f"MC-SF with exact lengths has {unknown('lognormal', 'MC-SF exact'):.0f} %")
    longest = [unknown("lognormal", f"{rule} within 4", LONGEST) / 100 for rule in ("A_max", "A_min")]
    says("wait {:.0f} times as long as `pages` does, and A_min {:.0f} times".format(*longest))
    assert decided(rows["lognormal", "A_min from 1"]) == 0
    says(f"99th percentile is {unknown('lognormal', 'A_min from 1', P99) / 100:.1f} times as high")
    few = [rows["lognormal", label].preempted_requests_pct for label in ("exact", "MC-SF exact")]
    assert min(few) > 0
    assert max(few) < 0.02


def test_claims_of_likeness() -> None:
    means = [row(BATCHES, name, 0.8, "fifo")[MEAN] for name in ("burstgpt_like", "alike")]
    says("falls from {:,.0f} to {:,.0f} s".format(*means))
    alike, not_alike = (ratio(BATCHES, name, 0.8, "sjf") for name in ("alike", "burstgpt_like"))
    says(f"SJF still has {alike:.0f} % of it, for {not_alike:.0f} % without likeness")
    bins, fifo = (ratio("bins_or_order", "alike", 0.8, label) for label in ("4 bins", "one FIFO"))
    says(f"4 bins have {bins:.0f} % of the mean of SJF by output, and one FIFO has {fifo:.0f} %")
    assert decided(row("bins_or_order", "alike", 0.8, "one FIFO")) < 0
    moved, shifted = [], []
    for study in (VLLM, "future_peak", "fair_orders", "displacing_orders_4", "displacing_orders_64"):
        table = TABLES[study]
        if "predictor.sigma" in table:
            table = table[table["predictor.sigma"] == 0.5]
        both = [table[table.workload == name].set_index(["load", "label"]) for name in ("alike", "burstgpt_like")]
        moved.append((both[0].offered_load - both[1].offered_load).abs().max())
        shifted.append((both[0][f"{MEAN}_of_base_pct"] / both[1][f"{MEAN}_of_base_pct"] - 1).abs().max())
    says(f"the offered load moves by at most {max(moved):.2f}")
    says(f"Each mean against its base moves by at most {100 * max(shifted):.0f} % of itself")


def test_when_a_scheduler_wins_says_what_the_tables_say() -> None:
    lines = dict(re.findall(r"^\| `(\w+)` \|.*?\|.*?\| (.*?) \|.*$", SCHEDULERS, flags=re.MULTILINE))

    def three(study: str, label: str, load: float = 1.0, sigma: float | None = 0.5) -> str:
        return "{:.0f}, {:.0f} and {:.0f} %".format(*(ratio(study, name, load, label, sigma) for name in THREE))

    assert f"with `scheduler.order_by=service` {three(BATCHES, 'sjf')}" in lines["sjf"]
    by_output = [1e4 / ratio("bins_or_order", name, 1.0, "one FIFO") for name in THREE]
    assert "{:.0f}, {:.0f} and {:.0f} % of FIFO's mean".format(*by_output) in lines["sjf"]
    assert f"{three(BATCHES, 'hrrn')} of FIFO's mean" in lines["hrrn"]
    assert f"{three('future_peak', 'future peak by sjf', sigma=0)} of paged memory's mean" in lines["mc_sf"]
    assert "preempts {:.2f}, {:.2f} and {:.2f} % for paged memory's {:.1f}, {:.1f} and {:.1f}".format(*(
        row("unknown_lengths", name, 1.0, label, None).preempted_requests_pct
        for label in ("Past-Future", "pages") for name in THREE
    )) in lines["past_future"]  # fmt: skip
    assert f"factor of 2 it has {three('unknown_lengths', 'A_max within 2', sigma=None)} of paged" in lines["a_max"]
    assert f"factor of 4 it has {three('unknown_lengths', 'A_min within 4', sigma=None)} of paged" in lines["a_min"]
    saved = [100 - ratio("displacing_orders_4", "lognormal", load, "srpt") for load in (0.6, 0.8)]
    assert "{:.0f} to {:.0f} % less mean latency than `sjf` on one workload of three".format(*saved) in lines["srpt"]
    light = [
        row("fair_orders", name, 1.4, order, None)["latency_mean_s@light"]
        for order in ("vtc", "fifo")
        for name in THREE
    ]
    assert "{:.1f}, {:.0f} and {:.1f} s for FIFO's {:.0f}, {:.0f} and {:.0f}".format(*light) in lines["vtc"]
