"""Figures over whatever was swept: what they show, what they refuse, and a layout that holds on a paper's column."""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from mbexp.errors import UserError
from mbexp.figures import registry
from mbexp.figures.__main__ import main
from mbexp.figures._page import Page, inches, on_page
from mbexp.figures._plots import PLOTS, Asked, plot
from mbexp.figures.drawing import find_study
from mbexp.figures.lines import interval_of
from mbexp.figures.registry import find_figure
from mbexp.figures.study import StoredStudy
from tests.figures.figure_studies import ROOT, grid, store_study

RULES = ("first_formed", "shortest_bin", "round_robin", "longest_queue", "oldest_head")
RATE, RULE, SIZE = "workload.arrivals.rate_per_s", "scheduler.selection", "scheduler.fixed_batch_size"
FIXED = {"workload": "synthetic", "scheduler": "multi_bin_static", "num_gpus": 2, "num_requests": 120}


@functools.cache
def study(batch_sizes: int) -> StoredStudy:
    """Return a study of 5 rules, 2 rates and some batch sizes, three seeds each."""
    points = grid(
        workload__arrivals__rate_per_s=(2, 20), scheduler__selection=RULES,
        **({"scheduler__fixed_batch_size": tuple(2**power for power in range(batch_sizes))} if batch_sizes > 1 else {}),
    )  # fmt: skip
    return find_study(store_study(ROOT, f"rules_{batch_sizes}", points, (0, 1, 2), **FIXED))


def texts(figure: Figure) -> Iterator[tuple[Text, tuple[float, float, float, float]]]:
    """Return every text that is shown, with its box in inches."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "axes sizes collapsed to zero"
        figure.draw(renderer)
    hidden = set()
    for axis in (each for axes in figure.axes for each in (axes.xaxis, axes.yaxis)):
        drawn = {id(tick) for tick in axis._update_ticks()}  # ticks out of view keep their texts
        hidden |= {
            id(text)
            for tick in (*axis.majorTicks, *axis.minorTicks)
            for text in (tick.label1, tick.label2)
            if id(tick) not in drawn
        }
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text.get_visible() and text.get_text().strip() and id(text) not in hidden:
            shown = text.get_window_extent(renderer)
            yield text, tuple(value / figure.dpi for value in shown.extents)  # type: ignore[misc]


def check_layout(figure: Figure, width: float | None = None) -> None:
    """Check that texts lie on the page and on no other text, and that panels have a size to be read."""
    boxes = list(texts(figure))
    wide, high = figure.get_size_inches()
    if width is not None:
        assert wide == pytest.approx(width)
    for text, (left, low, right, top) in boxes:
        assert min(left, low) > -0.02, text.get_text()
        assert right < wide + 0.02, text.get_text()
        assert top < high + 0.02, text.get_text()
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        across, up = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        assert across < 0.02 or up < 0.02, f"{one.get_text()!r} over {other.get_text()!r}"
    for axes in figure.axes:
        place = axes.get_position()
        if axes.get_label() != "<colorbar>":
            assert place.width * wide > 0.9, "a panel is too narrow"
            assert place.height * high > 0.9, "a panel is too low"


@pytest.mark.parametrize("width", [3.35, 7.0, None])
@pytest.mark.parametrize("kind", list(PLOTS))
def test_each_kind_holds_at_a_columns_width(kind: str, width: float | None) -> None:
    asked = Asked(
        kind, by=(RULE,), x=None if kind == "pareto" else RATE if kind in ("lines", "heatmap", "bars") else None
    )
    with on_page(Page(width)):
        check_layout(plot(study(1), asked), width)


@pytest.mark.parametrize("width", [3.35, None])
@pytest.mark.parametrize("batch_sizes", [1, 3])
@pytest.mark.parametrize("name", ["latency_against_throughput", "sensitivity_across_seeds", "latency_cdf"])
def test_figures_hold_at_ten_and_at_thirty_settings(name: str, batch_sizes: int, width: float | None) -> None:
    spec = find_figure(name)
    with on_page(Page(width)):
        check_layout(spec(study(batch_sizes).frame(spec, any_study=True)), width)


def test_every_setting_and_every_rule_is_shown() -> None:
    seeds = find_figure("sensitivity_across_seeds")
    frame = study(3).frame(seeds)
    wide = seeds(frame)
    assert len(wide.axes[0].get_yticks()) == 30
    assert len(wide.axes) == 3
    with on_page(Page(3.35)):
        narrow = seeds(frame)
    names = {label.get_text().replace("\n", " ") for label in narrow.axes[0].get_yticklabels()}
    assert len(names) == 30
    assert "20 requests/s, shortest_bin, Fixed batch size 4" in names
    assert not any(label.get_text().splitlines()[-1].isdecimal() for label in narrow.axes[0].get_yticklabels())
    assert narrow.get_size_inches()[1] < 11, "longer than a page"
    assert "no room on this page for" in " ".join(text.get_text() for text in narrow.findobj(Text))

    cdf = find_figure("latency_cdf")
    assert set(study(3).frame(cdf)["label"]) == set(RULES)


def test_lines_show_the_means_over_seeds() -> None:
    figure = plot(study(1), Asked("lines", RATE, ("latency_mean_s",), (RULE,)))
    table = study(1).results
    shown = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines if line.get_label() in RULES}

    assert set(shown) == set(RULES)
    for rule, values in shown.items():
        expected = [table[(table[RULE] == rule) & (table[RATE] == rate)]["latency_mean_s"].mean() for rate in (2, 20)]
        assert np.asarray(values, dtype=float) == pytest.approx(expected)


def test_a_pareto_front_holds_what_nothing_beats() -> None:
    figure = plot(study(1), Asked("pareto", y=("latency_p95_s",), by=(RULE,)))
    front = next(line for line in figure.axes[0].lines if line.get_color() == "#444444")
    table = study(1).results.groupby([RULE, RATE])[["throughput_requests_per_s", "latency_p95_s"]].mean().to_numpy()
    expected = {
        tuple(one) for one in table
        if not any(other[0] >= one[0] and other[1] <= one[1] and tuple(other) != tuple(one) for other in table)
    }  # fmt: skip
    assert {*zip(*front.get_data(), strict=True)} == expected  # type: ignore[arg-type]


def test_a_legend_shows_what_the_panels_do() -> None:
    bars = plot(study(3), Asked("bars", RATE, ("latency_mean_s",), (RULE, SIZE)))
    drawn = [(bar.get_facecolor(), bar.get_hatch()) for bar in bars.axes[0].patches[:15]]
    (legend,) = bars.legends
    assert [(each.get_facecolor(), each.get_hatch()) for each in legend.get_patches()] == drawn
    assert len({*drawn}) == 15

    shares = plot(study(1), Asked("distribution", y=("latency_mean_s",), by=(RULE,)))
    for line in (line for axes in shares.axes for line in axes.lines if len(line.get_xdata()) > 2):
        assert (line.get_ydata()[0], line.get_ydata()[-1]) == (0, 100)


def test_bands_end_where_a_metric_does() -> None:
    rows = pd.DataFrame({
        "request_sla_violation_pct": [2.0, 98.0], "request_sla_violation_pct_half_width": [5.0, 5.0],
        "latency_p95_s": [1.0, 9.0], "latency_p95_s_half_width": [3.0, 3.0],
    })  # fmt: skip
    low, high = interval_of(rows, "request_sla_violation_pct")
    assert (list(low), list(high)) == ([0.0, 93.0], [7.0, 100.0])
    low, high = interval_of(rows, "latency_p95_s")
    assert (list(low), list(high)) == ([0.0, 6.0], [4.0, 12.0])


def test_lengths_are_read_in_the_units_of_papers() -> None:
    assert inches("--width", "3.35in") == 3.35
    assert inches("--width", "8.5cm") == pytest.approx(8.5 / 2.54)
    assert inches("--width", "241.14749pt") == pytest.approx(3.3367, abs=1e-4)  # \\columnwidth of IEEEtran: 252pt
    for text in ("wide", "0.2in", "90in", "3 ft"):
        with pytest.raises(UserError, match="--width="):
            inches("--width", text)


def test_the_command_takes_size_style_notes_and_figures_of_a_users_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_FOUND", registry.figures())  # forgotten again at the end
    (tmp_path / "my.mplstyle").write_text("font.size: 6\naxes.labelsize: 6\n")
    (tmp_path / "my_figures.py").write_text(
        "from mbexp.figures.registry import figure\nfrom mbexp.figures.style import panels\n\n"
        "@figure('Runs', needs=('latency_mean_s',))\ndef my_runs(frame):\n    'Each run.'\n"
        "    picture, (axes,) = panels(1)\n    axes.plot(frame['latency_mean_s'].to_numpy())\n    return picture\n"
    )
    given = [str(study(1).folder), "--out", str(tmp_path), "--format", "png,pdf", "--width", "3.35in"]
    plain = ["--plot", "lines", "--x", RATE, "--y", "ttft_mean_s", "--by", RULE]
    assert main([*given, *plain]) == 0
    name = f"lines_ttft_mean_s_over_{RATE}"
    with_notes = (tmp_path / f"{name}.png").read_bytes()
    assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF-1")
    assert int.from_bytes(with_notes[16:20], "big") == pytest.approx(3.35 * 150, abs=1)
    assert main([*given, *plain, "--no-footnotes"]) == 0
    without = (tmp_path / f"{name}.png").read_bytes()
    assert main([*given, *plain, "--no-footnotes", "--style", str(tmp_path / "my.mplstyle")]) == 0
    assert len({with_notes, without, (tmp_path / f"{name}.png").read_bytes()}) == 3
    assert main([*given, "--from", str(tmp_path / "my_figures.py"), "--only", "my_runs"]) == 0
    assert (tmp_path / "my_runs.png").is_file()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot", "line"], "--plot=line: no such choice (did you mean 'lines'?)"),
        (["--plot", "lines", "--y", "ttft_p99"], "did you mean 'ttft_p99_s'?"),
        (["--plot", "lines", "--by", "scheduler.selectio"], "did you mean 'scheduler.selection'?"),
        (["--plot", "lines", "--where", f"{RULE}=shortest"], "did you mean 'shortest_bin'?"),
        (["--plot", "lines", "--where", RULE], "not of the form key=value"),
        (["--x", RATE], "--x: goes with --plot"),
        (["--plot", "pareto", "--x", "num_batches"], "neither better nor worse"),
        (["--width", "wide"], "--width=wide: must be a length"),
        (["--style", "missing.mplstyle"], "--style=missing.mplstyle: no such file"),
        (["--from", "missing.py"], "--from=missing.py: no such Python file"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(study(1).folder), *arguments]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
