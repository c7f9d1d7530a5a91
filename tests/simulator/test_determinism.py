"""The same configuration and seed give the same bytes: again, in another process, and as plain Python without Numba."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import ROOT
from tests.simulator import golden_results

SETTINGS = [
    "num_requests=800",
    "num_gpus=2",
    "predictor=noisy",
    "gpu.noise.kind=lognormal",
    "sla.token_ms=7.4",
    "seed=5",
]


def run_in_new_process(folder: Path, *overrides: str, **environment: str) -> dict[str, bytes]:
    """Run the command line and return the files it stored, by name."""
    command = [sys.executable, "-m", "mbexp", f"output.dir={folder}", *SETTINGS, *overrides]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | environment)
    (made,) = folder.iterdir()
    return {path.name: path.read_bytes() for path in made.iterdir()}


def without_the_clock(summary: bytes) -> dict[str, object]:
    values: dict[str, object] = json.loads(summary)
    assert values.pop("wall_time_s") is not None
    return values


def test_another_process_stores_the_same_bytes(tmp_path):
    one = run_in_new_process(tmp_path / "one", PYTHONHASHSEED="1")
    other = run_in_new_process(tmp_path / "other", PYTHONHASHSEED="2", OMP_NUM_THREADS="1")
    assert one.keys() == other.keys()
    assert one["batches.parquet"] == other["batches.parquet"]
    assert one["requests.parquet"] == other["requests.parquet"]
    assert without_the_clock(one["summary.json"]) == without_the_clock(other["summary.json"])
    assert len(one["batches.parquet"]) > 1000


def test_another_seed_gives_other_bytes(tmp_path):
    one = run_in_new_process(tmp_path / "one")
    other = run_in_new_process(tmp_path / "other", "seed=6")
    assert one["batches.parquet"] != other["batches.parquet"]


def test_plain_python_finds_what_the_compiled_loop_finds():
    names = ["multi_bin_dynamic", "timeout_underpredicted", "memory_original_rule"]
    code = (
        "from tests.simulator.golden_results import result_of\n"
        f"for name in {names}: print(result_of(name)['batches_sha256'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
    )
    assert done.stdout.split() == [golden_results.stored(name)["batches_sha256"] for name in names]


@pytest.mark.parametrize(
    "launcher",
    [
        ("hydra/launcher=basic",),
        ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
        ("hydra/launcher=local", "hydra.launcher.n_jobs=1"),
        ("hydra/launcher=local", "hydra.launcher.n_jobs=3"),
    ],
    ids=["basic", "joblib", "local, one worker", "local, three workers"],
)
@pytest.mark.slow
def test_a_sweep_stores_what_single_runs_store(tmp_path, launcher):
    choices = ["static_fifo", "multi_bin_dynamic"]
    command = [sys.executable, "-m", "mbexp", "-m", f"output.dir={tmp_path}", "study.name=sweep", *SETTINGS, *launcher]
    subprocess.run([*command, f"scheduler={','.join(choices)}"], check=True, capture_output=True, cwd=tmp_path)
    swept = {
        yaml.safe_load(path.read_text())["scheduler"]["name"]: path.parent for path in tmp_path.rglob("config.yaml")
    }
    assert set(swept) == set(choices)
    for choice in choices:
        alone = run_in_new_process(tmp_path / choice, f"scheduler={choice}")
        assert (swept[choice] / "batches.parquet").read_bytes() == alone["batches.parquet"]
        summary = (swept[choice] / "summary.json").read_bytes()
        assert without_the_clock(summary) == without_the_clock(alone["summary.json"])
