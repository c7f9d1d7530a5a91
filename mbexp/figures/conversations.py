"""Figures of conversations: prefix caches and the routers that know them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mbexp.figures.aggregate import means
from mbexp.figures.continuous import LABEL, in_order
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
from mbexp.figures.style import panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CAPACITY = "gpu.kv_capacity_tokens"
USERS = "workload.arrivals.users"
SCALING = "workload.rate_scaling"
METRICS = ("ttft_p95_s", "prefill_time_pct", "goodput_requests_per_s")


@figure(
    "Routers that know caches, under continuous batching",
    needs=(LABEL, "execution.prefix_cache", CAPACITY, USERS, *METRICS),
    varies=(LABEL, CAPACITY),
    named_points=True,
    studies=("prefix_routing",),
)
def prefix_routing(frame: pd.DataFrame) -> Figure:
    """Time to the first token, busy time in prefills and goodput over the number of users, for two memories.

    A router that knows which GPU has a conversation in its cache saves prefills, as long as memory holds the
    conversations. The saving ends where memory is too small, or where one GPU gets the turns of many users while other
    GPUs wait.
    """
    return _over(frame, USERS)


@figure(
    "Routers that know caches on the Mooncake trace, under continuous batching",
    needs=(LABEL, "execution.prefix_cache", CAPACITY, SCALING, *METRICS),
    varies=(LABEL, CAPACITY, SCALING),
    named_points=True,
    studies=("prefix_mooncake",),
)
def prefix_mooncake(frame: pd.DataFrame) -> Figure:
    """Time to the first token, busy time in prefills and goodput over the load, for two memories, on real prompts.

    Prompts are long and share less than conversations do: routers save fewer prefills. One that looks at the cache
    before the load lets requests queue.
    """
    return _over(frame, SCALING)


def _over(frame: pd.DataFrame, across: str) -> Figure:
    """Draw a row of panels for each memory, over the users or the load."""
    capacities = sorted(frame[CAPACITY].unique())
    table = means(frame, [LABEL, CAPACITY, across], list(METRICS))
    looks = looks_of(frame, [LABEL])
    looks = {(name,): looks[(name,)] for name in in_order(frame)}
    picture, axes = panels(3 * len(capacities), columns=3, width=3.0, height=2.6, extra_width=2.2)
    for row, capacity in enumerate(capacities):
        part = table[table[CAPACITY] == capacity]
        for panel, metric in zip(axes[3 * row : 3 * row + 3], METRICS, strict=True):
            draw_lines(panel, part, across, metric, [LABEL], looks)
            numeric_axis(panel, "x", across, [])
            numeric_axis(panel, "y", metric, [])
            if metric == "ttft_p95_s":
                log_axis(panel)
                panel.set_title(f"{capacity:,.0f} tokens of KV cache a GPU", fontsize="small", loc="left")
            else:
                from_zero(panel)
    legend_outside(picture, [LABEL], looks)
    footnote(picture, *usual_notes(table))
    return picture
