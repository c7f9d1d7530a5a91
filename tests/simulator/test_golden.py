"""Results of each scheduler are those stored; changing them takes a new results version."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mbexp.version import RESULTS_VERSION
from tests.simulator import golden_results


@pytest.mark.parametrize("name", golden_results.CASES)
def test_results_are_those_stored(name):
    known, found = golden_results.stored(name), golden_results.result_of(name)
    assert known["results_version"] == RESULTS_VERSION, "a new version: python -m tests.simulator.golden_results"
    assert known["settings"] == found["settings"], "a changed case: python -m tests.simulator.golden_results"
    assert golden_results.same(known, found), (
        f"the numbers changed; if that is meant, raise RESULTS_VERSION in mbexp/version.py and run "
        f"python -m tests.simulator.golden_results\nstored {known}\nfound  {found}"
    )


def test_no_stored_result_is_left_over():
    assert {path.stem for path in golden_results.FOLDER.glob("*.json")} == set(golden_results.CASES)


def test_the_cases_exercise_what_they_are_for():
    summaries = {name: golden_results.stored(name)["summary"] for name in golden_results.CASES}
    assert summaries["timeout_underpredicted"]["rejected_requests"] > 0
    assert summaries["timeout_underpredicted"]["kv_overflow_pct"] > 0
    digests = {golden_results.digest_of(golden_results.stored(name)) for name in summaries}
    assert len(digests) == len(summaries)


def test_the_continuous_cases_exercise_what_they_are_for():
    summaries = {name: golden_results.stored(name)["summary"] for name in golden_results.CONTINUOUS}
    assert summaries["continuous_static_fifo"]["batch_size_max"] == 8
    assert 1 < summaries["continuous_dynamic_no_bins"]["limit_mean"] < 64  # of 128: the SLA binds
    assert 0 < summaries["continuous_dynamic_no_bins"]["token_sla_violation_pct"] < 50
    assert summaries["continuous_chunked_paged"]["preemptions"] > 50
    assert summaries["continuous_chunked_paged"]["recomputed_tokens"] > 0
    assert summaries["continuous_chunked_paged"]["mixed_steps_pct"] > 1
    assert summaries["continuous_swap_requeue"]["outgrown_predictions"] > 0
    assert summaries["continuous_swap_requeue"]["preemptions"] > 0
    assert summaries["continuous_swap_requeue"]["copied_tokens"] > 0
    assert summaries["continuous_swap_requeue"]["recomputed_tokens"] == 0


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("continuous_static_fifo", "execution.prefill_max_tokens", None),
        ("continuous_dynamic_no_bins", "execution.interval_steps", 9),
        ("continuous_load_share", "execution.gpu_serves", "equal_share"),
        ("continuous_one_bin", "execution.turn_requests", 1_000_000),
        ("continuous_chunked_paged", "execution.token_budget", 257),
        ("continuous_swap_requeue", "execution.underprediction", "extend"),
        ("continuous_swap_requeue", "execution.assignment", "join_shortest"),
    ],
)
def test_each_rule_of_a_continuous_case_matters(name, key, value):
    changed = golden_results.result_of(name, **{key: value})
    assert golden_results.digest_of(changed) != golden_results.digest_of(golden_results.stored(name))


def test_storing_changed_numbers_under_the_same_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(golden_results, "FOLDER", tmp_path)
    monkeypatch.setattr(golden_results, "CASES", {"static_fifo": golden_results.CASES["static_fifo"]})
    golden_results.main()
    path = golden_results.path_of("static_fifo")
    path.write_text(path.read_text().replace('"batches_sha256": "', '"batches_sha256": "0'))
    before = path.read_bytes()
    with pytest.raises(SystemExit, match="static_fifo changed: raise RESULTS_VERSION"):
        golden_results.main()
    assert path.read_bytes() == before
    monkeypatch.setattr(golden_results, "RESULTS_VERSION", RESULTS_VERSION + 1)
    golden_results.main()
    assert golden_results.stored("static_fifo")["results_version"] == RESULTS_VERSION + 1


@pytest.mark.slow
def test_another_process_finds_the_same():
    code = "from tests import golden_results as g; print([g.digest_of(g.result_of(n)) for n in g.CASES])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(
        [golden_results.digest_of(golden_results.stored(name)) for name in golden_results.CASES]
    )
