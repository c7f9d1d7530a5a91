"""The residual figure: the relative error of every point, one panel a law."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mbexp.figures.lines import log_axis
from mbexp.figures.style import panels, with_style
from mbexp.fit.points import Points
from mbexp.fit.robust import Fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = {"prefill": "^", "decode": "s", "static": "o"}
NOT_FITTED = 0.45  # opacity
WORDS = {"prefill": "prefill", "decode": "decode step", "static": "static batch"}


@with_style
def residual_figure(fits: list[Fit], points: Points) -> Figure:
    """Return a figure of predicted / given time - 1 against the given time; colour is the batch size."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm
    from matplotlib.lines import Line2D

    figure, axes = panels(len(fits), extra_width=0.9)
    norm = LogNorm(max(0.5, points.batch_size.min()), max(2.0, points.batch_size.max()))
    seen = set()
    for panel, fit in zip(axes, fits, strict=True):
        for phase, marker in MARKERS.items():
            here = (points.phase == phase) & np.isfinite(fit.residual_pct)
            for fitted in (True, False):
                rows = here & (fit.rows == fitted)
                if rows.any():
                    seen.add((phase, fitted))
                    panel.scatter(
                        points.seconds[rows],
                        fit.residual_pct[rows],
                        s=20,
                        marker=marker,
                        alpha=1.0 if fitted else NOT_FITTED,
                        c=points.batch_size[rows],
                        cmap="viridis",
                        norm=norm,
                    )
        panel.axhline(0, color="0.3", linewidth=0.8)
        log_axis(panel, "x")
        shown = np.abs(fit.residual_pct[np.isfinite(fit.residual_pct)])
        limit = max(5.0, 1.15 * float(shown.max()))
        panel.set_ylim(-limit, limit)
        panel.set_title(f"{fit.form.kind}: median {np.median(shown):.1f} %, worst {shown.max():.1f} %")
        panel.set_xlabel("time of the point (s)")
    axes[0].set_ylabel("predicted / given time - 1 (%)")
    handles = [
        Line2D([], [], color="0.35", marker=MARKERS[phase], linestyle="", alpha=1.0 if fitted else NOT_FITTED,
               label=WORDS[phase] + ("" if fitted else " (not fitted)"))
        for phase, fitted in sorted(seen, reverse=True)
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    bar = figure.colorbar(ScalarMappable(norm, "viridis"), ax=axes, label="batch size")
    sizes = np.unique(points.batch_size)
    bar.set_ticks(sizes.tolist(), labels=[f"{size:g}" for size in sizes])
    bar.minorticks_off()
    return figure
