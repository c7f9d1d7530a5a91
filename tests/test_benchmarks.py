"""The other forms of the event loop find what ours finds, and the benchmark command runs; nothing is timed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import (
    assignment,
    c_form,
    compiled_form,
    continuous_c_form,
    continuous_floor,
    forms,
    heapq_form,
    laws,
    orders,
    prefix,
    simpy_form,
)
from benchmarks.__main__ import main
from benchmarks.cases import SCHEDULERS, make_case, same_batches, steady_trace
from benchmarks.timing import ratio
from mbexp.config.execution_keys import ROUTERS, RULES_OF_ASSIGNMENT
from tests.test_docs import faults_of_prose

LOADS = {"idle": (20, 0.05), "busy": (3, 0.2), "overloaded": (2, 40.0)}  # GPUs, and requests a second of each


def case_of(scheduler: str, load: str, k_bins: int = 4):
    gpus, rate = LOADS[load]
    trace = steady_trace(1500, rate * gpus, seed=gpus)
    return make_case(load, len(trace), gpus, scheduler, k_bins, trace=trace)


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_form_finds_the_same_batches(scheduler, load):
    case = case_of(scheduler, load)
    prepared = {"compiled": compiled_form.prepare(case), "heapq": heapq_form.prepare(case)}
    if c_form.compiler():
        prepared["C"] = c_form.prepare(case)
    if simpy_form.available():
        prepared["SimPy"] = simpy_form.prepare(case)
    found = {}
    for name, form in prepared.items():
        form.run()
        form.run()  # nothing is left over from the run before
        found[name] = form.batches()
    assert found["compiled"]["size"].sum() == len(case)
    for name, batches in found.items():
        assert same_batches(found["compiled"], batches) is None, name


def test_simultaneous_arrivals_and_completions():
    trace = steady_trace(600, 4.0)
    trace = type(trace)(
        np.floor(trace.arrival_s), np.full(600, 100, np.int32), np.full(600, 50, np.int32), "ties everywhere"
    )
    for scheduler in SCHEDULERS:
        case = make_case("ties", 600, 40, scheduler, trace=trace)
        forms.check(forms.prepare(case), case)


def test_a_form_that_differs_is_named():
    case = case_of("static_fifo", "busy")
    prepared = forms.prepare(case, slow=False)
    right = prepared["mbexp"].batches

    def wrong():
        batches = right().copy()
        batches["size"][7] += 1
        return batches

    prepared["wrong"] = type(prepared["mbexp"])(prepared["mbexp"].run, wrong)
    with pytest.raises(forms.UnequalError, match=r"mbexp and wrong: size of batch 7"):
        forms.check(prepared, case)


@pytest.mark.skipif(not c_form.compiler(), reason="no C compiler")
@pytest.mark.parametrize("gpus", [1, 5, 40])
def test_continuous_batching_in_c_finds_the_same(gpus):
    for rate_per_s in (5.0, 25.0, 200.0):
        ours, in_c = continuous_floor.prepare(1500, gpus, rate_per_s)
        for _ in range(2):
            assert continuous_c_form.difference(ours(), in_c()) is None, rate_per_s
    assert "times C" in str(continuous_floor.table(300, 1, [gpus]))
    found = in_c()
    found["finish_s"][7] += 1.0
    assert "finish_s of request 7" in (continuous_c_form.difference(ours(), found) or "")


def test_the_cost_of_choosing_among_gpus_is_reported(monkeypatch):
    monkeypatch.setattr(assignment, "LEAST_REQUESTS", 100)
    table = assignment.table(2, 1, [3, 5])
    assert [row[0] for row in table.rows] == list(RULES_OF_ASSIGNMENT)


def test_caches_and_routers_are_timed(monkeypatch):
    monkeypatch.setattr(prefix, "LEAST_REQUESTS", 200)
    table = prefix.table(300, 1)
    assert [row[0] for row in table.rows] == [name for name, _ in prefix.CASES]
    shares = dict(zip((row[0] for row in table.rows), (row[3] for row in table.rows), strict=True))
    assert shares["no cache, `join_shortest`"] == "-"
    assert int(shares["in memory, `session_affinity`"]) > int(shares["in memory, `join_shortest`"])
    growth = prefix.growth(2, 1, [3, 5])
    assert set(growth.numbers) == {"join_shortest", *ROUTERS}
    assert all(speed > 0 for row in growth.numbers.values() for speed in row["million_requests_per_s"].values())


def test_the_cost_of_orders_is_reported():
    """FIFO and SJF stop nobody, and the orders that displace stop some: each ran under its own rule."""
    found = orders.table(3000, 1)
    assert [row[0] for row in found.rows] == list(orders.ORDERS)
    stopped = {name.partition(",")[0] for name, numbers in found.numbers.items() if numbers["displaced"]}
    assert stopped == {"psjf", "srpt", "trail"}


def test_without_a_compiler_c_is_left_out_and_said_so(monkeypatch):
    monkeypatch.setattr(c_form, "compiler", lambda: None)
    table = forms.table(300, 1, 1, ["multi_bin_dynamic"])
    assert "no C compiler" in str(table)
    assert "| -" in str(table)


def test_laws_are_compared_on_the_same_requests():
    """Every law prices iterations in closed form (checked by `benchmarks.continuous.case`); nothing is timed here."""
    found = laws.table(300, 1)
    assert [row[1] for row in found.rows[:4]] == list(laws.LAWS)
    assert len(found.rows) == len(laws.CASES) * len(laws.LAWS)
    numbers = found.numbers
    # The mixed term delays tokens beside prompts, so that instants differ, and skips events as the others do.
    assert all(numbers[name]["instants"] < 300 * 8 for name in numbers)


def test_equal_times_are_noise_and_halved_ones_are_not():
    rng = np.random.default_rng(1)
    times = rng.uniform(1.0, 1.2, 15)
    assert ratio(times, rng.permutation(times)).is_noise
    twice = ratio(times, times * 2 * rng.uniform(0.95, 1.05, 15))
    assert not twice.is_noise
    assert twice.low < twice.median < twice.high
    assert 1.9 < twice.median < 2.1


def test_the_command_writes_a_table_and_a_figure(tmp_path, capsys):
    words = ["--requests", "400", "--rounds", "1", "--slow-rounds", "1", "--largest", "1000", "--out", str(tmp_path)]
    main(["forms", *words])
    written = (tmp_path / "performance.md").read_text()
    assert written.splitlines()[0] == "# Performance"
    assert "multi_bin_dynamic" in written
    assert written.strip() in capsys.readouterr().out
    assert faults_of_prose(written) == []
    assert json.loads((tmp_path / "performance.json").read_text())["forms"]
    assert (tmp_path / "performance.png").stat().st_size > 10_000


def test_a_part_that_there_is_not(capsys):
    with pytest.raises(SystemExit):
        main(["form"])
    assert "form: no such part; choose from forms, growth, memory, around, command" in capsys.readouterr().err


@pytest.mark.slow
def test_this_version_against_itself(tmp_path):
    main(["--compare", ".", "--requests", "300", "--rounds", "2", "--out", str(tmp_path)])
    assert "Both found the same batches, bit for bit." in (tmp_path / "performance.md").read_text()
