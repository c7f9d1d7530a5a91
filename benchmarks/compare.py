"""Two versions of mbexp in turn: this one and another checkout or revision; says what is faster, and what is noise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import CALM, RUSH, SCHEDULERS
from benchmarks.report import Table
from benchmarks.timing import NOISE, ratio

HERE = Path(__file__).resolve().parent.parent


LENGTH = {"kind": "uniform", "low_tokens": 1, "high_tokens": 900}
# Continuous batching: name, GPUs, keys.
CONTINUOUS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("1 GPU", 1, {}),
    ("16 GPUs", 16, {}),
    ("100 GPUs", 100, {}),
    ("16 GPUs, 4 bins", 16, {"scheduler": "multi_bin_static"}),
    ("16 GPUs, join the shortest", 16, {"execution.assignment": "join_shortest"}),
    ("16 GPUs, Algorithms 1 and 2", 16, {"scheduler": "dynamic_no_bins", "sla": "p2_50ms"}),
    ("16 GPUs, chunked and paged", 16, {"execution.prefill": "chunked", "execution.kv": "paged"}),
)


@contextmanager
def checkout(other: str) -> Iterator[Path]:
    """Give the folder of another version: a checkout, or a revision (commit, tag, branch) of this one."""
    if (Path(other) / "mbexp").is_dir():
        yield Path(other).resolve()
        return
    done = subprocess.run(["git", "-C", str(HERE), "archive", other, "mbexp", "conf"], capture_output=True)
    if done.returncode:
        sys.exit(f"--compare {other}: neither a checkout of mbexp nor a revision of this one")
    with tempfile.TemporaryDirectory(prefix="mbexp-compare-") as folder:
        with tarfile.open(fileobj=BytesIO(done.stdout)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder)


def cases(num_requests: int) -> dict[str, dict[str, Any]]:
    """Return what both versions simulate, as arguments of ``mbexp.configure``."""
    found: dict[str, dict[str, Any]] = {}
    for load, gpus, rate in (("idle", 100, CALM), ("overloaded", 8, RUSH)):
        for scheduler in SCHEDULERS:
            found[f"{scheduler}, {gpus} GPUs {load}"] = {
                "num_requests": num_requests,
                "num_gpus": gpus,
                "k_bins": 8,
                "scheduler": scheduler,
                "workload.rate_scaling": rate,
            }
    arrivals = {"workload": "synthetic", "workload.prompt": LENGTH, "workload.output": LENGTH}
    for name, gpus, keys in CONTINUOUS:
        found[f"continuous, {name}"] = {
            **arrivals,
            "num_requests": max(num_requests // 10, 1),
            "num_gpus": gpus,
            "workload.timestamps": "real",
            "workload.arrivals.rate_per_s": 20.0 * gpus,
            "execution": "continuous",
            "execution.assignment": "central",
            "gpu": "roofline_h100",
            "scheduler": "static_fifo",
            "scheduler.fixed_batch_size": 128,
            **keys,
        }
    return found


class Worker:
    """A process that times one version."""

    def __init__(self, folder: Path, named: dict[str, dict[str, Any]]) -> None:
        environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
        command = [sys.executable, str(Path(__file__).with_name("worker.py")), json.dumps(named)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=tempfile.gettempdir(),
        )
        self.about = self.read()
        if Path(self.about["path"]).resolve().parent != (folder / "mbexp").resolve():
            raise RuntimeError(f"asked for {folder}, got {self.about['path']}")

    def read(self) -> dict[str, Any]:
        """Return the next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("a version could not be timed; see its error above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def round(self, number: int) -> dict[str, dict[str, float]]:
        """Time everything once."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        seconds: dict[str, dict[str, float]] = self.read()["seconds"]
        return seconds

    def end(self) -> None:
        """Let the process end."""
        with self.process:  # closes its ends of the pipes, which is what the process waits for
            pass


def table(other: str, num_requests: int, rounds: int) -> Table:
    """Time this version and another in turn, the order changing from round to round."""
    named = cases(num_requests)
    found = Table(
        f"This version against {other}, {num_requests:,} requests", ["case", "part", "ms", "ms before", "times as fast"]
    )
    with checkout(other) as folder:
        workers = [Worker(HERE, named), Worker(folder, named)]
        try:
            times: list[list[dict[str, dict[str, float]]]] = [[], []]
            for number in range(rounds):
                for which in (0, 1) if number % 2 else (1, 0):
                    times[which].append(workers[which].round(number))
        finally:
            for worker in workers:
                worker.end()
    for name in named:
        for part in ("run", "simulate", "metrics"):
            ours, theirs = (np.array([one[name].get(part, np.nan) for one in side]) for side in times)
            if np.isnan(theirs).all():  # a part that the other version does not time apart
                continue
            found.rows.append(
                [name, part, *(f"{np.median(side) * 1e3:.1f}" for side in (ours, theirs)), ratio(ours, theirs)]
            )
            found.numbers[f"{name}/{part}"] = vars(ratio(ours, theirs))
    hashes = [worker.about["batches"] for worker in workers]
    unequal = [name for name in named if hashes[0][name] != hashes[1][name]]
    found.remarks.append(
        f"The results of these differ: {'; '.join(unequal)}."
        if unequal
        else "Both found the same batches, bit for bit."
    )
    found.remarks.append(f"Medians of {rounds} rounds in turn; {NOISE}.")
    return found
