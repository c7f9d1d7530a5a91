"""The figure of a replay: batch times by the law against those of the GPU, and latencies simulated and replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mbexp.figures.lines import log_axis
from mbexp.figures.style import GREY, categorical, panels, with_style
from mbexp.replay.compare import Comparison, latencies_s

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@with_style
def replay_figure(comparisons: list[Comparison]) -> Figure:
    """Return a figure of two panels; a scheduler keeps its colour in both."""
    from matplotlib.lines import Line2D

    looks = categorical([each.scheduler for each in comparisons])
    figure, (times, latencies) = panels(2, width=3.6, height=3.2)
    for each in comparisons:
        look = looks[each.scheduler]
        times.plot(each.measured_s, each.predicted_s, **look.points, alpha=0.7, label=each.scheduler)
        for records, dash in ((each.simulated, "--"), (each.replayed, "-")):
            sorted_s = np.sort(latencies_s(records))
            share = np.arange(1, len(sorted_s) + 1) / len(sorted_s)
            latencies.plot(sorted_s, share, color=look.color, linestyle=dash)
    every = np.concatenate([np.concatenate([each.measured_s, each.predicted_s]) for each in comparisons])
    span = [0.8 * every.min(), 1.25 * every.max()]
    times.plot(span, span, color=GREY, linewidth=0.8)
    times.set(xlim=span, ylim=span)
    log_axis(times, "x")
    log_axis(times, "y")
    times.set(xlabel="time of a batch on the device (s)", ylabel="by the law (s)")
    latencies.set(xlabel="latency (s)", ylabel="share of requests", ylim=(0, 1))
    latencies.set_xlim(left=0)
    times.legend()
    latencies.legend(
        handles=[
            Line2D([], [], color="0.3", linestyle="-", label="replayed"),
            Line2D([], [], color="0.3", linestyle="--", label="simulated"),
        ],
        loc="lower right",
    )
    return figure
