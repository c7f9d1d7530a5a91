"""Figures of continuous batching: bins, memory, the token SLA, and the budget of chunked prefill."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mbexp.figures.aggregate import means, settings, swept
from mbexp.figures.comparison import dot
from mbexp.figures.dynamic_batching_paper import capacities
from mbexp.figures.labels import setting_label
from mbexp.figures.lines import (
    draw_lines,
    footnote,
    from_zero,
    legend_outside,
    log_axis,
    looks_of,
    numeric_axis,
    usual_notes,
)
from mbexp.figures.registry import figure
from mbexp.figures.style import GREY, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABEL = "study.label"
SCALING = "workload.rate_scaling"
RATE = "workload.arrivals.rate_per_s"
BUDGET = "execution.token_budget"
SERVES = "execution.gpu_serves"
DODGE = 0.16
ALONE = "cap 512"  # of continuous_memory: as many as memory takes
SERVED = {"any_bin": "a GPU serves any bin", "one_bin": "one bin at a time", "load_share": "GPUs shared by load"}


def in_order(frame: pd.DataFrame) -> list[str]:
    """Return the labels of a study in the order that it gives them."""
    return list(dict.fromkeys(frame[LABEL]))


@figure(
    "Bins under continuous batching, over load",
    needs=(LABEL, "execution", "arrival_rate_per_s", "latency_p95_s", "goodput_requests_per_s", "tbt_p99_ms"),
    varies=(LABEL, "execution"),
    named_points=True,
    studies=("continuous_binning_synthetic", "continuous_binning_burstgpt_like", "continuous_binning_azure"),
)
def continuous_binning(frame: pd.DataFrame) -> Figure:
    """Latency, goodput and time between tokens over the arrival rate, at equal GPUs.

    Two lines are batches that run to completion, with and without bins. The others are continuous batching, without
    bins and with bins served in three ways.
    """
    metrics = ("latency_p95_s", "goodput_requests_per_s", "tbt_p99_ms")
    table = means(frame, [LABEL, SCALING], [*metrics, "arrival_rate_per_s"])
    looks = looks_of(frame, [LABEL])
    looks = {(name,): looks[(name,)] for name in in_order(frame)}
    picture, axes = panels(3, columns=3, width=3.2, height=3.2, extra_width=2.2)
    for panel, metric in zip(axes, metrics, strict=True):
        draw_lines(panel, table, "arrival_rate_per_s", metric, [LABEL], looks)
        numeric_axis(panel, "x", "arrival_rate_per_s", [])
        numeric_axis(panel, "y", metric, [])
        log_axis(panel, "x")
        if metric == "goodput_requests_per_s":
            from_zero(panel)
        else:
            log_axis(panel)
    legend_outside(picture, [LABEL], looks)
    footnote(picture, *usual_notes(table))
    return picture


@figure(
    "Capacity under continuous batching, against bins",
    needs=(LABEL, SERVES, "k_bins", "gpu_utilization_pct", "num_gpus", "throughput_requests_per_s"),
    varies=("k_bins", SERVES),
    named_points=True,
    studies=("continuous_conservation",),
)
def continuous_conservation(frame: pd.DataFrame) -> Figure:
    """GPU time that a request takes, and throughput when all requests are there at once, relative to one bin.

    If GPU time is additive, the upper panels are flat at 1. Throughput also falls where some GPUs run out of requests
    of their bins before other GPUs do.
    """
    busy = frame["gpu_utilization_pct"] / 100 * frame["num_gpus"] / frame["throughput_requests_per_s"]
    frame = frame.assign(gpu_time=busy, throughput=frame["throughput_requests_per_s"])
    alone = frame[frame["k_bins"] == frame["k_bins"].min()].groupby(LABEL)[["gpu_time", "throughput"]].mean()
    for column in ("gpu_time", "throughput"):
        frame[column] = frame[column] / frame[LABEL].map(alone[column])
    frame = frame.assign(overloaded=False, queue_climbing=False)  # all requests come at once
    table = means(frame, [LABEL, SERVES, "k_bins"], ["gpu_time", "throughput"])
    looks = looks_of(table, [SERVES])
    labels = in_order(frame)
    picture, axes = panels(2 * len(labels), columns=len(labels), width=2.1, height=2.1, extra_width=1.4)
    rows = (("gpu_time", "GPU time a request"), ("throughput", "Throughput"))
    for row, (column, title) in enumerate(rows):
        for panel, label in zip(axes[row * len(labels) : (row + 1) * len(labels)], labels, strict=True):
            draw_lines(panel, table[table[LABEL] == label], "k_bins", column, [SERVES], looks)
            panel.axhline(1.0, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)))
            numeric_axis(panel, "x", "k_bins", table["k_bins"])
            panel.set_ylabel(f"{title} (of K = 1)" if label == labels[0] else "")
            if row == 0:
                panel.set_title(label.replace(", ", ",\n"), fontsize=8)
    for alike in (axes[: len(labels)], axes[len(labels) :]):
        limits = [panel.get_ylim() for panel in alike]
        for panel in alike:
            panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    legend_outside(picture, [SERVES], looks, names={key: SERVED.get(str(key[0]), str(key[0])) for key in looks})
    footnote(picture, *[note for note in usual_notes(table) if "hollow" not in note])
    return picture


@figure(
    "Algorithm 1 against static caps when memory binds (P2)",
    needs=(LABEL, "execution.preemption", "throughput_tokens_per_s", "running_mean", "preempted_requests_pct",
           "kv_use_mean_pct"),
    varies=(LABEL,),
    named_points=True,
    studies=("continuous_memory",),
)  # fmt: skip
def continuous_memory(frame: pd.DataFrame) -> Figure:
    """Throughput with all requests at time 0, relative to a cap that never binds, where memory alone decides.

    The other panels show requests on the GPU, memory in use and the share of requests that were preempted.
    """
    metrics = ("gain_pct", "running_mean", "kv_use_mean_pct", "preempted_requests_pct")
    marks = [name for name in swept(frame, leave_out=[LABEL]) if name in ("gpu", "execution.preemption")]
    frame = frame.assign(overloaded=False, queue_climbing=False, alike="")  # all requests come at once
    by = marks or ["alike"]
    memory_alone = frame[frame[LABEL] == ALONE].groupby(by)["throughput_tokens_per_s"].mean().rename("memory_alone")
    frame = frame.join(memory_alone, on=by)
    frame["gain_pct"] = 100 * (frame["throughput_tokens_per_s"] / frame["memory_alone"] - 1)
    table = means(frame, [*marks, LABEL], metrics)
    names = in_order(frame)
    place = {name: len(names) - 1 - index for index, name in enumerate(names)}
    looks = looks_of(table, marks)
    every = settings(table, marks)
    picture, axes = panels(
        4, columns=4, width=2.6, height=1.2 + (0.24 + 0.06 * len(every)) * len(names), extra_width=3.0, sharey=True
    )
    for panel, metric in zip(axes, metrics, strict=True):
        for index, (key, rows) in enumerate(every):
            aside = DODGE * ((len(every) - 1) / 2 - index)
            for _, row in rows.iterrows():
                dot(panel, row, metric, place[row[LABEL]] + aside, looks[key])
        numeric_axis(panel, "x", metric, [])
        if metric != "gain_pct":
            from_zero(panel, "x")
    axes[0].axvline(0.0, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)))
    axes[0].set_xlabel(f"Throughput against {ALONE} (%)")
    axes[0].set_yticks(list(place.values()), list(place))
    axes[0].set_ylim(-0.6, len(names) - 0.4)
    legend_outside(picture, marks, {key: look for key, look in looks.items() if key})
    footnote(picture, "bar: 95 % confidence interval over seeds" if int(table["runs"].max()) > 1 else "")
    return picture


@figure(
    "Tokens that a running request holds (P2)",
    needs=(LABEL, "scheduler", "kv_use_mean_pct", "kv_capacity_tokens", "running_mean", "preempted_requests_pct",
           "throughput_requests_per_s", "workload.output.kind", "workload.prompt.mean_tokens"),
    varies=(LABEL, "scheduler"),
    named_points=True,
    studies=("continuous_occupancy",),
)  # fmt: skip
def continuous_occupancy(frame: pd.DataFrame) -> Figure:
    """KV cache of a running request for distributions of outputs with one mean, and what Algorithm 1 makes of it.

    Grey, on the left, is what theory says for independent lengths: E[in] + E[out^2] / (2 E[out]). Dotted is mean prompt
    + output, which Algorithm 1 counts for each request.
    """
    held = frame["kv_use_mean_pct"] / 100 * frame["kv_capacity_tokens"] / frame["running_mean"]
    frame = frame.assign(held_tokens=held, overloaded=False, queue_climbing=False)  # all requests come at once
    metrics = ("held_tokens", "running_mean", "kv_use_mean_pct", "preempted_requests_pct", "throughput_requests_per_s")
    table = means(frame, ["scheduler", LABEL], metrics)
    names = in_order(frame)
    looks = looks_of(table, ["scheduler"])
    picture, axes = panels(5, columns=5, width=2.3, height=2.4, extra_width=2.4, sharey=True)
    for panel, metric in zip(axes, metrics, strict=True):
        for index, (key, rows) in enumerate(settings(table, ["scheduler"])):
            for _, row in rows.iterrows():
                dot(panel, row, metric, len(names) - 1 - names.index(row[LABEL]) - DODGE * index, looks[key])
        numeric_axis(panel, "x", metric, [])
        from_zero(panel, "x")
    axes[0].set_xlabel("Tokens held by a running request")
    for name, rows in frame.groupby(LABEL):
        mean, square = _output_moments(rows.iloc[0])
        prompt, place = float(rows["workload.prompt.mean_tokens"].iloc[0]), len(names) - 1 - names.index(str(name))
        axes[0].plot([prompt + square / (2 * mean)] * 2, [place - 0.35, place + 0.25], color=GREY, linewidth=2.5)
        axes[0].plot([prompt + mean] * 2, [place - 0.35, place + 0.25], color=GREY, linestyle=(0, (1, 1)))
    axes[0].set_yticks(range(len(names)), names[::-1])
    axes[0].set_ylim(-0.6, len(names) - 0.4)
    legend_outside(picture, ["scheduler"], looks)
    footnote(picture, "bar: 95 % confidence interval over seeds" if int(table["runs"].max()) > 1 else "")
    return picture


@figure(
    "Load within a token SLA under continuous batching (P2)",
    needs=(LABEL, RATE, "execution.prefill", "tbt_mean_ms", "tbt_p99_ms", "latency_mean_s", "sla.token_ms"),
    varies=(LABEL, RATE),
    named_points=True,
    studies=("continuous_token_sla",),
)
def continuous_token_sla(frame: pd.DataFrame) -> Figure:
    """Time between tokens and latency over the arrival rate, prompts computed whole (above) or in chunks (below).

    The legend gives the capacity (whole / chunked). Capacity is the highest rate of the sweep without a growing queue
    whose mean time between tokens is within the SLA (dashed).
    """
    metrics = ("tbt_mean_ms", "tbt_p99_ms", "latency_mean_s")
    kinds = [kind for kind in ("first", "chunked") if kind in set(frame["execution.prefill"])]
    table = means(frame, ["execution.prefill", LABEL, RATE], metrics)
    looks = looks_of(table, [LABEL])
    looks = {(name,): looks[(name,)] for name in in_order(frame)}
    carried = [capacities(frame[frame["execution.prefill"] == kind], [LABEL]) for kind in kinds]
    names = {
        key: f"{key[0]}: {' / '.join(f'{found.get(key, 0.0):g}' for found in carried)} requests/s" for key in looks
    }
    picture, axes = panels(3 * len(kinds), columns=3, width=3.1, height=2.7, extra_width=2.8)
    for row, kind in enumerate(kinds):
        part = table[table["execution.prefill"] == kind]
        for panel, metric in zip(axes[3 * row : 3 * row + 3], metrics, strict=True):
            draw_lines(panel, part, RATE, metric, [LABEL], looks)
            numeric_axis(panel, "x", RATE, [])
            numeric_axis(panel, "y", metric, [])
            panel.set_title("prompts whole" if kind == "first" else "prompts in chunks")
            if metric.startswith("tbt"):
                for target in sorted({*frame["sla.token_ms"].dropna()}):
                    panel.axhline(target, color=GREY, linewidth=1.0, linestyle=(0, (4, 2)))
            _within(panel, part, metric)
    legend_outside(picture, [LABEL], looks, names=names)
    footnote(picture, "dashed: token SLA", *usual_notes(table))
    return picture


@figure(
    "Token budget of chunked prefill",
    needs=(LABEL, RATE, BUDGET, "execution.prefill", "tbt_p99_ms", "token_sla_violation_pct", "ttft_p99_s",
           "latency_p95_s"),
    varies=(BUDGET,),
    named_points=True,
    studies=("chunk_budget",),
)  # fmt: skip
def chunk_budget(frame: pd.DataFrame) -> Figure:
    """Time between tokens and time to the first token over the token budget, a line for each arrival rate.

    Dotted lines show the same with prompts computed whole.
    """
    metrics = ("tbt_p99_ms", "token_sla_violation_pct", "ttft_p99_s", "latency_p95_s")
    chunked = means(frame[frame["execution.prefill"] == "chunked"], [RATE, BUDGET], metrics)
    whole = means(frame[frame["execution.prefill"] == "first"], [RATE], metrics)
    looks = looks_of(chunked, [RATE])
    picture, axes = panels(4, columns=4, width=2.7, height=2.9, extra_width=1.4)
    for panel, metric in zip(axes, metrics, strict=True):
        draw_lines(panel, chunked, BUDGET, metric, [RATE], looks)
        for _, row in whole.iterrows():
            panel.axhline(row[metric], color=looks[(row[RATE],)].color, linewidth=1.0, linestyle=(0, (1, 1.5)))
        numeric_axis(panel, "x", BUDGET, chunked[BUDGET])
        panel.tick_params(axis="x", labelsize=7, labelrotation=30)
        numeric_axis(panel, "y", metric, [])
        if metric == "token_sla_violation_pct":
            from_zero(panel)
        else:
            log_axis(panel)
    legend_outside(picture, [RATE], looks, names={key: setting_label([RATE], key) for key in looks})
    footnote(picture, "dotted: prompts computed whole", *usual_notes(chunked))
    return picture


def _output_moments(row: pd.Series) -> tuple[float, float]:
    """Return mean and mean square of the outputs of a synthetic workload, before rounding to tokens."""
    kind, mean = row["workload.output.kind"], float(row["workload.output.mean_tokens"])
    if kind == "constant":
        mean = float(row["workload.output.value_tokens"])
        return mean, mean**2
    if kind == "uniform":
        low, high = float(row["workload.output.low_tokens"]), float(row["workload.output.high_tokens"])
        return (low + high) / 2, ((low + high) / 2) ** 2 + ((high - low + 1) ** 2 - 1) / 12
    return mean, mean**2 * (2.0 if kind == "exponential" else math.exp(float(row["workload.output.sigma"]) ** 2))


def _within(panel: Axes, table: pd.DataFrame, metric: str) -> None:
    """End the axis not far above what settings without a growing queue reach."""
    from_zero(panel)
    stable = table[~table["growing"]][metric]
    if len(stable):
        panel.set_ylim(0, 1.6 * float(stable.max()))
