"""What the figures of an answer show, beside the numbers that answer.json holds."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

from mbexp.capacity.drawing import draw_price, draw_targets, pareto, priced_probes
from mbexp.capacity.pictures import write_figures
from mbexp.figures._page import Page, on_page


def stored(find: str = "gpus", half: float | None = 0.25, price: float | None = 6.0, **choices: Any) -> dict[str, Any]:
    """An answer of 3 GPUs, or of 6 requests/s, as the file holds it."""
    probes = []
    for number, ttft_s, good in ((1, 8.0, 20.0), (2, 2.0, 80.0), (3, 0.5, 99.0), (4, 0.25, 100.0)):
        passes = (number >= 3) == (find == "gpus")
        probes.append(
            {
                "number": number,
                "verdict": "pass" if passes else "fail",
                "ttft_p99_s": ttft_s,
                "ttft_p99_s_half_width": half,
                "goodput_pct": good,
                "goodput_pct_half_width": half,
                "arrival_rate_per_s": 2.0 * number,
            }
        )
    return {
        **choices,
        "choices": choices,
        "find": find,
        "num_gpus": 3,
        "low": 3.0 if find == "gpus" else 6.0,
        "high": 3.0 if find == "gpus" else 6.0,
        "rate_per_s": 6.0,
        "price_per_hour": price,
        "targets": ["ttft_p99_s<=1", "goodput_pct>=90"],
        "ttft_p99_s<=1": 0.5,
        "goodput_pct>=90": 99.0,
        "probes": probes,
    }


@pytest.mark.parametrize(("find", "places"), [("gpus", [1, 2, 3, 4]), ("rate", [2, 4, 6, 8])])
@pytest.mark.parametrize("width", [None, 3.35])
def test_a_panel_holds_metric_band_limit_and_answer(find: str, places: list[int], width: float | None) -> None:
    with on_page(Page(width_inches=width)):
        figure = draw_targets([stored(find)])
    figure.canvas.draw()
    assert width is None or figure.get_size_inches()[0] == width
    assert len(figure.axes) == 2
    truths = [([8.0, 2.0, 0.5, 0.25], 1.0, 0.5), ([20.0, 80.0, 99.0, 100.0], 90.0, 99.0)]
    for panel, (means, bound, value) in zip(figure.axes, truths, strict=True):
        curve = panel.lines[0]
        assert np.asarray(curve.get_xdata()).tolist() == places
        assert np.asarray(curve.get_ydata()).tolist() == means
        (band,) = panel.collections
        edges = np.asarray(band.get_paths()[0].vertices)
        upper = [max(y for x, y in edges if x == place) for place in places]
        assert upper == pytest.approx(np.array(means) + 0.25)
        (limit,) = [line for line in panel.lines if line.get_gid() == "limit"]
        assert {*np.asarray(limit.get_ydata()).tolist()} == {bound}
        (ring,) = [line for line in panel.lines if line.get_markersize() == 11]
        assert np.asarray(ring.get_xydata()).tolist() == [[places[2], value]]
        marks = [line for line in panel.lines[1:] if np.size(line.get_xdata()) == 1 and line is not ring]
        filled = [to_hex(mark.get_markerfacecolor()) != "#ffffff" for mark in marks]
        assert filled == ([False, False, True, True] if find == "gpus" else [True, True, False, False])
        low, high = panel.get_ylim()
        assert low <= min(means)
        assert high >= max(means)


def test_a_range_is_a_strip_and_the_limit_has_its_unit() -> None:
    sure, unsure = draw_targets([stored()]), draw_targets([stored() | {"low": 2.0}])
    assert [panel.get_title() for panel in sure.axes] == ["limit: at most 1 s", "limit: at least 90 %"]
    for before, after in zip(sure.axes, unsure.axes, strict=True):
        assert not before.patches
        (strip,) = after.patches
        box = strip.get_window_extent().transformed(after.transData.inverted())
        assert (box.x0, box.x1) == pytest.approx((2.0, 3.0))


def test_one_trace_has_no_band() -> None:
    figure = draw_targets([stored(half=None)])
    assert not any(panel.collections for panel in figure.axes)


@pytest.mark.parametrize("lower", [True, False])
def test_the_front_is_that_of_every_pair_compared(lower: bool) -> None:
    draw = random.Random(3)
    points = [(float(draw.randrange(12)), float(draw.randrange(12))) for _ in range(40)]
    sign = 1 if lower else -1
    beaten = {
        one
        for one, other in itertools.product(points, points)
        if one != other and other[0] <= one[0] and sign * other[1] <= sign * one[1]
    }
    assert pareto(points, lower) == sorted({*points} - beaten)


def test_price_stands_against_the_first_target() -> None:
    cheap, dear = stored(gpu="a", price=3.0), stored(gpu="b", price=12.0)
    assert priced_probes(cheap, "ttft_p99_s") == [(1.0, 8.0), (2.0, 2.0), (3.0, 0.5), (4.0, 0.25)]
    assert priced_probes(dear | {"find": "rate"}, "ttft_p99_s") == [(12.0, 0.5)]
    figure = draw_price([cheap, dear])
    assert figure is not None
    (panel,) = figure.axes
    rings = [np.asarray(line.get_xydata()).tolist() for line in panel.lines if line.get_markersize() == 11]
    assert rings == [[[3.0, 0.5]], [[12.0, 0.5]]]
    assert draw_price([cheap, stored(gpu="b", price=None)]) is None
    assert draw_price([stored(seed=1), stored(seed=2)]) is None
    assert draw_price([cheap]) is None
    rates = [stored("rate", gpu="a"), stored("rate", gpu="b")]
    assert draw_price(rates) is None
    assert draw_price([rates[0], rates[1] | {"price_per_hour": 7.0}]) is not None


def test_files_stand_beside_the_answer_and_old_ones_go(tmp_path: Path) -> None:
    several = [stored(gpu="a"), stored(gpu="b", price=1.0)]
    (tmp_path / "answer.json").write_text(json.dumps(several))
    assert [path.name for path in write_figures(tmp_path)] == ["capacity.png", "capacity_price.png"]
    (tmp_path / "answer.json").write_text(json.dumps(stored()))
    assert [path.name for path in write_figures(tmp_path)] == ["capacity.png"]
    assert (tmp_path / "capacity.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "capacity_price.png").exists()
