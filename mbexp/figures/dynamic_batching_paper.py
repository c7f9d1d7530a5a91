"""Figures of P2 (Pang et al., arXiv 2503.05248): the decode step, and the load that a token SLA allows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mbexp.figures.aggregate import means, queue_grows, settings, swept
from mbexp.figures.labels import axis_label, setting_label
from mbexp.figures.lines import (
    draw_lines,
    footnote,
    from_zero,
    legend_outside,
    looks_of,
    numeric_axis,
    usual_notes,
)
from mbexp.figures.multi_bin_paper import draw_points, interval_note
from mbexp.figures.registry import figure
from mbexp.figures.style import BLUE, GREY, VERMILLION, Look, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BATCH = "scheduler.fixed_batch_size"
RATE = "workload.arrivals.rate_per_s"
PAPER_TARGETS_MS = (50.0, 80.0)


@figure(
    "Decode step and throughput against batch size (P2, Fig. 3)",
    needs=(
        BATCH,
        "tbt_mean_ms",
        "throughput_tokens_per_s",
        "num_gpus",
        "gpu.law.kind",
        "gpu.law.c0_ms",
        "gpu.law.c1_ms",
    ),
    varies=(BATCH,),
    studies=("decode_step",),
)
def decode_step(frame: pd.DataFrame) -> Figure:
    """Time between tokens tau(b) = c0 + c1 b and tokens per second b / tau(b) of one GPU, simulated on exact lines.

    A token SLA D allows the batch (D - c0) / c1. The squares mark this batch for 50 and 80 ms.
    """
    import numpy as np

    from mbexp.errors import UserError
    from mbexp.theory.dynamic_batching import LinearStep

    first = frame.iloc[0]
    if first["gpu.law.kind"] != "linear":
        raise UserError("figure decode_step: needs gpu.law.kind=linear")
    step = LinearStep(float(first["gpu.law.c0_ms"]), float(first["gpu.law.c1_ms"]))
    per_gpu = frame.assign(tokens_per_s_of_one_gpu=frame["throughput_tokens_per_s"] / frame["num_gpus"])
    table = means(per_gpu, [BATCH], ["tbt_mean_ms", "tokens_per_s_of_one_gpu"])
    targets = [target for target in PAPER_TARGETS_MS if target > step.fixed_ms]
    most = max(float(table[BATCH].max()), *(1.05 * step.batch_within(target) for target in targets))
    at = np.linspace(1, most, 200)
    picture, axes = panels(2, width=3.8, height=3.4)
    exact = (step.step_ms, step.tokens_per_s)
    columns = ("tbt_mean_ms", "tokens_per_s_of_one_gpu")
    titles = ("Mean time between tokens (ms)", "Throughput of one GPU (tokens/s)")
    for panel, curve, column, title in zip(axes, exact, columns, titles, strict=True):
        panel.plot(at, [curve(b) for b in at], color=BLUE, linewidth=1.3)
        draw_points(panel, table, BATCH, column, Look(BLUE, "-", "o"))
        for target in targets:
            batch = step.batch_within(target)
            panel.plot(batch, curve(batch), "s", color=VERMILLION, markersize=7, markerfacecolor="none", mew=1.6)
            panel.vlines(batch, 0, curve(batch), color=GREY, linewidth=0.9, linestyle=(0, (4, 2)))
        panel.set_xlabel(axis_label(BATCH))
        panel.set_ylabel(title)
        panel.set_xlim(0, most)
        from_zero(panel)
    points = [
        f"D = {target:g} ms: b = {step.batch_within(target):.1f}, {step.tokens_per_s_within(target):,.0f} tokens/s"
        for target in targets
    ]
    footnote(
        picture,
        "line: exact; points: simulated; squares: what a token SLA D allows",
        *points,
        interval_note(frame, [BATCH]),
    )
    return picture


@figure(
    "Load within a token SLA, static against dynamic (P2)",
    needs=(
        "scheduler",
        RATE,
        "tbt_mean_ms",
        "latency_mean_s",
        "throughput_requests_per_s",
        "sla.token_ms",
        "overloaded",
    ),
    varies=("scheduler", RATE),
    studies=("token_sla_capacity",),
)
def token_sla_capacity(frame: pd.DataFrame) -> Figure:
    """Time between tokens, and latency, over the arrival rate. The legend gives the capacity of each setting.

    Capacity is the highest rate of the sweep without a growing queue whose mean time between tokens is within the SLA
    (dashed). A fixed batch that is too small is overloaded early. A fixed batch that is too large breaks the SLA.
    """
    series = ["scheduler", *[name for name in swept(frame, leave_out=[RATE]) if name != "scheduler"]]
    series = ["study.label"] if "study.label" in series else series
    table = means(frame, [*series, RATE], ["tbt_mean_ms", "latency_mean_s"])
    looks = looks_of(table, series)
    capacity = capacities(frame, series)
    picture, axes = panels(2, width=3.8, height=3.5, extra_width=2.8)
    for panel, metric in zip(axes, ("tbt_mean_ms", "latency_mean_s"), strict=True):
        draw_lines(panel, table, RATE, metric, series, looks)
        numeric_axis(panel, "x", RATE, [])
        numeric_axis(panel, "y", metric, [])
        from_zero(panel)
        panel.set_xlim(left=0)
    for target in sorted({*frame["sla.token_ms"].dropna()}):
        axes[0].axhline(target, color=GREY, linewidth=1.0, linestyle=(0, (4, 2)))
    stable = table[~table["growing"]]["latency_mean_s"]
    if len(stable):
        axes[1].set_ylim(0, 3 * float(stable.max()))
    legend_outside(
        picture,
        series,
        looks,
        names={key: f"{setting_label(series, key)}: carries {rate:g} requests/s" for key, rate in capacity.items()},
    )
    footnote(picture, "dashed: token SLA", *usual_notes(table))
    return picture


def capacities(frame: pd.DataFrame, series: list[str]) -> dict[tuple[object, ...], float]:
    """Return for each setting the highest arrival rate carried by every seed within the token SLA; 0 for none."""
    found = {}
    for key, rows in settings(frame, series):
        good = ~queue_grows(rows) & (rows["tbt_mean_ms"] <= rows["sla.token_ms"].astype(float).fillna(math.inf))
        rates = [rate for (rate,), _ in settings(rows, [RATE]) if good[rows[RATE] == rate].all()]
        found[key] = float(max(rates, default=0.0))
    return found
