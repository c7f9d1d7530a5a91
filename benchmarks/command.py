"""The whole command as a user waits for it: beside an empty Hydra application, and the first time ever."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.cases import bursty_trace
from benchmarks.report import Table
from benchmarks.timing import seconds
from mbexp import configure

EMPTY = """
import hydra

@hydra.main(version_base="1.3", config_path=None)
def application(_):
    pass

application()
"""
# An empty application stores nothing either.
NOTHING_STORED = ("hydra.run.dir=.", "hydra.output_subdir=null")
RUN = ("num_requests=1_000_000", "num_gpus=100")


def table(rounds: int) -> Table:
    """Time commands in turn."""
    found = Table("The whole command", ["command", "processor s", "wall s", "of an empty Hydra application"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty.py").write_text(EMPTY)
        commands = {
            "an empty Hydra application": [str(folder / "empty.py"), *NOTHING_STORED],
            "the same, --help": [str(folder / "empty.py"), "--help"],
            "python -m mbexp --help": ["-m", "mbexp", "--help"],
            "python -m mbexp scheduler=unknown": ["-m", "mbexp", "scheduler=unknown"],
            "python -m mbexp num_requests=1_000": ["-m", "mbexp", "num_requests=1_000"],
            f"python -m mbexp {' '.join(RUN)}": ["-m", "mbexp", *RUN],
        }
        run_command([*commands[list(commands)[-1]]], folder)  # what is made once is made now
        times: dict[str, list[tuple[float, float]]] = {command: [] for command in commands}
        for _ in range(rounds):
            for command, words in commands.items():
                times[command].append(run_command(words, folder))
        empty = float(np.median([processor for processor, _ in times["an empty Hydra application"]]))
        for command, measured in times.items():
            processor, wall = np.median(measured, axis=0)
            found.rows.append([command, f"{processor:.2f}", f"{wall:.2f}", f"{processor / empty:.2f}"])
            found.numbers[command] = [float(processor), float(wall)]
        once = read_and_write_s(folder)
        whole = found.numbers[f"python -m mbexp {' '.join(RUN)}"][0]
        allowed = 4 * empty + once
        found.rows.append(["reading and writing the data once", f"{once:.2f}", "-", f"{once / empty:.2f}"])
        for mode in ("run_to_completion", "continuous"):
            words = (f"execution={mode}", "gpu=roofline_h100")
            found.rows.append([f"first run ever, execution={mode}", *first_run(folder / mode, *words), "-"])
        found.numbers |= {"reading and writing once": once, "allowed": allowed}
    found.remarks.append(
        f"Four empty applications and the data once take {allowed:.2f} s of processor time. The command takes "
        f"{whole:.2f} s."
    )
    return found


def run_command(words: list[str], folder: Path, **environment: str) -> tuple[float, float]:
    """Run Python with some words; return processor and wall time."""
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)} | environment,
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - began


def read_and_write_s(folder: Path) -> float:
    """Return the processor time of loading a million requests and of writing both tables of a run, and nothing else."""
    from mbexp.results.tables import write_batches, write_requests
    from mbexp.run import run

    config = configure(num_requests=1_000_000, num_gpus=100)
    result = run(config)

    def once() -> None:
        bursty_trace.__wrapped__(1_000_000, 200.0)
        write_batches(result.outcome, folder / "batches.parquet")
        write_requests(result.outcome, result.trace, folder / "requests.parquet")

    once()
    return float(np.median([seconds(once) for _ in range(3)]))


def first_run(cache: Path, *words: str) -> tuple[str, str]:
    """Return processor and wall time of a run that finds no machine code in `cache`, as text."""
    processor, wall = run_command(["-m", "mbexp", "num_requests=1_000", *words], cache.parent, MBEXP_CACHE=str(cache))
    return f"{processor:.1f}", f"{wall:.1f}"
