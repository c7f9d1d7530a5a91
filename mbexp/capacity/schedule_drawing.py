"""The figure of a schedule: traffic and GPUs over time, with the fixed fleet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mbexp.capacity.drawing import looks
from mbexp.capacity.judge import PASS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_schedule(answers: Sequence[Mapping[str, Any]]) -> Figure:
    """Return a figure with the arrival rate and the GPUs of each interval, a line for each choice.

    Parameters
    ----------
    answers
        As ``answer.json`` holds them, of ``find=schedule``.
    """
    from matplotlib.ticker import MaxNLocator

    from mbexp.figures.lines import footnote, legend_outside
    from mbexp.figures.style import GREY, panels, styled

    chosen = looks(answers)
    failing = False
    with styled():
        picture, (traffic, gpus) = panels(2, columns=1)
        for answer, look in zip(answers, chosen.values(), strict=True):
            intervals = answer["intervals"]
            edges = [each["start_h"] for each in intervals] + [intervals[-1]["start_h"] + intervals[-1]["length_h"]]
            for panel, key in ((traffic, "rate_per_s"), (gpus, "num_gpus")):
                panel.stairs([each[key] for each in intervals], edges, baseline=None, color=look.color, linewidth=1.6)
            gpus.axhline(answer["num_gpus"], color=look.color, linewidth=1.0, linestyle=(0, (4, 2)), gid="fixed")
            for each in intervals:
                if each["verdict"] not in (PASS, None):
                    failing = True
                    middle = each["start_h"] + each["length_h"] / 2
                    gpus.plot(middle, each["num_gpus"], "x", color=look.color, markersize=6, clip_on=False)
        traffic.set_ylabel("Arrival rate (requests/s)")
        gpus.set_ylabel("GPUs")
        gpus.set_xlabel("Time since the first request (h)")
        for panel in (traffic, gpus):
            panel.set_ylim(bottom=0)
        gpus.yaxis.set_major_locator(MaxNLocator(integer=True))
        gpus.set_ylim(0, 1.12 * max(answer["num_gpus"] for answer in answers))
        if len(chosen) > 1:
            legend_outside(picture, [], chosen, {key: key[0] for key in chosen})
        else:
            for line in gpus.lines:
                if line.get_gid() == "fixed":
                    line.set_color(GREY)
        footnote(
            picture,
            "dashed: the fixed fleet, as many as the peak needs",
            "cross: an interval that fails its targets when it is simulated alone" if failing else "",
        )
    return picture
