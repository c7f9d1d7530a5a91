"""Inside a run, request by request: the distribution of latency, and how many wait at each moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mbexp.figures.lines import footnote, from_zero, log_axis, place_legend
from mbexp.figures.registry import figure
from mbexp.figures.style import GREY, Look, categorical, ordered, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

POINTS = 800


def looks_of_runs(frame: pd.DataFrame) -> dict[str, Look]:
    """Return a look for each run's label: that of its scheduler where these differ, else shades in order."""
    labels = list(dict.fromkeys(frame["label"]))
    first = frame.drop_duplicates("label").set_index("label")
    if "scheduler" in first and first["scheduler"].nunique() == len(labels):
        by_scheduler = categorical(list(first["scheduler"]))
        return {label: by_scheduler[first["scheduler"][label]] for label in labels}
    numbered = len(labels) > 1 and all(any(letter.isdigit() for letter in label) for label in labels)
    return ordered(labels) if numbered else categorical(labels)


def legend_of_runs(picture: Figure, looks: dict[str, Look]) -> None:
    """Put the runs' names to the right of the figure."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **look.plain, label=label) for label, look in looks.items()]
    place_legend(picture, handles)


@figure(
    "Distribution of latency",
    table="requests",
    needs=("run", "label", "arrival_s", "finish_s", "sla.request_s"),
    one_run_for_each=("study.label", "scheduler", "k_bins", "num_gpus"),
)
def latency_cdf(frame: pd.DataFrame) -> Figure:
    """Share of requests that are done within a time, from arrival to the last token. The dashed line is the SLA.

    The distance from where a line crosses the SLA up to 100 % is the violation. Further left is better.
    """
    import numpy as np

    looks = looks_of_runs(frame)
    picture, (axes,) = panels(1, extra_width=1.7)
    shares = np.linspace(0, 1, POINTS)
    for label, look in looks.items():
        run = frame[frame["label"] == label]
        latency = (run["finish_s"] - run["arrival_s"]).dropna().to_numpy()
        if len(latency):
            axes.plot(np.quantile(latency, shares), 100 * shares, **look.plain)
    log_axis(axes, "x")
    axes.set_ylim(0, 101)
    axes.set_xlabel("Latency (s)")
    axes.set_ylabel("Requests done within it (%)")
    limits = sorted({*frame["sla.request_s"].dropna()})
    for sla in limits:
        axes.axvline(sla, color=GREY, linewidth=1.0, linestyle=(0, (4, 2)))
    legend_of_runs(picture, looks)
    target = ", ".join(f"{sla:g} s" for sla in limits)
    footnote(picture, f"dashed: request SLA, {target}" if limits else "", str(frame.attrs.get("note", "")))
    return picture


@figure(
    "Requests waiting over time",
    table="requests",
    needs=("run", "label", "arrival_s", "start_s"),
    one_run_for_each=("study.label", "scheduler", "k_bins", "num_gpus"),
)
def queue_length(frame: pd.DataFrame) -> Figure:
    """Requests that have arrived and not yet started, over time.

    A line that climbs as long as requests arrive shows an overloaded system.
    """
    import numpy as np

    looks = looks_of_runs(frame)
    picture, (axes,) = panels(1, extra_width=1.7)
    for label, look in looks.items():
        run = frame[(frame["label"] == label) & frame["start_s"].notna()]
        if run.empty:
            continue
        arrivals, starts = np.sort(run["arrival_s"].to_numpy()), np.sort(run["start_s"].to_numpy())
        times = np.linspace(0, max(arrivals[-1], starts[-1]), POINTS)
        waiting = np.searchsorted(arrivals, times, "right") - np.searchsorted(starts, times, "right")
        axes.plot(times, waiting, **look.plain, linewidth=1.2)
    last = float(frame["arrival_s"].max())
    axes.axvline(last, color=GREY, linewidth=1.0, linestyle=(0, (4, 2)))
    from_zero(axes)
    axes.set_xlim(left=0)
    axes.set_xlabel("Time (s)")
    axes.set_ylabel("Requests waiting")
    legend_of_runs(picture, looks)
    footnote(picture, "dashed: the last arrival", str(frame.attrs.get("note", "")))
    return picture
