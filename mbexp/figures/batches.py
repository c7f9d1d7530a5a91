"""Inside a run, batch by batch: the controller's search, padding by bin, and what ran on which GPU when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mbexp.figures.aggregate import settings
from mbexp.figures.labels import label_line_ends
from mbexp.figures.lines import footnote, from_zero, share_labels
from mbexp.figures.registry import figure
from mbexp.figures.style import BLACK, BLUE, GREY, SKY, VERMILLION, ordered, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POINTS = 1500
MOST_BINS = 4
ANY_BIN = -1  # of a run of iterations on a GPU that serves every bin
TIMELINE_GPUS = 16
TIMELINE_BATCHES_PER_GPU = 8
TIMELINE_INCHES = 5.2  # about how wide the axes are, for whether a number fits into a bar


@figure(
    "Batch size of the SLA controller",
    table="batches",
    needs=(
        "run",
        "label",
        "bin",
        "start_s",
        "size",
        "b_sla",
        "controller_low",
        "controller_high",
        "sla.token_ms",
        "gpu.law.kind",
        "gpu.law.c0_ms",
        "gpu.law.c1_ms",
    ),
    one_run_for_each=("study.label", "scheduler"),
    where=("scheduler.batch_size", "dynamic"),
)
def controller_trajectory(frame: pd.DataFrame) -> Figure:
    """The limit b_SLA that Algorithm 2 sets (line), the interval it searches (band) and the batches formed (dots).

    A panel for each of up to four bins. Dots below the line are batches for which no more requests waited, or no more
    fitted into memory.
    """
    parts = [
        (str(label), int(which), rows)
        for label, run in frame.groupby("label", sort=False)
        for which, rows in _some(list(run.groupby("bin", sort=True)), MOST_BINS)
    ]
    picture, axes = panels(len(parts), columns=2, height=2.2, sharey=True)
    for panel, (label, which, rows) in zip(axes, parts, strict=True):
        every = max(1, len(rows) // MOST_POINTS)
        rows = rows.iloc[::every]
        time = rows["start_s"].to_numpy()
        panel.fill_between(
            time, rows["controller_low"], rows["controller_high"], step="post", color=SKY, alpha=0.35, linewidth=0
        )
        panel.plot(time, rows["size"], ".", color=VERMILLION, markersize=5, alpha=0.7, markeredgewidth=0)
        panel.plot(time, rows["b_sla"], drawstyle="steps-post", color=BLUE)
        bound = _target_batch(rows.iloc[0])
        if bound is not None:
            panel.axhline(bound, color=BLACK, linewidth=0.9, linestyle=(0, (4, 2)))
        bins = frame[frame["label"] == label]["bin"].nunique()
        panel.set_title(f"{label}, bin {which + 1} of {bins}" if bins > 1 else label)
        panel.set_xlabel("Time (s)")
        panel.set_ylabel("Batch size (requests)")
    for panel in axes:
        from_zero(panel)
        panel.set_xlim(0, float(frame["start_s"].max()))
    share_labels(axes)
    has_target = any(_target_batch(rows.iloc[0]) is not None for _, _, rows in parts)
    footnote(
        picture,
        "line: limit b_SLA; band: interval of the search; dots: batches formed",
        "dashed: the batch whose step takes exactly the token SLA" if has_target else "",
        str(frame.attrs.get("note", "")),
    )
    return picture


def _some(values: list[Any], count: int) -> list[Any]:
    """Return at most `count` of the values, evenly spread, first and last among them."""
    if len(values) <= count:
        return values
    return [values[round(place * (len(values) - 1) / (count - 1))] for place in range(count)]


def _target_batch(row: pd.Series) -> float | None:
    """Return the real batch size at which the token SLA binds under the linear law; None under another."""
    from mbexp.theory.dynamic_batching import LinearStep

    if row["gpu.law.kind"] != "linear" or row["sla.token_ms"] <= row["gpu.law.c0_ms"]:
        return None
    return LinearStep(float(row["gpu.law.c0_ms"]), float(row["gpu.law.c1_ms"])).batch_within(float(row["sla.token_ms"]))


@figure(
    "Padding waste by bin and K",
    table="batches",
    needs=(
        "run",
        "k_bins",
        "bin",
        "size",
        "longest_tokens",
        "total_tokens",
        "longest_output_tokens",
        "total_output_tokens",
        "gpu.law.length",
    ),
    varies=("k_bins",),
    one_run_for_each=("k_bins",),
)
def padding_by_bin(frame: pd.DataFrame) -> Figure:
    """Share of a batch's slots that wait for its longest member, bin by bin, from the shortest requests to the longest.

    Each bin is as wide as its share of the requests. Each K has a line, with the waste over all bins beside it.
    """
    waste = {k: _padding(rows) for (k,), rows in settings(frame, ["k_bins"])}
    looks = ordered(list(waste))
    picture, (axes,) = panels(1, extra_width=0.5)
    ends, colors = {}, {}
    for k, bins in waste.items():
        edges = [0.0, *bins["share_pct"].cumsum()]
        values = [*bins["waste_pct"], bins["waste_pct"].iloc[-1]]
        axes.plot(edges, values, drawstyle="steps-post", **looks[k].plain)
        name = f"K = {k}: {bins.attrs['overall_pct']:.0f} % in all"
        ends[name], colors[name] = (100.0, float(values[-1])), looks[k].color
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_xlabel("Requests, from the shortest predicted to the longest (%)")
    axes.set_ylabel("Padding waste (%)")
    label_line_ends(axes, ends, colors)
    footnote(picture, str(frame.attrs.get("note", "")))
    return picture


def _padding(rows: pd.DataFrame) -> pd.DataFrame:
    """Return share of requests and padding waste of each bin, and over all as ``attrs["overall_pct"]``."""
    which = "" if rows["gpu.law.length"].iloc[0] == "prompt_plus_output" else "output_"
    used = rows[f"total_{which}tokens"].groupby(rows["bin"]).sum()
    slots = (rows["size"].astype("int64") * rows[f"longest_{which}tokens"]).groupby(rows["bin"]).sum()
    requests = rows["size"].groupby(rows["bin"]).sum()
    table = (100 * (1 - used / slots)).rename("waste_pct").to_frame()
    table["share_pct"] = 100 * requests / requests.sum()
    table.attrs["overall_pct"] = 100 * (1 - used.sum() / slots.sum())
    return table


@figure(
    "What ran where, when",
    table="batches",
    needs=("run", "label", "gpu", "bin", "start_s", "finish_s", "size"),
    one_run_for_each=("study.label", "scheduler"),
)
def gpu_timeline(frame: pd.DataFrame) -> Figure:
    """Batches on GPUs over a stretch of time, coloured by bin from short requests (pale) to long (dark).

    Without bins, batches are grey. A bar is a batch, and the number in it counts its requests. Under continuous
    batching, a bar is a run of similar iterations. Blank is idle time. `python -m mbexp.figures FOLDER --chrome-trace`
    writes the whole run for ui.perfetto.dev or chrome://tracing.
    """
    runs = list(frame.groupby("label", sort=False))
    rows_of = [min(int(run["gpu"].max()) + 1, TIMELINE_GPUS) for _, run in runs]
    height = 0.9 + 0.22 * max(rows_of)
    picture, axes = panels(len(runs), columns=1, width=7.0, height=height, extra_width=0.9)
    bins = sorted({int(which) for which in frame["bin"]} - {ANY_BIN})
    colors = {which: look.color for which, look in ordered(bins).items()} | {ANY_BIN: GREY}
    for panel, (label, run), gpus in zip(axes, runs, rows_of, strict=True):
        has_bins = run["bin"].nunique() > 1
        _draw_timeline(panel, run, gpus, colors if has_bins else dict.fromkeys(colors, GREY))
        panel.set_title(str(label))
    if len(bins) > 1:
        from matplotlib.patches import Patch

        handles = [Patch(color=colors[which], label=f"bin {which + 1}") for which in bins]
        picture.legend(handles=handles[:32], loc="outside right upper", ncols=1 + len(bins) // 16)
    most = int(frame["gpu"].max()) + 1
    footnote(
        picture,
        f"the first {TIMELINE_GPUS} of {most} GPUs" if most > TIMELINE_GPUS else "",
        str(frame.attrs.get("note", "")),
    )
    return picture


def _draw_timeline(panel: Axes, run: pd.DataFrame, gpus: int, colors: dict[int, str]) -> None:
    shown = run[run["gpu"] < gpus]
    began, ended = float(run["start_s"].min()), float(run["finish_s"].max())
    # a stretch from the middle of the run, short enough for its batches to be seen
    mean_s = float((shown["finish_s"] - shown["start_s"]).mean())
    length = min(ended - began, TIMELINE_BATCHES_PER_GPU * mean_s)
    left = began + (ended - began - length) / 2
    right = left + length
    shown = shown[(shown["finish_s"] > left) & (shown["start_s"] < right)]
    columns = [shown[name].tolist() for name in ("gpu", "bin", "size", "start_s", "finish_s")]
    for gpu, which, size, start, finish in zip(*columns, strict=True):
        panel.barh(gpu, finish - start, left=start, height=0.82, color=colors[which], edgecolor="white", linewidth=0.5)
        seen_from, seen_to = max(start, left), min(finish, right)
        text = str(size)
        if TIMELINE_INCHES * (seen_to - seen_from) / length > 0.075 * len(text) + 0.04:
            middle = (seen_from + seen_to) / 2
            panel.text(middle, gpu, text, color="white", fontsize=6.5, ha="center", va="center", clip_on=True)
    panel.set_xlim(left, right)
    panel.set_ylim(gpus - 0.4, -0.6)
    panel.set_yticks(range(0, gpus, 1 if gpus <= 8 else 2))
    panel.grid(False, axis="y")
    panel.set_xlabel("Time (s)")
    panel.set_ylabel("GPU")
    panel.tick_params(axis="y", color=GREY)
