"""The figure of a comparison: each request's simulated value against the engine's, and the distributions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mbexp.compare_engine.compare import Comparison
from mbexp.figures.lines import log_axis
from mbexp.figures.style import GREY, categorical, panels, with_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORDS = {"ttft_s": "TTFT (s)", "tpot_ms": "TPOT (ms)", "latency_s": "end to end (s)"}


@with_style
def comparison_figure(comparison: Comparison) -> Figure:
    """Return a figure of two rows: a point a request above, distribution functions below; a column a quantity."""
    engine, simulated = comparison.engine.per_request(), comparison.mbexp.per_request()
    shown = [metric for metric in WORDS if len(engine[metric])]
    figure, axes = panels(2 * len(shown), columns=len(shown))
    looks = categorical(["engine", "mbexp"])
    for column, metric in enumerate(shown):
        points, shares = axes[column], axes[column + len(shown)]
        points.scatter(engine[metric], simulated[metric], s=9, alpha=0.6, color=looks["mbexp"].color, linewidth=0)
        every = np.concatenate([engine[metric], simulated[metric]])
        above = every[every > 0]
        span = (0.9 * above.min(), 1.1 * above.max()) if len(above) else (0.1, 1.0)
        points.plot(span, span, color=GREY, linewidth=0.8)
        points.set(xlim=span, ylim=span)
        if span[1] > 20 * span[0]:
            log_axis(points, "x")
            log_axis(points, "y")
        mean = comparison.error_pct(metric, "mean")
        points.set_title(f"mean {mean:+.1f} %, p99 {comparison.error_pct(metric, 'p99'):+.1f} %")
        points.set(xlabel=f"{WORDS[metric]}, engine", ylabel=f"{WORDS[metric]}, mbexp")
        for name, values in (("engine", engine[metric]), ("mbexp", simulated[metric])):
            share = np.arange(1, len(values) + 1) / len(values)
            look = looks[name]
            shares.plot(np.sort(values), share, color=look.color, linestyle=look.dash, label=name)
        shares.set(xlabel=WORDS[metric], ylabel="share of requests", ylim=(0, 1))
    axes[len(shown)].legend()
    return figure
