"""The catalogue has one row for each metric that runs store, and everything that names a metric reads it there."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from mbexp import UserError, configure, simulate
from mbexp.config.execution_keys import EXECUTIONS
from mbexp.figures.labels import NAMES, axis_label
from mbexp.figures.registry import figures
from mbexp.report import tables as report_tables
from mbexp.results.catalogue import Metric, as_columns, catalogue, find_column, metric, register
from mbexp.results.catalogue.page import page
from mbexp.results.comparisons import is_higher_better
from mbexp.results.replications import run_replications
from mbexp.results.store import save
from mbexp.run import run
from mbexp.sweep import best, ending, sides, verdicts
from tests import ROOT

HALF_WIDTH = "<metric>_half_width"
UNITS = {"_s": "s", "_ms": "ms", "_pct": "%", "_tokens": "tokens", "_rows": "rows", "_requests": "requests"}
RATES = {"requests_per_s": "requests/s", "tokens_per_s": "tokens/s", "rate_per_s": "requests/s"}
SMALL = {"workload": "synthetic", "num_requests": 50}


@pytest.fixture
def own_row(monkeypatch):
    """A user's row, in a catalogue that is left as it was."""
    monkeypatch.setattr(metric, "_ROWS", dict(metric._ROWS))
    row = Metric("wait_over_1_s", "s", "Time waited", "The time waited beyond 1 s.", better="lower")
    register(row)
    return row


@pytest.mark.parametrize("mode", EXECUTIONS)
def test_every_stored_key_has_a_row_and_every_row_is_stored(mode, tmp_path):
    folder = save(simulate(**SMALL, execution=mode), tmp_path / "run", [])
    stored = set(json.loads((folder / "summary.json").read_text()))
    classes = {
        "workload.classes": {
            "light": {"share_pct": 50.0, "request_s": 9.0},
            "heavy": {"share_pct": 50.0, "request_s": 9.0},
        }
    }
    stored |= {key for key in simulate(**SMALL, **classes, execution=mode).summary if "@" not in key}
    if mode == "continuous":  # a cache has rows of its own
        cache = {"workload": "sessions", "execution.prefix_cache": "lru", "execution.kv": "paged"}
        stored |= set(simulate(**{**SMALL, **cache}, execution=mode).summary)

    assert stored == {row.key for row in catalogue().values() if row.is_of(mode) and row.key != HALF_WIDTH}


def test_modes_of_rows_are_modes():
    assert {mode for row in catalogue().values() for mode in row.modes} <= set(EXECUTIONS)


@pytest.mark.parametrize("mode", EXECUTIONS)
def test_half_widths_are_those_of_rows(mode):
    result, _ = run_replications(configure(**SMALL, execution=mode, replications=2), run)
    columns = as_columns(result.summary)
    half_widths = [name for name in columns if name.endswith("_half_width")]

    assert len(half_widths) > 30
    assert all(find_column(name) for name in columns)
    assert {name.removesuffix("_half_width") for name in half_widths} <= set(columns)
    assert find_column("latency_p95_s_half_width").axis_label == "95th percentile latency, half width (s)"
    assert find_column("something_half_width") is None


@pytest.mark.parametrize("row", catalogue().values(), ids=lambda row: row.key)
def test_a_row_is_whole(row):
    ending_of_name = next((end for end in sorted(UNITS, key=len, reverse=True) if row.key.endswith(end)), "")
    rate = next((end for end in RATES if row.key.endswith(end)), "")
    assert row.unit == RATES[rate] if rate else ending_of_name == "" or row.unit == UNITS[ending_of_name]
    assert 0 < len(row.axis_label) <= 45
    assert row.better in ("higher", "lower", None)
    sentences = re.split(r"(?<=[.;:]) ", row.definition)
    assert row.definition.endswith(".")
    assert max(len(sentence.split()) for sentence in sentences) <= 30
    assert not {"|", "\n"} & set(row.definition)  # it is a cell of a table


def test_labels_are_unique():
    labels = [row.axis_label for row in catalogue().values()]
    assert sorted(set(labels)) == sorted(labels)
    assert not set(NAMES) & {row.column for row in catalogue().values()}


def test_labels_come_with_their_unit_once():
    assert axis_label("throughput_tokens_per_s") == "Throughput (tokens/s)"
    assert axis_label("running_mean") == "Requests on the GPU, mean"
    assert axis_label("batch_size_mean") == "Mean batch size (requests)"
    assert axis_label("offered_load") == "Offered load"
    assert axis_label("bins") == "Bins"  # the rule; the number of bins is another column
    assert axis_label("num_bins") == "Bins formed"


def test_what_tables_figures_and_verdicts_name_is_there():
    named = {*sides.METRICS, best.VIOLATION, *best.SHOWN, *ending.HEADLINES, *report_tables.HEADLINES}
    assert [name for name in named if find_column(name) is None] == []

    # Settings and what identifies a run, as mbexp.sweep.table puts them before the metrics.
    settings = {"run", "label", "scheduler", "execution", "num_gpus", "k_bins", "num_requests", "seed"}
    needs = {name for spec in figures().values() if spec.table == "results" for name in spec.needs}
    unknown = {name for name in needs if "." not in name and find_column(name) is None}
    assert unknown <= settings
    assert len(needs - unknown) > 15


def test_the_page_is_the_one_of_the_rows():
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == page(), (
        "run python -m mbexp.results.catalogue > docs/metrics.md"
    )


def test_the_command_prints_the_page_and_imports_nothing_heavy():
    code = (
        "import sys, runpy, mbexp.figures.labels, mbexp.sweep.verdicts;"
        "runpy.run_module('mbexp.results.catalogue', run_name='__main__');"
        "print([name for name in ('numpy', 'numba', 'scipy', 'pandas', 'pyarrow') if name in sys.modules], end='')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{page()}[]"


@pytest.mark.parametrize("mode", EXECUTIONS)
def test_more_gpus_are_better_in_the_direction_that_rows_say(mode):
    """Of requests that many GPUs carry and few do not, metrics of speed are better on the many."""
    common = {"scheduler": "static_fifo", "num_requests": 2000, "execution": mode, "sla.token_ms": 1000}
    few, many = (simulate(**common, num_gpus=gpus).summary for gpus in (8, 256))
    judged = (
        "throughput_requests_per_s", "throughput_tokens_per_s", "goodput_requests_per_s", "makespan_s",
        "latency_mean_s", "latency_p50_s", "latency_p99_s", "latency_max_s", "queue_delay_mean_s", "ttft_mean_s",
        "ttft_p99_s", "request_sla_violation_pct", "requests_waiting_max",
    )  # fmt: skip
    assert [name for name in judged if (many[name] > few[name]) != is_higher_better(name)] == []
    assert [name for name in judged if many[name] == few[name]] == []


def test_metrics_without_a_direction_are_not_compared():
    for name in ("batch_size_mean", "gpu_utilization_pct", "offered_load", "arrival_rate_per_s", "num_bins", "seed"):
        with pytest.raises(UserError, match=f"metric with a better direction={name}"):
            is_higher_better(name)


def test_a_registered_row_is_a_metric_like_any_other(own_row):
    assert catalogue()[own_row.key] is own_row
    assert not is_higher_better("wait_over_1_s")
    assert axis_label("wait_over_1_s") == "Time waited (s)"
    assert as_columns({"wait_over_1_s": 2.0, "unknown": 1}) == {"wait_over_1_s": 2.0, "unknown": 1}
    assert page().count("## Other metrics") == page().count("| `wait_over_1_s` | s | lower | all |") == 1
    register(own_row)  # the same again, as when a module is loaded twice


def test_a_wrong_row_is_one_clear_line(own_row):
    with pytest.raises(UserError, match=r"^metric wait_ms: unit=s: a name with this ending is in ms$"):
        Metric("wait_ms", "s", "Wait", "The wait.")
    with pytest.raises(UserError, match=r"^metric latency_mean_s: the catalogue has another"):
        register(Metric("latency_mean_s", "s", "Mean", "Another mean."))
    with pytest.raises(TypeError):
        catalogue()["latency_mean_s"] = own_row  # type: ignore[index]


def test_a_share_is_compared_in_percentage_points():
    rows = [
        {"scheduler": side, "seed": seed, "request_sla_violation_pct": value, "latency_p95_s": value}
        for side, values in (("a", (10.0, 11.1, 12.0)), ("b", (20.0, 21.0, 22.0)))
        for seed, value in enumerate(values)
    ]
    told = {row["metric"]: row["verdict"] for row in verdicts.verdicts(rows, ["scheduler", "seed"])}

    assert "by 10.0 percentage points (9.8 to 10.2)" in told["request_sla_violation_pct"]
    assert told["latency_p95_s"] == "b is beaten by a, 1.9 times as much (1.7 to 2.1)"
