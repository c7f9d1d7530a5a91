"""What an answer must not hide: busy hours between quiet ones, keys without effect, floors, rules no engine has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mbexp
from mbexp.capacity.judge import FAIL, PASS
from mbexp.errors import UserError

CARD = {"gpu": "h100_llama31_8b", "execution": "vllm", "scheduler": "vllm"}
TARGETS = ["ttft_p95_s<=1", "tbt_p95_ms<=50"]
BUSY = 10  # times the rate of quiet hours, in the last fifth of the requests


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a log whose last requests come ten times as fast: more than one GPU carries, and few of all windows."""
    rng = np.random.default_rng(5)
    gaps_s = rng.exponential(1.0 / 6.0, 6000)
    gaps_s[4800:] /= BUSY
    lines = ["arrival_s,prompt_tokens,output_tokens"]
    lines += [f"{at:.4f},{rng.integers(200, 1800)},{rng.integers(100, 400)}" for at in np.cumsum(gaps_s)]
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def ask(log: Path, folder: Path, **keys: Any) -> Any:
    workload = {"workload": "csv", "workload.path": str(log)}
    (found,) = mbexp.capacity(**{**CARD, **workload, "sla.targets": TARGETS, "output.dir": str(folder), **keys})
    return found


def test_windows_do_not_hide_the_busy_hours_of_a_trace(log, tmp_path):
    whole = ask(log, tmp_path)
    found = ask(log, tmp_path, replicate="windows", num_requests=300)
    assert found.num_gpus >= whole.num_gpus > 1
    # By the mean of windows one GPU would do.
    alone = found.probes[1]
    assert all(each.verdict != FAIL for each in alone.judged)
    assert alone.verdict == FAIL
    assert any(each.verdict == FAIL for each in alone.whole)
    assert "whole trace" in alone.why()
    # The whole trace is the plain run of it.
    plain = mbexp.simulate(**CARD, **{"workload": "csv", "workload.path": str(log)}, num_gpus=found.num_gpus,
                           num_requests=None).summary  # fmt: skip
    for each in found.probe.whole:
        assert each.verdict == PASS
        assert each.mean == pytest.approx(plain[each.target.metric])
    assert found.as_dict()["whole_trace"] == {str(each.target): each.mean for each in found.probe.whole}


def test_windows_that_miss_a_target_by_themselves_are_counted(log, tmp_path):
    found = ask(log, tmp_path, replicate="windows", num_requests=300, **{"sla.targets": ["tbt_p95_ms<=18"]})
    values = [one["tbt_p95_ms"] for one in found.probe.summaries]
    missed = sum(value > 18 for value in values)
    assert 0 < missed < len(values)
    (said,) = [text for text in found.warnings if "windows miss" in text]
    assert said.startswith(f"{missed} of {len(values)} windows miss a target by themselves")
    assert f"tbt_p95_ms up to {max(values):.4g}" in said


def test_what_a_run_would_say_the_answer_says(log, tmp_path):
    found = ask(log, tmp_path, **{"workload.rate_scaling": 2})
    assert any(text.startswith("workload.rate_scaling=2: without meaning") for text in found.warnings)


def test_a_target_that_no_number_of_gpus_meets_is_refused_at_its_floor(log, tmp_path):
    with pytest.raises(UserError) as caught:
        ask(log, tmp_path, **{"sla.targets": ["tbt_p95_ms<=2"]})
    text = str(caught.value)
    assert text.startswith("sla.targets=tbt_p95_ms<=2: no number of GPUs is enough, tbt_p95_ms stays at ")
    floor = float(text.partition("stays at ")[2].split(" ")[0])
    many = mbexp.simulate(**CARD, **{"workload": "csv", "workload.path": str(log)}, num_gpus=500, num_requests=None)
    assert floor == pytest.approx(many.summary["tbt_p95_ms"], rel=0.01)


def test_batches_that_no_engine_has_are_named(log, tmp_path):
    found = ask(log, tmp_path, execution="run_to_completion", scheduler="dynamic_no_bins")
    assert any(text.startswith("execution=run_to_completion: a batch runs until") for text in found.warnings)


def test_a_mistake_in_the_question_is_told_as_such(log, tmp_path):
    with pytest.raises(UserError, match=r"^.*log\.csv: has no column 'when'"):
        ask(log, tmp_path, **{"workload.columns.arrival": "when"})


def test_a_law_of_kernels_says_what_it_leaves_out(log, tmp_path):
    with_host = {"gpu.law.host_ms": 2.0, "gpu.law.host_us_per_sequence": 20.0}
    assert any("no host time" in text for text in ask(log, tmp_path).warnings)
    assert not any("no host time" in text for text in ask(log, tmp_path, **with_host).warnings)
