"""The figures of a stored answer: each target over the numbers that were tried, and price against the first target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mbexp.capacity.judge import PASS
from mbexp.results.targets import Target, parse

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOG_SPAN = 8.0  # values that span this factor get a logarithmic axis
RATE = "workload.arrivals.rate_per_s"


def draw_targets(answers: Sequence[Mapping[str, Any]]) -> Figure:
    """Return a figure with a panel for each target and a line for each choice.

    Parameters
    ----------
    answers
        As ``answer.json`` holds them; all of one question.
    """
    from mbexp.figures.lines import footnote, legend_outside, log_axis, numeric_axis
    from mbexp.figures.style import panels, styled

    targets = _targets(answers[0])
    x = "num_gpus" if answers[0]["find"] == "gpus" else RATE
    chosen = looks(answers)
    with styled():
        picture, axes = panels(len(targets), columns=2)
        for panel, target in zip(axes, targets, strict=True):
            for answer, look in zip(answers, chosen.values(), strict=True):
                _line(panel, answer, target, look)
            _limit(panel, target)
            numeric_axis(panel, "x", x, [place for answer in answers for place in numbers(answer)])
            numeric_axis(panel, "y", target.metric, [])
            _scale(panel, [*_shown(answers, target.metric), target.bound], log_axis)
        if len(chosen) > 1:
            legend_outside(picture, [], chosen, {key: key[0] for key in chosen})
        notes = [
            "ring: the answer; filled: all targets pass; hollow: they fail or are undecided",
            "dashed: the limit",
        ]
        halves = [half for each in answers for half in _column(each, f"{targets[0].metric}_half_width")]
        if any(map(math.isfinite, halves)):
            notes.append("band: the one-sided bounds that the verdict rests on")
        if any(answer["low"] < answer["high"] for answer in answers):
            notes.append("upright strip: the range in which the answer lies")
        footnote(picture, *notes)
    return picture


def draw_price(answers: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Return price per hour against the first target's metric; None where no cards or schedulers are to choose from.

    With ``find=gpus`` every number of GPUs that was tried is a point, with ``find=rate`` every choice.
    """
    import textwrap

    from mbexp.figures.labels import axis_label
    from mbexp.figures.lines import footnote, legend_outside, log_axis
    from mbexp.figures.style import GREY, panels, styled

    known = [answer for answer in answers if answer["price_per_hour"] is not None]
    groups = {key.partition(".")[0] for answer in answers for key in answer.get("choices", {})}
    if len(known) < 2 or not groups & {"gpu", "scheduler"}:
        return None
    if known[0]["find"] == "rate" and len({answer["price_per_hour"] for answer in known}) == 1:
        return None  # one price: points above each other say nothing of it
    target = _targets(known[0])[0]
    chosen = looks(known)
    every = []
    with styled():
        picture, (panel,) = panels(1)
        for answer, look in zip(known, chosen.values(), strict=True):
            points = priced_probes(answer, target.metric)
            every += points
            panel.plot(*zip(*points, strict=True), **{**look.points, "alpha": 0.55})
            price, value = float(answer["price_per_hour"]), _at_answer(answer, target)
            panel.plot(price, value, "o", markersize=11, markerfacecolor="none", color=look.color, clip_on=False)
        front = pareto(every, target.at_most)
        panel.plot(*zip(*front, strict=True), color=GREY, linewidth=1.0, drawstyle="steps-post", zorder=1)
        _limit(panel, target)
        panel.set_xlabel("Price ($ per hour)")
        panel.set_ylabel(textwrap.fill(axis_label(target.metric), 24))
        _scale(panel, [*(value for _, value in every), target.bound], log_axis)
        prices = [price for price, _ in every]
        if min(prices) > 0 and max(prices) / min(prices) >= LOG_SPAN:
            log_axis(panel, "x")
        legend_outside(picture, [], chosen, {key: key[0] for key in chosen})
        left = len(answers) - len(known)
        footnote(
            picture,
            "ring: the cheapest that meets all targets" if known[0]["find"] == "gpus" else "ring: at the highest rate",
            "grey: none is both cheaper and better; dashed: the limit",
            f"{left} without gpu.price_per_hour left out" if left else "",
        )
    return picture


def priced_probes(answer: Mapping[str, Any], metric: str) -> list[tuple[float, float]]:
    """Return ($ per hour, metric) of every number of GPUs that was tried, or of the answer at ``find=rate``."""
    if answer["find"] == "rate":
        return [(float(answer["price_per_hour"]), _at_answer(answer, next(iter(_targets(answer)))))]
    each = float(answer["price_per_hour"]) / answer["num_gpus"]
    pairs = zip(numbers(answer), _column(answer, metric), strict=True)
    return [(each * number, value) for number, value in pairs if math.isfinite(value)]


def pareto(points: Sequence[tuple[float, float]], lower: bool) -> list[tuple[float, float]]:
    """Return the points that no other beats in price and value at once, cheapest first.

    Parameters
    ----------
    points
        (price, value); a lower price is better.
    lower : bool
        Whether a lower value is better.
    """
    sign = 1.0 if lower else -1.0
    front: list[tuple[float, float]] = []
    for price, value in sorted(points, key=lambda point: (point[0], sign * point[1])):
        if not front or sign * value < sign * front[-1][1]:
            front.append((price, value))
    return front


def numbers(answer: Mapping[str, Any]) -> list[float]:
    """Return what was tried: numbers of GPUs, or arrival rates in requests/s."""
    key = "number" if answer["find"] == "gpus" else "arrival_rate_per_s"
    return [float(probe[key]) for probe in answer["probes"]]


def _targets(answer: Mapping[str, Any]) -> list[Target]:
    return [parse(text) for text in answer["targets"]]


def _column(answer: Mapping[str, Any], key: str) -> list[float]:
    return [math.nan if probe[key] is None else float(probe[key]) for probe in answer["probes"]]


def _shown(answers: Sequence[Mapping[str, Any]], metric: str) -> list[float]:
    """Return all that stands on a panel: means, and the upper ends of bands."""
    found = []
    for answer in answers:
        for mean, half in zip(_column(answer, metric), _column(answer, f"{metric}_half_width"), strict=True):
            found += [value for value in (mean, mean + half) if math.isfinite(value)]
    return found


def _at_answer(answer: Mapping[str, Any], target: Target) -> float:
    return float(answer[str(target)])


def looks(answers: Sequence[Mapping[str, Any]]) -> dict[tuple[str], Any]:
    """Return a look for each choice, by the words that tell it from the others."""
    from mbexp.figures.style import categorical

    values = [answer.get("choices", {}).values() for answer in answers]
    names = [", ".join(map(str, each)) or str(place) for place, each in enumerate(values)]
    return {(name,): look for name, look in categorical(names).items()}


def _line(panel: Axes, answer: Mapping[str, Any], target: Target, look: Any) -> None:
    """Draw a target's metric over what was tried, with its band; ring the answer's sure end and shade its range."""
    places, means = numbers(answer), _column(answer, target.metric)
    halves = _column(answer, f"{target.metric}_half_width")
    passes = [probe["verdict"] == PASS for probe in answer["probes"]]
    order = sorted(range(len(places)), key=lambda index: places[index])
    panel.plot([places[i] for i in order], [means[i] for i in order], **look.plain)
    banded = [i for i in order if math.isfinite(means[i]) and math.isfinite(halves[i])]
    if banded:
        lowest = [max(means[i] - halves[i], 0.0 if means[i] <= 0 else 0.1 * means[i]) for i in banded]
        highest = [means[i] + halves[i] for i in banded]
        panel.fill_between([places[i] for i in banded], lowest, highest, color=look.color, alpha=0.2, linewidth=0)
    for place, mean, good in zip(places, means, passes, strict=True):
        face = look.color if good else "white"
        panel.plot(
            place, mean, marker=look.marker, color=look.color, markerfacecolor=face, markeredgecolor=look.color,
            markeredgewidth=1.1,
        )  # fmt: skip
    at = answer["num_gpus"] if answer["find"] == "gpus" else answer["rate_per_s"]
    value = _at_answer(answer, target)
    if answer["low"] < answer["high"]:
        panel.axvspan(answer["low"], answer["high"], color=look.color, alpha=0.12, linewidth=0)
    panel.plot(at, value, marker="o", markersize=11, markerfacecolor="none", color=look.color, clip_on=False)


def _limit(panel: Axes, target: Target) -> None:
    """Draw a target's bound as a line, and say it above."""
    from mbexp.figures.style import GREY
    from mbexp.results.catalogue.metric import unit_of_name

    panel.axhline(target.bound, color=GREY, linewidth=1.2, linestyle=(0, (4, 2)), gid="limit")
    unit = unit_of_name(target.metric)
    words = "at most" if target.at_most else "at least"
    panel.set_title(f"limit: {words} {target.bound:g} {unit or ''}".rstrip())


def _scale(panel: Axes, values: Sequence[float], log_axis: Any) -> None:
    """Let the vertical axis show every value: from zero, or logarithmic where they span much."""
    low, high = min(values), max(values)
    if low > 0 and high / low >= LOG_SPAN:
        panel.set_yscale("log")
        panel.set_ylim(low / 1.6, high * 1.6)
        log_axis(panel)
    else:
        panel.set_ylim(min(0.0, low), 1.12 * high if high > 0 else 1.0)
