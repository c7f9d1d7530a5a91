"""The list of figures, and what every figure of it has to be."""

from __future__ import annotations

import functools
import hashlib
import math
import re
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mbexp.errors import UserError
from mbexp.figures import draw, figure_names
from mbexp.figures.gallery import INTRODUCTION
from mbexp.figures.labels import value_label
from mbexp.figures.registry import _FOUND, figure, figures, find_figure
from mbexp.figures.study import StoredStudy
from mbexp.figures.style import styled, to_bytes
from tests import ROOT
from tests.figures.figure_studies import compared, loads, methods, saturated, scaling

STUDIES = {
    "method_comparison": methods,
    "gpu_scaling": scaling,
    "compare": compared,
    "grid_search": loads,
    "multi_bin_throughput": saturated,
}
DRAWN = {
    "gpu_scaling": [
        "throughput_against_gpus",
        "violation_against_gpus",
        "latency_against_throughput",
        "sensitivity_to_bins",
        "sensitivity_to_gpus",
        "sensitivity_across_seeds",
        "padding_by_bin",
    ],
    "compare": [
        "schedulers_at_equal_gpus",
        "controller_trajectory",
        "gpu_timeline",
        "latency_cdf",
        "queue_length",
    ],
    "grid_search": ["violation_against_gpus", "sensitivity_to_requests"],
    "method_comparison": ["methods_side_by_side"],
    "multi_bin_throughput": ["multi_bin_throughput"],
}
CASES = [(study, name) for study, names in DRAWN.items() for name in names]
WITHOUT_UNIT = ("Bins K", "GPU", "GPUs", "Requests", "Requests waiting", "Seed", "Prediction error p")


@functools.cache
def drawn(study: str, name: str) -> Figure:
    picture = draw(name, STUDIES[study]())
    with styled():
        FigureCanvasAgg(picture).draw()
    return picture


@pytest.mark.parametrize(("study", "name"), CASES)
def test_a_figure_can_be_read(study: str, name: str) -> None:
    picture = drawn(study, name)
    page = picture.bbox
    for axes in picture.axes:
        for axis in (axes.xaxis, axes.yaxis):
            label = axis.label.get_text()
            shown = any(tick.get_visible() and tick.get_text() for tick in axis.get_ticklabels())
            rows_have_names = axis is axes.yaxis and not label and axis.get_ticklabels()
            shared = axis is axes.yaxis and not axes.get_subplotspec().is_first_col()
            assert label or rows_have_names or shared, f"an axis without a label in {name}"
            if label:
                assert shown or shared, f"{label}: no number at its axis"
                assert re.search(r"\(.+\)$", label) or label in WITHOUT_UNIT, f"{label}: no unit"
        box = axes.get_tightbbox()
        assert min(box.x0 - page.x0, page.x1 - box.x1) > -1, f"{name}: cut off at a side"
        assert min(box.y0 - page.y0, page.y1 - box.y1) > -1, f"{name}: cut off above or below"


@pytest.mark.parametrize(("study", "name"), CASES)
def test_no_legend_hides_data(study: str, name: str) -> None:
    picture = drawn(study, name)
    legends = [*picture.legends, *[axes.get_legend() for axes in picture.axes if axes.get_legend()]]
    for legend in legends:
        for axes in picture.axes:
            assert not overlap(legend.get_window_extent(), axes.patch.get_window_extent()), f"{name}: legend over data"
    named = [text for axes in picture.axes for text in axes.texts if text.get_position()[0] > 1.0]
    boxes = [text.get_window_extent() for text in named]
    for place, box in enumerate(boxes):
        assert not any(overlap(box, other) for other in boxes[place + 1 :]), f"{name}: names over one another"


def overlap(first: matplotlib.transforms.Bbox, second: matplotlib.transforms.Bbox, slack: float = 0.5) -> bool:
    wide = min(first.x1, second.x1) - max(first.x0, second.x0)
    high = min(first.y1, second.y1) - max(first.y0, second.y0)
    return wide > slack and high > slack


def test_every_figure_of_the_issue_is_on_the_list() -> None:
    wanted = {
        "throughput_against_gpus",
        "violation_against_gpus",
        "latency_against_throughput",
        "schedulers_at_equal_gpus",
        "methods_side_by_side",
        "sensitivity_to_bins",
        "sensitivity_to_gpus",
        "sensitivity_to_requests",
        "sensitivity_across_seeds",
        "controller_trajectory",
        "padding_by_bin",
        "gpu_timeline",
        "latency_cdf",
        "queue_length",
        "multi_bin_throughput",
        "multi_bin_latency",
        "multi_bin_servers",
        "multi_bin_prediction_error",
        "multi_bin_exponential",
        "decode_step",
        "token_sla_capacity",
    }
    assert wanted <= set(figure_names())


def test_every_figure_says_what_it_shows() -> None:
    for spec in figures().values():
        assert spec.title
        assert len(spec.caption) > 60
        assert spec.caption.endswith(".")


def test_the_gallery_says_of_a_figure_what_its_function_says() -> None:
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    shown = [spec for spec in figures().values() if f"### {spec.title}\n" in page]
    assert len(shown) == page.count("\n### ") > 20
    for spec in shown:
        text = page.partition(f"### {spec.title}\n")[2].partition("![")[0]
        assert " ".join(text.split()) == spec.caption


def test_a_new_figure_is_one_function() -> None:
    @figure("Twice as much", needs=("value",))
    def twice(frame: pd.DataFrame) -> Figure:
        """Draw the value, twice."""
        picture = Figure()
        picture.add_subplot().plot(2 * frame["value"])
        return picture

    try:
        picture = draw("twice", pd.DataFrame({"value": [1, 2]}))
        assert picture.axes[0].lines[0].get_ydata().tolist() == [2, 4]
        assert find_figure("twice").caption == "Draw the value, twice."
    finally:
        del _FOUND["twice"]


def test_the_new_figure_that_the_gallery_shows_works() -> None:
    example = re.search(r"```python\n(.*?)```", INTRODUCTION, re.DOTALL)
    assert example
    from mbexp.figures import scaling as family

    try:
        exec(example.group(1), {"figure": figure, "lines_over": family.lines_over, "pd": pd, "Figure": Figure})
        (axes,) = draw("goodput_against_gpus", scaling()).axes
        assert axes.get_ylabel() == "Goodput (requests/s)"
    finally:
        _FOUND.pop("goodput_against_gpus", None)


def test_mistakes_are_one_line() -> None:
    with pytest.raises(UserError, match=r"figure=latency_cfd: no such choice \(did you mean 'latency_cdf'\?\)"):
        draw("latency_cfd", pd.DataFrame())
    with pytest.raises(UserError, match=r"figure latency_cdf: the frame lacks .*finish_s"):
        draw("latency_cdf", pd.DataFrame({"run": []}))
    with pytest.raises(UserError, match="the frame has no row"):
        draw("throughput_against_gpus", pd.DataFrame({"num_gpus": [], "throughput_requests_per_s": []}))
    with pytest.raises(UserError, match=r"padding_by_bin: not of .*compare: k_bins does not vary"):
        draw("padding_by_bin", compared())


def test_the_same_results_give_the_same_bytes_in_another_process() -> None:
    picture = draw("violation_against_gpus", scaling())
    code = (
        "import sys, hashlib; from mbexp.figures import draw; from mbexp.figures.style import to_bytes\n"
        f"figure = draw('violation_against_gpus', {str(scaling())!r})\n"
        "print(*[hashlib.sha256(to_bytes(figure, kind)).hexdigest() for kind in ('pdf', 'png', 'svg')])\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    here = [hashlib.sha256(to_bytes(picture, kind)).hexdigest() for kind in ("pdf", "png", "svg")]
    command = [sys.executable, "-W", "error", "-c", code]
    there = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"})
    assert there.stdout.split() == here


def test_a_users_own_settings_change_nothing() -> None:
    before = to_bytes(draw("latency_against_throughput", scaling()), "png")
    with matplotlib.rc_context({"font.size": 30.0, "lines.linewidth": 9.0, "savefig.dpi": 20}):
        assert to_bytes(draw("latency_against_throughput", scaling()), "png") == before
        assert matplotlib.rcParams["font.size"] == 30.0


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys; from mbexp.figures.__main__ import parser; parser().format_help()\n"
        "import mbexp.report.__main__\n"
        "heavy = {'matplotlib', 'pandas', 'numpy', 'numba', 'pyarrow', 'jinja2', 'hydra'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_notebook_shows_a_figure_by_itself() -> None:
    from mbexp import simulate

    results = [simulate(num_requests=100, scheduler=name) for name in ("static_fifo", "multi_bin_dynamic")]
    picture = draw("latency_cdf", results)
    assert picture._repr_png_().startswith(b"\x89PNG")
    (axes,) = picture.axes
    lines = [line for line in axes.lines if len(line.get_xdata()) > 2]
    for line, result in zip(lines, results, strict=True):
        latency = result.requests["finish_s"] - result.requests["arrival_s"]
        assert line.get_xdata()[-1] == latency.max()
        assert np.interp(50, line.get_ydata(), line.get_xdata()) == pytest.approx(latency.median(), rel=0.02)


def test_results_that_do_not_suit_a_figure_are_one_line() -> None:
    from mbexp import simulate

    with pytest.raises(UserError, match="figure latency_cdf: no result was given"):
        draw("latency_cdf", [])
    fixed = simulate(num_requests=50, scheduler="static_fifo")
    with pytest.raises(UserError, match=r"no result has scheduler\.batch_size=dynamic"):
        draw("controller_trajectory", [fixed])


@pytest.mark.parametrize(
    ("column", "value", "label"),
    [
        ("k_bins", 8, "K = 8"), ("num_gpus", 1, "1 GPU"), ("gpu.count", 1200, "1,200 GPUs"),
        ("num_requests", 1_500_000, "1.5M requests"), ("num_requests", 1234, "1,234 requests"),
        ("workload.rate_scaling", 0.5, "0.5x the trace's rate"),
        ("workload.arrivals.rate_per_s", 3.25, "3.25 requests/s"),
        ("study.label", "mine", "mine"), ("seed", 3, "seed 3"), ("scheduler", "static_fifo", "static_fifo"),
        ("workload.kind", "azure", "azure"), ("scheduler.fill", "full", "full"),
        ("k_bins", math.nan, "K = -"),
    ],
)  # fmt: skip
def test_a_value_is_shown_with_what_it_is_of(column: str, value: object, label: str) -> None:
    assert value_label(column, value) == label


def test_a_single_stored_run_has_figures_too() -> None:
    folder = compared()
    run = str(StoredStudy(folder).results["run"].iloc[0])
    names = [spec.name for spec in StoredStudy(folder / run).drawable()]
    assert {"gpu_timeline", "latency_cdf", "queue_length"} <= set(names)
    assert isinstance(draw("latency_cdf", folder / run).axes[0], Axes)
