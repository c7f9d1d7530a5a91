"""Makes the studies of docs/orders.md on every workload, and writes their tables and picture in this folder.

python docs/results/orders.py [OUTPUTS]   # runs what OUTPUTS, or outputs/, does not hold yet; then cuts the tables
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from mbexp.figures.style import categorical, panels, save, with_style
from mbexp.sweep.table import read_results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A workload, and what its command says beside its name. `alike` is the same traffic with bursts of like lengths, at
# the same rates and one error of predictions. The trace is read: python -m mbexp.download azure_2023_conversation
WORKLOADS = {
    "lognormal": ["workload=lognormal", "replications=10"],
    "burstgpt_like": ["workload=burstgpt_like", "num_requests=30000", "replications=10"],
    "azure": ["workload=azure", "num_requests=3800", "replications=5", "replicate=windows"],
    "alike": ["workload=burstgpt_like", "workload.burst_likeness=0.9", "num_requests=30000", "replications=10"],
}
SAME_RATES = {"alike": "burstgpt_like"}  # whose capacity counts
KV_TOKENS = {"lognormal": 20_000, "burstgpt_like": 46_000, "azure": 85_000, "alike": 46_000}  # of 62 mean requests
SHORT_OF_MEMORY = ("future_peak", "unknown_lengths")
LATENCIES = ["latency_mean_s", "latency_p99_s", "queue_delay_max_s"]
COMMON = ["arrival_rate_per_s", "offered_load", *LATENCIES, "starved_pct"]


@dataclass(frozen=True)
class Study:
    """A study of conf/, what its command changes, its loads as shares of capacity, and its columns."""

    config: str
    words: tuple[str, ...]
    fifo: tuple[str, ...]  # what makes its base configuration first come, first served
    loads: tuple[float, ...]
    label: str
    columns: tuple[str, ...]
    base: str = "fifo"  # whom the others are compared with
    predicted: bool = True


ON_ENGINE = ("num_gpus=1", "scheduler.fixed_batch_size=64")
STUDIES = {
    "queue_orders_run_to_completion": Study(
        "queue_orders", (), (), (0.6, 0.8, 1.0), "study.label", ("padding_waste_pct",)
    ),
    "queue_orders_vllm": Study(
        "queue_orders", ("execution=vllm", *ON_ENGINE), (), (0.6, 0.8, 1.0), "study.label", ("tbt_mean_ms",)
    ),
    "bins_or_order": Study("bins_or_order", (), (), (0.6, 0.8, 1.0), "study.label", ("padding_waste_pct",), "sjf"),
    "future_peak": Study(
        "future_peak", (), ("execution.kv=paged",), (0.6, 0.8, 1.0), "study.label", ("preempted_requests_pct",),
        "paged",
    ),
    "unknown_lengths": Study(
        "unknown_lengths", (), ("execution.kv=paged",), (0.6, 0.8, 1.0), "study.label", ("preempted_requests_pct",),
        "pages", predicted=False,
    ),
    "fair_orders": Study(
        "fair_orders", (), (), (1.0, 1.4), "scheduler.order",
        (
            "goodput_requests_per_s", "goodput_requests_per_s@heavy", "goodput_requests_per_s@light",
            "latency_mean_s@heavy", "latency_mean_s@light", "jain_index", "throughput_tokens_per_s",
        ),
        predicted=False,
    ),
    "displacing_orders_4": Study(
        "displacing_orders", (), ("scheduler.order=fifo",), (0.6, 0.8, 1.0), "study.label", ("preempted_requests_pct",),
        "sjf",
    ),
    "displacing_orders_64": Study(
        "displacing_orders", ("scheduler.fixed_batch_size=64",), ("scheduler.order=fifo",), (0.6, 0.8, 1.0),
        "study.label", ("preempted_requests_pct",), "sjf",
    ),
}  # fmt: skip
DRAWN = {
    "latency_mean_s": "mean latency",
    "latency_p99_s": "p99 latency",
    "queue_delay_max_s": "longest wait",
}
MODES = {"queue_orders_run_to_completion": "batches", "queue_orders_vllm": "vLLM"}
NAMES = {"lognormal": "lognormal", "burstgpt_like": "BurstGPT-like", "azure": "Azure"}


def told(study: str, workload: str, outputs: Path) -> list[str]:
    """Give the words of a study's command on a workload, without its loads."""
    of = STUDIES[study]
    memory = [f"gpu.kv_capacity_tokens={KV_TOKENS[workload]}"] if study in SHORT_OF_MEMORY else []
    return ["-cn", of.config, *of.words, *WORKLOADS[workload], *memory, f"output.dir={outputs}"]


def run(words: list[str]) -> None:
    """Run a command of mbexp, and show it."""
    print("python -m mbexp", *words, flush=True)
    subprocess.run([sys.executable, "-m", "mbexp", *words], check=True, stdout=subprocess.DEVNULL)


def capacity(study: str, workload: str, outputs: Path) -> float:
    """Find the rate scaling at which the offered load under FIFO is 1. The offered load is proportional to it."""
    folder = outputs / f"capacity_{study}_{workload}"
    if not (kept := [*folder.glob("*/summary.json")]):
        words = [*told(study, workload, folder), *STUDIES[study].fifo, "workload.rate_scaling=1"]
        run([*words, "predictor.sigma=0", "hydra.mode=RUN"])
        kept = [*folder.glob("*/summary.json")]
    return 1 / json.loads(kept[0].read_text(encoding="utf-8"))["offered_load"]


def paired(table: pd.DataFrame, metric: str, base: str) -> pd.DataFrame:
    """Compare each label of a setting with one of them, seed by seed: the ratio in %, and its 95 % interval."""
    logs = np.log(table.pivot(index="seed", columns="label", values=metric).where(lambda value: value > 0))
    difference = logs.sub(logs[base], axis=0)
    mean, count = difference.mean(), difference.count()
    half = stats.t.ppf(0.975, count - 1) * difference.std() / np.sqrt(count)
    ends = {"": mean, "_low": mean - half, "_high": mean + half}
    return pd.DataFrame({f"{metric}_of_base_pct{end}": 100 * np.exp(value) for end, value in ends.items()})


def cut(study: str, workload: str, outputs: Path) -> pd.DataFrame:
    """Run a study on a workload, and give its rows: means, half widths, and ratios to the base."""
    of = STUDIES[study]
    limit = capacity(study, SAME_RATES.get(workload, workload), outputs)
    loads = {float(f"{limit * load:.4g}"): load for load in of.loads}
    name = f"{study}_{workload}"
    sigma = ["predictor.sigma=0.5"] if of.predicted and workload in SAME_RATES else []
    scaling = "workload.rate_scaling=" + ",".join(f"{each:g}" for each in loads)
    run([*told(study, workload, outputs), f"study.name={name}", scaling, *sigma])
    keys = ["workload", "load", *(["predictor.sigma"] if of.predicted else []), "label"]

    def dressed(by_seed: bool) -> pd.DataFrame:
        table = read_results(outputs / name, by_seed=by_seed)
        if sigma:
            table["predictor.sigma"] = 0.5
        rates = table["workload.rate_scaling"].map(lambda rate: loads[float(rate)])
        return table.assign(workload=workload, load=rates, label=table[of.label])

    means, seeds = dressed(by_seed=False), dressed(by_seed=True)
    columns = [half for name in (*COMMON, *of.columns) for half in (name, f"{name}_half_width") if half in means]
    rows = means[[*keys, *columns]].set_index(keys)
    ratios = []
    for setting, group in seeds.groupby(keys[:-1]):
        both = pd.concat([paired(group, metric, of.base) for metric in LATENCIES], axis=1)
        ratios.append(pd.concat({setting: both}, names=keys))
    return rows.join(pd.concat(ratios)).reset_index()


@with_style
def orders(tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw SJF and HRRN against FIFO over the error of predictions, at full load: for a column of a paper."""
    figure, axes = panels(len(NAMES) * len(MODES), columns=len(MODES), width=1.75, height=1.6, sharex=True, sharey=True)
    places = iter(axes)
    looks = categorical(list(DRAWN))
    for workload, name in NAMES.items():
        for study, mode in MODES.items():
            axis, table = next(places), tables[study]
            table = table[(table["workload"] == workload) & (table["load"] == 1.0)].sort_values("predictor.sigma")
            axis.axhline(100, color="#767676", linewidth=0.8)
            for label, dash in (("sjf", "-"), ("hrrn", ":")):
                for metric, look in looks.items():
                    mine = table[table["label"] == label]
                    ratio = mine[f"{metric}_of_base_pct"]
                    ends = [ratio - mine[f"{metric}_of_base_pct_low"], mine[f"{metric}_of_base_pct_high"] - ratio]
                    face = look.color if label == "sjf" else "white"
                    axis.errorbar(
                        mine["predictor.sigma"], ratio, ends, label=f"{label.upper()}: {DRAWN[metric]}",
                        color=look.color, linestyle=dash, marker=look.marker, markerfacecolor=face,
                        markersize=3, linewidth=1, elinewidth=0.6,
                    )  # fmt: skip
            axis.set_title(f"{name}, {mode}", fontsize=7)
            axis.set_yscale("log")
            axis.tick_params(labelsize=7)
    axes[-1].set_ylim(3, 2000)
    axes[-1].set_yticks([10, 100, 1000], ["10", "100", "1,000"])
    figure.supxlabel("error of predictions, sigma", fontsize=7)
    figure.supylabel("% of FIFO", fontsize=7)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, fontsize=7)
    return figure


def mean_of(row: pd.Series, metric: str) -> str:
    """Write a mean and its half width, both to the second digit of the half width."""
    mean, half = row[metric], row[f"{metric}_half_width"]
    if np.isnan(mean):
        return "-"
    digits = 2 if np.isnan(half) or half == 0 else int(np.clip(1 - np.floor(np.log10(half)), 0, 2))
    return f"{mean:,.{digits}f} ± {half:,.{digits}f}"


def of_base(row: pd.Series, metric: str) -> str:
    """Write a ratio to the base of a setting, in %, with its interval."""
    name = f"{metric}_of_base_pct"
    return f"{row[name]:,.0f} ({row[f'{name}_low']:,.0f} to {row[f'{name}_high']:,.0f})"


def rows_of_errors(table: pd.DataFrame) -> list[str]:
    """Give a row for each workload and load: FIFO in seconds, and SJF against it over the error of predictions."""
    found = []
    for (workload, load), group in table[table["workload"].isin(NAMES)].groupby(["workload", "load"], sort=False):
        at = group.set_index(["label", "predictor.sigma"]).sort_index()
        cells = [mean_of(at.loc["fifo", 0], "latency_mean_s")]
        for metric, sigmas in (("latency_mean_s", (0, 1, 2)), ("latency_p99_s", (0, 2)), ("queue_delay_max_s", (0, 2))):
            cells += [of_base(at.loc["sjf", sigma], metric) for sigma in sigmas]
        found.append(f"| {NAMES[workload]}, {load:g} | " + " | ".join(cells) + " |")
    return found


def rows_of_labels(tables: dict[str, pd.DataFrame], study: str, metric: str) -> list[str]:
    """Give a row for each workload and label: the mean against the base at each load; the rest at the last load."""
    table = tables[study]
    if "predictor.sigma" in table:
        table = table[table["predictor.sigma"] == 0.5]
    loads = sorted(set(table["load"]))
    found = []
    for workload, name in NAMES.items():
        at = table[table["workload"] == workload].set_index(["label", "load"]).sort_index()
        for label in dict.fromkeys(table["label"]):
            write = (lambda row, of: f"{mean_of(row, of)} s") if label == STUDIES[study].base else of_base
            cells = [write(at.loc[label, load], "latency_mean_s") for load in loads]
            last = at.loc[label, loads[-1]]
            cells += [write(last, "latency_p99_s"), write(last, "queue_delay_max_s"), mean_of(last, metric)]
            found.append(f"| {name} | {label} | " + " | ".join(cells) + " |")
    return found


def rows_of_classes(table: pd.DataFrame) -> list[str]:
    """Give a row for each workload and order under overload: what fairness costs, and whom it serves."""
    metrics = (
        "goodput_requests_per_s", "goodput_requests_per_s@light", "latency_mean_s@heavy", "latency_mean_s@light",
        "latency_p99_s", "jain_index", "throughput_tokens_per_s",
    )  # fmt: skip
    here = table[(table["load"] == 1.4) & table["workload"].isin(NAMES) & (table["label"] != "edf")]
    return [
        f"| {NAMES[row['workload']]} | {row['label'].replace('fifo', 'fifo, edf')} | "
        + " | ".join(mean_of(row, each) for each in metrics)
        + " |"
        for _, row in here.iterrows()
    ]


def rows_of_displacing(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Give a row for each workload and order: its mean against SJF's where few and where many run at once."""
    found = []
    for workload, name in NAMES.items():
        for label in ("fifo", "psjf", "srpt", "srpt with swap"):
            cells = []
            for cap in (4, 64):
                table = tables[f"displacing_orders_{cap}"]
                mine = table[(table["workload"] == workload) & (table["label"] == label)]
                mine = mine[mine["predictor.sigma"] == 0.5].sort_values("load")
                cells += [of_base(row, "latency_mean_s") for _, row in mine.iterrows()]
            found.append(f"| {name} | {label} | " + " | ".join(cells) + " |")
    return found


def rows_of_likeness(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Give a row for each study of batches and label: what likeness 0 and 0.9 make of load, latency and padding."""
    found = []
    for study in SORTED:
        table = tables[study]
        table = table[(table["predictor.sigma"] == 0.5) & (table["load"] == 0.8)].set_index(["workload", "label"])
        for label in table.loc["alike"].index:
            both = [table.loc[(workload, label)] for workload in ("burstgpt_like", "alike")]
            cells = [mean_of(row, metric) for metric in ("offered_load", "padding_waste_pct") for row in both]
            cells += [of_base(row, "latency_mean_s") for row in both]
            found.append(f"| {label}, against {SORTED[study]} | " + " | ".join(cells) + " |")
    return found


SORTED = {"queue_orders_run_to_completion": "FIFO; by service", "bins_or_order": "SJF; by output"}


def rows_of_workloads(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Give a row for each workload: its capacity, in requests/s, in the studies that do not share one."""
    found = []
    for workload, name in NAMES.items():
        cells = []
        for study in (*MODES, "future_peak", "fair_orders", "displacing_orders_4"):
            table = tables[study]
            row = table[(table["workload"] == workload) & (table["load"] == 1.0)].iloc[0]
            cells.append(f"{row['arrival_rate_per_s']:.3g}")
        found.append(f"| {name} | " + " | ".join(cells) + " |")
    return found


def page(tables: dict[str, pd.DataFrame]) -> dict[str, list[str]]:
    """Give the rows of every table of docs/orders.md."""
    return {
        "workloads": rows_of_workloads(tables),
        **{f"errors, {study}": rows_of_errors(tables[study]) for study in MODES},
        **{f"orders, {study}": rows_of_labels(tables, study, "starved_pct") for study in MODES},
        "bins": rows_of_labels(tables, "bins_or_order", "padding_waste_pct"),
        "memory": rows_of_labels(tables, "future_peak", "preempted_requests_pct"),
        "unknown": rows_of_labels(tables, "unknown_lengths", "preempted_requests_pct"),
        "fairness": rows_of_classes(tables["fair_orders"]),
        "displacing": rows_of_displacing(tables),
        "likeness": rows_of_likeness(tables),
    }


def stored(folder: Path) -> dict[str, pd.DataFrame]:
    """Read the tables in this folder."""
    return {study: pd.read_csv(folder / f"{study}.csv") for study in STUDIES}


def main(outputs: Path, folder: Path) -> None:
    """Write a table of each study, with a row for each workload and setting, and the picture; print the page's rows."""
    for study in STUDIES:
        table = pd.concat([cut(study, workload, outputs) for workload in WORKLOADS], ignore_index=True)
        table.to_csv(folder / f"{study}.csv", index=False, float_format="%.4g")
    tables = stored(folder)
    save(orders(tables), folder, "queue_orders", ["png"])
    for name, rows in page(tables).items():
        print(f"\n{name}", *rows, sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs"), Path(__file__).parent)
