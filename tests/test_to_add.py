"""What CONTRIBUTING.md says of adding things holds: each is added to a copy, in as many files, and runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

# What is added: a file, and the text of a new one or what comes at the end of one that is there.
TOYS: dict[str, dict[str, str]] = {
    "a latency law": {
        "mbexp/hardware/laws/toy.py": '''
"""A toy law: a step takes `parameters[0]` seconds, whatever runs."""

from mbexp.hardware.law import LatencyLaw, Price, batch_price
from mbexp.hardware.iteration import ClosedForm

KEYS = ("parameters",)


@batch_price
def toy(parameters, batch_size, longest_prompt, longest_output, longest_total, sum_prompt, sum_output):
    return parameters[0] * longest_output, parameters[0], parameters[0]


def build(gpu):
    import numpy as np

    step_s = float(gpu.law.parameters[0])
    iteration = ClosedForm(step_s, *[0.0] * 7).price()
    return LatencyLaw(gpu.name, Price(toy, np.array([step_s])), iteration, "made up")
''',
        "conf/gpu/toy.yaml": "name: toy\ncount: ${num_gpus}\nlaw: {kind: toy, parameters: [0.25]}\n",
    },
    "a rule": {
        "mbexp/policy/selection.py": '''

@bin_selection
def longest_bin(now_s, queues, memory, parameters):
    """Take the queue of the longest lengths."""
    return queues.ready[queues.ready_count - 1]
''',
    },
    "a metric": {
        "mbexp/results/catalogue/latency.py": """
ROWS = (*ROWS, row("latency_least_s", "s", "Least latency", "The latency of the fastest measured request."))
""",
        "mbexp/results/metrics.py": '''

@request_metric
def least_latency(seen):
    """Return the least latency."""
    return {"latency_least_s": float(seen.requests.latency_s().min()) if seen.count else np.nan}
''',
    },
    "a figure": {
        "mbexp/figures/toy.py": '''
"""A toy figure."""

from mbexp.figures.registry import figure
from mbexp.figures.style import panels


@figure("Toy", needs=("latency_mean_s",))
def toy_figure(frame):
    """Show the mean latency."""
    picture, axes = panels()
    axes[0].plot(frame["latency_mean_s"].to_numpy())
    return picture
''',
    },
    "a trace": {
        "mbexp/workload/kinds/toy.py": '''
"""A toy reader: an output length a line, a request a second."""

import numpy as np

from mbexp.workload.rows import Rows

DEFAULT_FILE = "toy.txt"
CLOCK_RESOLUTION_S = 0.0
VERSION = 1


def read(path, workload):
    output = np.array([int(line) for line in open(path)], np.int32)
    return Rows(np.arange(len(output), dtype=np.float64), np.ones(len(output), np.int32), output, "toy lengths")
''',
        "conf/workload/toy.yaml": "kind: toy\ntimestamps: real\nwindow: {kind: rows}\n",
    },
    "an execution mode": {
        "mbexp/modes/one_at_a_time.py": '''
"""A toy mode: every GPU serves one request at a time, in order of arrival."""

from mbexp.modes.run_to_completion import check, meets_token_sla, metrics, notes, rows, table  # noqa: F401

LOOP = "mbexp.simulator.batches.loop:serve_all"


def simulate(problem):
    from mbexp.simulator.one_at_a_time import serve

    return serve(problem)
''',
        "mbexp/simulator/one_at_a_time.py": '''
"""The toy mode's loop, here that of batches with a limit of one."""

import dataclasses


def serve(problem):
    from mbexp.policy.build import build_policy
    from mbexp.simulator.batches.serve import run_to_completion

    config, trace, fleet = problem.config, problem.trace, problem.fleet
    alone = dataclasses.replace(config.scheduler, batch_size="fixed", fixed_batch_size=1)
    return run_to_completion(
        trace.arrival_s, trace.prompt_tokens, trace.output_tokens, problem.prediction.tokens, problem.queue_of,
        problem.num_queues, fleet.count, fleet.kv_capacity_tokens, fleet.law,
        build_policy(alone, config.sla, fleet.kv_capacity_tokens),
    )
''',
        "conf/execution/one_at_a_time.yaml": "name: one_at_a_time\n",
    },
}

# What shows that each works, in one process.
SCRIPT = """
import pathlib
from mbexp import simulate
from mbexp.figures import draw
from mbexp.results.catalogue import catalogue

small = {"workload": "synthetic", "num_requests": 40, "workload.output.value_tokens": 4}
assert simulate(**small, gpu="toy", scheduler="static_fifo").summary["tbt_mean_ms"] == 250.0
alone = small | {"num_requests": 1}
assert simulate(**alone, gpu="toy", execution="continuous").summary["tbt_mean_ms"] == 250.0

keys = {"kind": "empirical", "values_tokens": [1, 100]}
late = {"workload": "synthetic", "num_requests": 40, "workload.arrivals.kind": "at_once", "workload.output": keys}
bins = simulate(**late, k_bins=2, num_gpus=1, **{"scheduler.selection": "longest_bin"}).batches["bin"].tolist()
assert bins[0] == 1 and bins == sorted(bins, reverse=True), bins

for execution in ("run_to_completion", "continuous"):
    result = simulate(**small, execution=execution)
    fastest = (result.requests["finish_s"] - result.requests["arrival_s"]).min()
    assert abs(result.summary["latency_least_s"] - fastest) < 1e-12
assert catalogue()["latency_least_s"].label == "Least latency"

assert draw("toy_figure", result).axes

pathlib.Path("toy.txt").write_text("3\\n5\\n7\\n")
trace = simulate(workload="toy", num_requests=None)
assert trace.requests["output_tokens"].tolist() == [3, 5, 7]
assert trace.requests["arrival_s"].tolist() == [0.0, 1.0, 2.0]

alone = simulate(**small, execution="one_at_a_time")
assert alone.batches["size"].tolist() == [1] * 40
print("all toys run")
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with every toy in it."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("mbexp", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for files in TOYS.values():
        for name, text in files.items():
            path = folder / name
            before = path.read_text(encoding="utf-8") if path.exists() else ""
            path.write_text(before + (text if before else text.lstrip("\n")), encoding="utf-8")
    return folder


def test_every_toy_runs(tree: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(tree), "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "all toys run\n", done.stderr


def test_toys_are_choices_on_the_command_line(tree: Path) -> None:
    words = ["-m", "mbexp", "--cfg", "job", "gpu=toy", "execution=one_at_a_time", "workload=toy"]
    done = subprocess.run(
        [sys.executable, *words], cwd=tree, env=os.environ | {"PYTHONPATH": str(tree)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "one_at_a_time" in done.stdout


def test_the_page_counts_the_files() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| (an? [\w ]+) \| (\d+) \|", page, re.MULTILINE))
    assert told == {name: str(len(files)) for name, files in TOYS.items()}
