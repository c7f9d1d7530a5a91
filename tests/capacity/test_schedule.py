"""GPUs over time: intervals counted by hand, and a schedule of constant arrivals, each a second of work."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mbexp
from mbexp import UserError, configure
from mbexp.capacity.__main__ import main
from mbexp.capacity.command import as_overrides
from mbexp.capacity.options import Options
from mbexp.capacity.pictures import draw, read_answers
from mbexp.capacity.probes import Prober, Workers
from mbexp.capacity.schedule import plan, split_time
from mbexp.capacity.timetable import Schedule
from mbexp.report import write_report
from mbexp.sweep.table import read_results
from mbexp.validate.setups import constant_time, one_queue

RATES = (2.5, 0.5, 0.0, 3.7)  # requests/s in one interval after the other
INTERVAL_S = 100.0
NEEDED = [3, 1, 0, 4]  # a GPU serves a request a second


@pytest.mark.parametrize(
    ("end_s", "lengths_s"),
    [(300.0, [100, 100, 100]), (340.0, [100, 100, 140]), (350.0, [100, 100, 100, 50]), (60.0, [60]), (149.0, [149])],
)
def test_intervals_take_every_request_once(end_s: float, lengths_s: list[float]) -> None:
    times_s = np.sort(np.random.default_rng(1).uniform(0, 400, 500))
    parts = split_time(times_s, 0.0, end_s, 100.0)
    assert [part.length_s for part in parts] == pytest.approx(lengths_s)
    for part in parts:
        inside = (times_s >= part.start_s) & (times_s < part.start_s + part.length_s)
        assert part.requests == inside.sum()
    assert sum(part.requests for part in parts) == (times_s < end_s).sum()


def log_file(folder: Path) -> Path:
    times = [place * INTERVAL_S + np.arange(rate * INTERVAL_S) / rate for place, rate in enumerate(RATES) if rate]
    frame = pd.DataFrame({"arrival_s": np.concatenate(times), "prompt_tokens": 1, "output_tokens": 1})
    frame.to_csv(folder / "log.csv", index=False)
    return folder / "log.csv"


def keys_of(folder: Path) -> dict[str, Any]:
    gpu = {key: value for key, value in constant_time(1.0).items() if key.startswith("gpu")}
    fleet = {key: value for key, value in one_queue(1).items() if key != "num_gpus"}
    return {
        **gpu,
        **fleet,
        "find": "schedule",
        "interval_s": INTERVAL_S,
        "workload": "csv",
        "workload.path": str(log_file(folder)),
        "gpu.price_per_hour": 36.0,
        "warm_up.share_pct": 0.0,
        "sla.targets": ["queue_delay_p99_s<=0.5"],
        "output.dir": str(folder / "out"),
    }


def planned(folder: Path, **more: Any) -> Schedule:
    """Return the schedule without the command around it."""
    keys = {**keys_of(folder), "num_requests": None, **more}
    options = Options("schedule", keys.pop("interval_s"), keys.pop("max_gpus", 1024))
    keys.pop("find")
    return plan(configure(**keys), options, Prober(folder / "plans", Workers(1), (), ["test"]), lambda *_: None)


def test_a_schedule_is_the_rate_over_that_of_one_gpu_rounded_up(tmp_path: Path) -> None:
    (found,) = mbexp.capacity(**keys_of(tmp_path))
    assert found.carried_per_s == pytest.approx(1.0, rel=0.015)
    assert [each.num_gpus for each in found.intervals] == NEEDED
    assert [each.requests for each in found.intervals] == [round(rate * INTERVAL_S) for rate in RATES]
    assert [each.probe.verdict if each.probe else None for each in found.intervals] == ["pass", "pass", None, "pass"]
    hours = [each.length_s / 3600 for each in found.intervals]
    assert hours[:3] == [INTERVAL_S / 3600] * 3
    assert hours[3] == pytest.approx(INTERVAL_S / 3600, rel=0.005)
    assert found.gpu_hours == pytest.approx(np.dot(NEEDED, hours))
    assert found.fixed_gpu_hours == pytest.approx(4 * sum(hours))
    assert found.mean_gpus == pytest.approx(np.dot(NEEDED, hours) / sum(hours))
    assert (found.num_gpus, found.fixed.verdict) == (4, "pass")
    assert (found.price, found.fixed_price) == pytest.approx((36 * found.gpu_hours, 36 * found.fixed_gpu_hours))
    # The simulation of the fixed fleet is a run like any other.
    whole = {key: value for key, value in keys_of(tmp_path).items() if key not in ("find", "interval_s")}
    alone = mbexp.simulate(**{**whole, "num_gpus": 4, "num_requests": None})
    assert found.fixed.mean("queue_delay_p99_s") == alone.summary["queue_delay_p99_s"]

    folder = tmp_path / "out" / "capacity"
    (stored,) = read_answers(folder)
    assert [each["num_gpus"] for each in stored["intervals"]] == NEEDED
    assert stored["sentence"] == found.sentence()
    table = pd.read_csv(folder / "schedule.csv")
    assert table["num_gpus"].tolist() == NEEDED
    assert table["rate_per_s"].tolist() == pytest.approx(RATES, rel=0.005)
    assert found.frame["num_gpus"].tolist() == NEEDED
    assert (folder / "capacity.png").is_file()
    runs = {path.name: (path / "summary.json").stat().st_mtime_ns for path in folder.iterdir() if path.is_dir()}

    (again,) = mbexp.capacity(**keys_of(tmp_path))
    assert again.as_dict() == found.as_dict()
    after = {path.name: (path / "summary.json").stat().st_mtime_ns for path in folder.iterdir() if path.is_dir()}
    assert after == runs
    assert {*found.runs} <= runs.keys()

    figure, price = draw([stored])
    assert price is None
    traffic, gpus = figure.axes
    (steps,) = gpus.patches
    values = steps.get_data()  # type: ignore[attr-defined]
    assert values.values.tolist() == NEEDED
    assert values.edges[:-1].tolist() == pytest.approx([0, 100 / 3600, 200 / 3600, 300 / 3600])
    assert [line.get_ydata()[0] for line in gpus.lines if line.get_gid() == "fixed"] == [4]  # type: ignore[index]
    assert len(traffic.patches) == 1


def test_hours_stay_those_of_the_log_where_traffic_is_scaled(tmp_path: Path) -> None:
    once = planned(tmp_path)
    scaled = planned(tmp_path, **{"workload.timestamps": "scaled", "workload.rate_scaling": 2.0})
    assert scaled.hours == pytest.approx(once.hours)
    assert [each.rate_per_s for each in scaled.intervals] == pytest.approx(
        [2 * each.rate_per_s for each in once.intervals]
    )
    assert scaled.carried_per_s == pytest.approx(1.0, rel=0.015)
    assert [scaled.intervals[at].num_gpus for at in (1, 2, 3)] == [1 + (scaled.carried_per_s < 1), 0, 8]
    window = {"workload.window.kind": "time", "workload.window.start_s": 100.0, "workload.window.duration_s": 100.0}
    (part,) = planned(tmp_path, **window).intervals
    assert (part.start_s, part.length_s, part.requests, part.num_gpus) == (100.0, 100.0, 50, 1)


def test_an_interval_that_fails_alone_is_said(tmp_path: Path) -> None:
    # A burst of three at one instant, when two GPUs carry the rate of the interval.
    times = np.concatenate([np.arange(0.0, 100.0), [150.0] * 3])
    path = tmp_path / "burst.csv"
    pd.DataFrame({"arrival_s": times, "prompt_tokens": 1, "output_tokens": 1}).to_csv(path, index=False)
    found = planned(tmp_path, **{"workload.path": str(path), "interval_s": 60.0})
    assert found.intervals[-1].probe is not None
    assert found.intervals[-1].probe.verdict == "fail"
    assert found.warnings[0].startswith("simulated alone, one fails; at 0.03333 h with 1 GPU: ")
    assert "queue_delay_p99_s" in found.warnings[0]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"workload.timestamps": "generated"}, "needs the trace's own times"),
        ({"workload.window.start_row": 5}, "splits the trace by time"),
        ({"workload.window.kind": "time", "workload.window.start_s": 1e6}, "no request arrives then"),
        ({"max_gpus": 2}, "max_gpus=2: not enough, the busiest interval needs"),
    ],
)
def test_what_has_no_hours_or_too_few_gpus_is_refused(tmp_path: Path, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        planned(tmp_path, **keys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["workload=synthetic"], "workload=synthetic has one rate at all hours"),
        (["num_requests=50"], "find=schedule takes all requests"),
        (["num_gpus=1,2"], "is what find=schedule looks for"),
        (["interval_s=0"], "interval_s=0.0: must be at least 1"),
    ],
)
def test_mistakes_end_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main([*as_overrides(keys_of(tmp_path)), *words]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mbexp: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert not (tmp_path / "out" / "capacity" / "answer.json").exists()


def test_two_choices_are_ordered_by_price(tmp_path: Path) -> None:
    found = mbexp.capacity(**keys_of(tmp_path) | {"gpu.price_per_hour": (36.0, 18.0)})
    assert [each.choices["gpu.price_per_hour"] for each in found] == [18.0, 36.0]
    stored = json.loads((tmp_path / "out" / "capacity" / "answer.json").read_text())
    assert [each["price"] for each in stored] == [each.price for each in found]


@pytest.mark.parametrize("find", ["schedule", "gpus"])
def test_a_report_shows_the_sentence_the_tables_and_the_figure(tmp_path: Path, find: str) -> None:
    keys = keys_of(tmp_path) | {"find": find}
    if find == "gpus":
        del keys["interval_s"]
    (found,) = mbexp.capacity(**keys)
    folder = tmp_path / "out" / "capacity"
    html = unescape(write_report(folder).read_text(encoding="utf-8"))
    assert found.sentence() in html
    assert found.next_command in html
    assert all(warning in html for warning in found.warnings)
    assert ("Intervals" in html) == (find == "schedule")
    assert ("Probes" in html) == (find == "gpus")
    assert html.count("<img") == 1
    assert "mbexp.capacity" in html
    # The probes are a study like any other.
    table = read_results(folder)
    assert {*table["run"]} == {*found.runs}
    (folder / "answer.json").write_text("{")
    assert "answer.json: cannot be read" in unescape(write_report(folder).read_text(encoding="utf-8"))
