"""What is on the axes is what is in the table: means, intervals, choices, and what happens inside a run."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from mbexp.figures import draw
from mbexp.figures.aggregate import best_rows, means, records, swept
from mbexp.figures.labels import axis_label, number, setting_label, short_count, spread
from mbexp.figures.lines import short_tick
from mbexp.figures.registry import find_figure
from mbexp.figures.study import StoredStudy
from mbexp.figures.style import CATEGORIES, categorical, ordered
from mbexp.figures.trace_events import trace_events
from mbexp.results.targets import parse
from mbexp.sweep.best import best_configurations
from tests.figures.figure_studies import compared, loads, methods, scaling

T_95_OF_TWO_DEGREES = 4.302652729911275  # Student's t, 97.5 %, 2 degrees of freedom (tables)


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "num_gpus": [1, 1, 1, 2, 2, 2],
            "k_bins": [4] * 6,
            "gpu.count": [1, 1, 1, 2, 2, 2],
            "seed": [0, 1, 2] * 2,
            "throughput_requests_per_s": [1.0, 2.0, 3.0, 4.0, 4.0, 4.0],
            "overloaded": [True, False, False, False, False, False],
        }
    )


def test_means_and_half_widths_over_seeds() -> None:
    rows = means(table(), ["num_gpus"], ["throughput_requests_per_s"])
    assert rows["throughput_requests_per_s"].tolist() == [2.0, 4.0]
    copies = math.nan  # the runs of the second setting are one observation, made three times
    assert rows["throughput_requests_per_s_half_width"].tolist() == pytest.approx(
        [T_95_OF_TWO_DEGREES / math.sqrt(3), copies], nan_ok=True
    )
    assert rows["runs"].tolist() == [3, 3]
    assert rows["growing"].tolist() == [True, False]


def test_a_queue_grows_by_its_load_or_as_seen() -> None:
    seen = table().assign(overloaded=False, queue_climbing=[False] * 5 + [True])
    assert means(seen, ["num_gpus"], ["throughput_requests_per_s"])["growing"].tolist() == [False, True]
    unknown = table().drop(columns="overloaded")
    assert not means(unknown, ["num_gpus"], ["throughput_requests_per_s"])["growing"].any()


def test_one_seed_has_no_interval_and_an_unknown_value_no_mean() -> None:
    frame = table().iloc[[0, 3]].assign(throughput_requests_per_s=[1.0, np.nan])
    rows = means(frame, ["num_gpus"], ["throughput_requests_per_s"])
    assert rows["throughput_requests_per_s"].isna().tolist() == [False, True]
    assert rows["throughput_requests_per_s_half_width"].isna().all()


def test_a_seed_and_a_second_name_for_a_key_are_not_swept_keys() -> None:
    assert swept(table()) == ["num_gpus"]
    assert swept(table(), leave_out=["num_gpus"]) == []
    # `bins` is a group when it holds names, and a metric of an older table when it holds numbers
    assert swept(table().assign(bins=[1, 2, 3, 4, 5, 6])) == ["num_gpus"]
    assert swept(table().assign(bins=["a", "b"] * 3)) == ["num_gpus", "bins"]


def test_the_best_row_of_each_setting() -> None:
    frame = pd.DataFrame({"load": [1, 1, 2, 2], "k_bins": [1, 2, 1, 2], "x_pct": [3.0, 2.0, np.nan, 9.0]})
    assert best_rows(frame, ["load"], "x_pct")["k_bins"].tolist() == [2, 2]
    assert best_rows(frame, [], "x_pct", lowest=False)["k_bins"].tolist() == [2]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.01, 0.2))
def test_labels_keep_their_order_and_their_distance(heights: list[float], gap: float) -> None:
    named = {f"line {place}": height for place, height in enumerate(heights)}
    placed = spread(named, gap)
    order = sorted(named, key=lambda name: named[name])
    values = [placed[name] for name in order]
    assert all(later - earlier >= gap - 1e-9 for earlier, later in itertools.pairwise(values))
    if all(b - a >= gap for a, b in itertools.pairwise(sorted(heights))):
        assert placed == pytest.approx(named)
    assert np.mean(values) == pytest.approx(np.mean(heights))  # moved apart evenly, up as much as down


def test_words_and_numbers() -> None:
    assert axis_label("latency_p95_s") == "95th percentile latency (s)"
    assert axis_label("something_new_ms") == "Something new (ms)"
    assert axis_label("something_new_tokens_per_s") == "Something new (tokens/s)"
    assert setting_label(["k_bins", "num_gpus", "scheduler"], [8, 1, "static_fifo"]) == "K = 8, 1 GPU, static_fifo"
    assert [short_count(value) for value in (500, 10_000, 1_000_000, 1_234)] == ["500", "10k", "1M", "1,234"]
    assert [short_tick(value) for value in (0.05, 8, 1000, 250_000)] == ["0.05", "8", "1k", "250k"]
    assert number(12345.678) == "1.235e+04"


def test_series_differ_in_grey_and_without_colour() -> None:
    for count in range(2, 9):
        looks = list(ordered(list(range(count))).values())
        light = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in (to_rgb(look.color) for look in looks)]
        assert light == sorted(light, reverse=True)
        assert len({look.marker for look in looks}) == count
    names = ["static_fifo", "dynamic_no_bins", "multi_bin_dynamic", "multi_bin_static", "another"]
    looks_by_name = categorical(names)
    assert len({(look.marker, str(look.dash)) for look in looks_by_name.values()}) == len(names)
    assert categorical(["multi_bin_dynamic"])["multi_bin_dynamic"] == looks_by_name["multi_bin_dynamic"]


# Viénot, Brettel and Mollon (1999): how a dichromat sees a colour, on linear RGB
DICHROMATS = {
    "protanope": [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
    "deuteranope": [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
}


@pytest.mark.parametrize("who", DICHROMATS)
def test_colours_stay_apart_for_the_colour_blind(who: str) -> None:
    seen = []
    for color in CATEGORIES[:5]:
        linear = np.array(to_rgb(color)) ** 2.2
        seen.append(np.clip(np.array(DICHROMATS[who]) @ linear, 0, 1) ** (1 / 2.2))
    for place, first in enumerate(seen):
        assert all(np.linalg.norm(first - second) > 0.15 for second in seen[place + 1 :])


def test_lines_and_bands_are_the_table() -> None:
    study = StoredStudy(scaling())
    picture = draw("throughput_against_gpus", scaling())
    expected = means(study.results, ["k_bins", "num_gpus"], ["throughput_requests_per_s"])
    (axes,) = picture.axes
    for k in (1, 4):
        rows = expected[expected["k_bins"] == k]
        line = next(line for line in axes.lines if line.get_label() == f"K = {k}")
        assert line.get_ydata().tolist() == rows["throughput_requests_per_s"].tolist()
    bands = [band.get_paths()[0].vertices[:, 1] for band in axes.collections]
    highest = (expected["throughput_requests_per_s"] + expected["throughput_requests_per_s_half_width"]).max()
    assert max(band.max() for band in bands) == pytest.approx(highest)


def test_hollow_markers_are_the_settings_whose_queue_grows() -> None:
    study = StoredStudy(scaling())
    (axes,) = draw("throughput_against_gpus", scaling()).axes
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    drawn = {(x, y) for line in hollow for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}
    table = means(study.results, ["k_bins", "num_gpus"], ["throughput_requests_per_s"])
    assert table["growing"].nunique() == 2
    bad = table[table["growing"]]
    assert drawn == set(zip(bad["num_gpus"], bad["throughput_requests_per_s"], strict=True))


@pytest.mark.parametrize("folder", [scaling, loads])
def test_the_marked_choice_is_that_of_the_stored_table(folder) -> None:
    study = StoredStudy(folder())
    best = study.table("best")
    (axes,) = draw("violation_against_gpus", folder()).axes
    rings = [line for line in axes.lines if line.get_markersize() == 11]
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    marked = sorted((float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in [*rings, *crosses])
    chosen = sorted(zip(best["num_gpus"].astype(float), best["request_sla_violation_pct"], strict=True))
    assert np.array(marked) == pytest.approx(np.array(chosen))
    assert len(rings) == int(best["meets_target"].sum())
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    for row in best.to_dict("records"):
        assert any(f"{row['num_gpus']} GPU" in text and f"K = {row['k_bins']}" in text for text in words)
    assert "target: 5 %" in words


def test_the_marked_choice_is_judged_by_the_targets_of_the_study() -> None:
    study, spec = StoredStudy(scaling()), find_figure("violation_against_gpus")
    means_of = study.results.groupby(["num_gpus", "k_bins"])["latency_mean_s"].mean()
    frame = study.frame(spec)
    frame.attrs["targets"] = [f"latency_mean_s<={3 * means_of.min()}", "goodput_pct>=0.001"]
    (axes,) = spec(frame).axes
    (ring,) = [line for line in axes.lines if line.get_markersize() == 11]
    frame.attrs["targets"] = []
    (usual,) = spec(frame).axes
    assert axes.get_ylabel() != usual.get_ylabel()
    rows = records(study.results)
    targets = [parse(f"latency_mean_s<={3 * means_of.min()}"), parse("goodput_pct>=0.001")]
    (best,) = best_configurations(rows, ["num_gpus", "k_bins"], 5.0, targets)
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (best["num_gpus"], best["latency_mean_s"])
    assert best["meets_target"]
    assert any(text.get_text().startswith("targets: latency_mean_s<=") for text in axes.get_legend().get_texts())


def test_some_choices_meet_the_target_and_some_do_not() -> None:
    # else the test above would have no ring, or no cross, to look at
    met = [bool(meets) for folder in (scaling, loads) for meets in StoredStudy(folder()).table("best")["meets_target"]]
    assert True in met
    assert False in met


def test_schedulers_are_compared_over_the_same_gpus() -> None:
    rows = StoredStudy(compared()).results
    picture = draw("schedulers_at_equal_gpus", compared())
    for axes, metric in zip(
        picture.axes, ("request_sla_violation_pct", "throughput_requests_per_s", "latency_p95_s"), strict=True
    ):
        for name, part in rows.groupby("scheduler"):
            line = next(line for line in axes.lines if line.get_label() == name)
            assert line.get_xdata().tolist() == [4, 8]
            assert line.get_ydata().tolist() == pytest.approx(part.groupby("num_gpus")[metric].mean().tolist())


def test_named_methods_are_rows_whatever_they_differ_in() -> None:
    study = StoredStudy(methods())
    assert [spec.name for spec in study.drawable() if spec.table == "results"] == ["methods_side_by_side"]
    violation, *_ = draw("methods_side_by_side", methods()).axes
    names = [tick.get_text() for tick in violation.get_yticklabels()]
    assert names[::-1] == ["static, 1 GPU", "binned, 8 GPUs", "static, 8 GPUs"]
    heights = dict(zip(names, violation.get_yticks(), strict=True))
    drawn = {
        (float(line.get_xdata()[0]), float(round(line.get_ydata()[0])))
        for line in violation.lines
        if line.get_marker() != "|"
    }
    rows = study.results
    expected = {
        (row["request_sla_violation_pct"], float(heights[row["study.label"]])) for row in rows.to_dict("records")
    }
    assert len(expected) == 6
    assert expected <= drawn


def test_padding_by_bin_by_hand() -> None:
    frame = pd.DataFrame(
        {
            "run": "a",
            "k_bins": [1, 2, 2],
            "bin": [0, 0, 1],
            "size": [4, 3, 1],
            "longest_tokens": [10, 2, 10],
            "total_tokens": [20, 5, 10],
            "longest_output_tokens": [10, 2, 10],
            "total_output_tokens": [20, 6, 10],
            "gpu.law.length": "prompt_plus_output",
        }
    )
    (axes,) = draw("padding_by_bin", frame).axes
    one, two = axes.lines[:2]
    assert one.get_ydata().tolist() == [50.0, 50.0]  # 20 of 40 slots
    assert two.get_xdata().tolist() == [0.0, 75.0, 100.0]  # three of four requests are in the short bin
    assert two.get_ydata().tolist() == pytest.approx([100 / 6, 0.0, 0.0])  # 5 of 6 slots, then 10 of 10
    assert {text.get_text() for text in axes.texts} == {"K = 1: 50 % in all", "K = 2: 6 % in all"}  # 15 of 16


def test_padding_of_all_bins_is_the_metric_of_the_run() -> None:
    results = StoredStudy(scaling()).results
    (axes,) = draw("padding_by_bin", scaling()).axes
    shown = {int(text.get_text().split()[2].rstrip(":")): text.get_text() for text in axes.texts}
    at = results[(results["num_gpus"] == 4) & (results["seed"] == 0)]
    for row in at.to_dict("records"):
        assert f"{row['padding_waste_pct']:.0f} %" in shown[row["k_bins"]]


def test_requests_waiting_by_hand() -> None:
    frame = pd.DataFrame(
        {
            "run": "a",
            "label": "a",
            "arrival_s": [0.0, 1.0, 2.0],
            "start_s": [0.0, 8.0, np.nan],
            "finish_s": [1, 9, None],
        }
    )
    (axes,) = draw("queue_length", frame).axes
    times, waiting = axes.lines[0].get_data()
    assert waiting[(times > 1) & (times < 8)].tolist() == [1] * int(((times > 1) & (times < 8)).sum())
    assert waiting[(times < 1) | (times >= 8)].max() == 0


def test_the_controllers_limit_is_that_of_the_batches() -> None:
    study = StoredStudy(compared())
    picture = draw("controller_trajectory", compared())
    row = study.results.query("scheduler == 'dynamic_no_bins' and num_gpus == 4 and seed == 0").iloc[0]
    batches = pd.read_parquet(study.run_folder(row["run"]) / "batches.parquet")
    axes = next(axes for axes in picture.axes if axes.get_title() == "dynamic_no_bins")
    line = next(line for line in axes.lines if line.get_drawstyle() == "steps-post")
    assert line.get_ydata().tolist() == batches["b_sla"].tolist()
    assert not any("static" in axes.get_title() for axes in picture.axes)


def test_a_trace_for_a_viewer_holds_the_run() -> None:
    study = StoredStudy(compared())
    folder = study.run_folder(str(study.results["run"].iloc[0]))
    batches = pd.read_parquet(folder / "batches.parquet")
    requests = pd.read_parquet(folder / "requests.parquet")
    events = json.loads(json.dumps(trace_events(batches, requests)))["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    assert len(slices) == len(batches)
    busy_us = 1e6 * float((batches["finish_s"] - batches["start_s"]).sum())
    assert sum(event["dur"] for event in slices) == pytest.approx(busy_us)
    for gpu in batches["gpu"].unique():
        track = sorted((event["ts"], event["ts"] + event["dur"]) for event in slices if event["tid"] == gpu)
        assert all(later[0] >= earlier[1] - 1e-3 for earlier, later in itertools.pairwise(track))
    named = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert named == {int(gpu): f"GPU {gpu}" for gpu in batches["gpu"].unique()}
    counts = [event["args"]["requests"] for event in events if event["ph"] == "C"]
    assert min(counts) >= 0
    assert max(counts) > 0
    assert slices[0]["args"]["limit"] == int(batches["limit"].iloc[0])
