"""What happens around the event loop: reading a trace file, the metrics, and the runs of a sweep."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.cases import CALM, RUSH, bursty_trace, foreseen
from benchmarks.report import Table
from benchmarks.timing import in_turn
from mbexp import configure, load_trace
from mbexp.modes import run_to_completion
from mbexp.modes.problem import make_problem
from mbexp.run import summarize

ROWS = 1_430_000  # as many as BurstGPT_1.csv has
SWEEP_RUNS = 200
SMALL_RUN, LARGE_RUN = 10_000, 1_400_000  # requests
LARGE_RUNS = 200


def table(num_requests: int, rounds: int) -> Table:
    """Time reading, metrics and sweeps, each beside what it is to be compared with."""
    found = Table("Around the loop", ["what", "seconds", "beside", "seconds", "ratio"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _reading(found, folder, rounds)
        for gpus, rate_scaling, load in ((100, CALM, "mostly idle"), (8, RUSH, "overloaded")):
            _metrics(found, num_requests, gpus, rate_scaling, load, rounds)
        _sweeps(found, folder, max(rounds // 2, 1))
    found.remarks.append(
        "Reading and metrics are given in processor time of this process, sweeps in wall time. The CSV has "
        f"{ROWS:,} rows in the format of BurstGPT, from the generator. Metrics are those of {num_requests:,} requests, "
        "percentiles included."
    )
    return found


def write_csv(path: Path, rows: int) -> None:
    """Write a file in the format of BurstGPT_1.csv from the generated workload."""
    import pyarrow as pa
    from pyarrow import csv

    trace = load_trace("burstgpt_like", num_requests=rows * 49 // 50, timestamps="real")
    of = np.linspace(0, len(trace) - 1, rows).astype(np.int64)
    answered = np.diff(of, prepend=-1) > 0  # every fiftieth row failed, as in the real file
    output = np.where(answered, trace.output_tokens[of], 0)
    columns = {
        "Timestamp": np.floor(trace.arrival_s[of]).astype(np.int64),
        "Model": np.full(rows, "ChatGPT"),
        "Request tokens": trace.prompt_tokens[of],
        "Response tokens": output,
        "Total tokens": trace.prompt_tokens[of] + output,
        "Log Type": np.full(rows, "Conversation log"),
    }
    csv.write_csv(pa.table(columns), path, csv.WriteOptions(quoting_style="none"))


def _reading(found: Table, folder: Path, rounds: int) -> None:
    path = folder / "burstgpt.csv"
    write_csv(path, ROWS)
    os.utime(path, ns=(0, 0))

    a, b = reading_s(path, "off", rounds), reading_s(path, str(folder / "cache"), rounds)
    megabytes = path.stat().st_size / 1e6
    found.rows.append(
        [f"reading a CSV ({megabytes:.0f} MB)", f"{a:.3f}", "its converted copy", f"{b:.3f}", f"{a / b:.0f}"]
    )
    found.numbers["reading"] = {"first_s": a, "again_s": b, "megabytes": megabytes}


def reading_s(path: Path, cache: str, rounds: int) -> float:
    """Return the processor time of reading a file in a process that has read it once before."""
    command = [sys.executable, "-m", "benchmarks.around", str(path), str(rounds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | {"MBEXP_CACHE": cache})
    return float(done.stdout)


def _metrics(found: Table, requests: int, gpus: int, rate_scaling: float, load: str, rounds: int) -> None:
    config = configure(num_requests=requests, num_gpus=gpus, k_bins=8, **{"workload.rate_scaling": rate_scaling})
    trace = bursty_trace(requests, rate_scaling)
    problem = make_problem(config, trace, foreseen(config, trace))
    outcome = run_to_completion.simulate(problem)
    times = in_turn(
        {
            "metrics": lambda: summarize(problem, outcome),
            "simulation": lambda: run_to_completion.simulate(problem),
        },
        {"metrics": rounds, "simulation": rounds},
    )
    metrics, simulation = (float(np.median(times[name])) for name in ("metrics", "simulation"))
    row = [f"metrics, {gpus} GPUs, {load}", f"{metrics:.3f}", "the simulation", f"{simulation:.3f}"]
    found.rows.append([*row, f"{metrics / simulation:.2f}"])
    found.numbers[f"metrics/{load}"] = {"metrics_s": metrics, "simulation_s": simulation}


def _sweeps(found: Table, folder: Path, rounds: int) -> None:
    """What a run of a sweep costs beyond its simulation, and what a second core brings."""
    values = f"scheduler.controller.interval_batches=range(1,{SWEEP_RUNS + 1})"
    many, few, alone = [], [], []
    for number in range(rounds):
        many.append(sweep_s(folder / f"many{number}", 1, f"num_requests={SMALL_RUN}", values))
        few.append(
            sweep_s(
                folder / f"few{number}", 1, f"num_requests={SMALL_RUN}", "scheduler.controller.interval_batches=1,2"
            )
        )
        alone.append(simulation_s(SMALL_RUN))
    each = (float(np.median(many)) - float(np.median(few))) / (SWEEP_RUNS - 2)
    inside = float(np.median(alone))
    found.rows.append(
        [f"one run more in a sweep, {SMALL_RUN:,} requests", f"{each:.4f}", "its simulation", f"{inside:.4f}", "-"]
    )
    found.numbers["sweep"] = {"each_s": each, "simulation_s": inside, "overhead_s": each - inside}
    if (os.cpu_count() or 1) < 2:
        return
    words = (
        f"num_requests={LARGE_RUN}",
        "num_gpus=100",
        f"workload.rate_scaling={CALM}",
        f"scheduler.controller.interval_batches=range(1,{LARGE_RUNS + 1})",
        "output.batches=false",
    )
    one, two = (sweep_s(folder / f"jobs{jobs}", jobs, *words) for jobs in (1, 2))
    found.rows.append(
        [f"a sweep of {LARGE_RUNS} x {LARGE_RUN:,} requests, one core", f"{one:.1f}", "two cores", f"{two:.1f}",
         f"{one / two:.2f}"]
    )  # fmt: skip
    found.numbers["cores"] = {"one_s": one, "two_s": two}


def sweep_s(folder: Path, jobs: int, *words: str) -> float:
    """Return the wall time of a sweep that stores its summaries and tables of batches."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "mbexp", "--multirun", f"output.dir={folder}", *words],
        check=True,
        capture_output=True,
        env=os.environ | {"MBEXP_JOBS": str(jobs)},
    )
    return time.perf_counter() - began


def simulation_s(requests: int) -> float:
    """Return the wall time of one run without a file, its trace and its predictions known."""
    from mbexp.run import run

    config = configure(num_requests=requests)
    trace = load_trace("burstgpt_like", num_requests=requests)
    prediction = foreseen(config, trace)
    run(config, trace, prediction)
    times = []
    for _ in range(20):
        began = time.perf_counter()
        run(config, trace, prediction)
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def main() -> None:
    """Read a file several times and print the median; the body of the process that `reading_s` starts."""
    path, rounds = sys.argv[1], int(sys.argv[2])
    times = in_turn({"read": lambda: load_trace("burstgpt", path=path, num_requests=None)}, {"read": rounds})
    print(float(np.median(times["read"])))


if __name__ == "__main__":
    main()
