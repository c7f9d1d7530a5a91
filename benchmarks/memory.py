"""Memory: what a run takes beside its trace, and the peak of a whole command."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.growth import HALF_BUSY_PER_S, TOO_MANY_PER_S
from benchmarks.report import Table

BUSY = {"half busy": HALF_BUSY_PER_S, "overloaded": TOO_MANY_PER_S}
GPUS = 100
STARTER = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def table(sizes: list[int], command_requests: int) -> Table:
    """Measure runs of the given numbers of requests, each in a process of its own, and one command that stores all."""
    found = Table("Memory", ["what", "requests", "batches", "bytes/request", "peak, MB", "seconds"])
    if not Path("/proc/self/clear_refs").exists():
        found.remarks.append("Only Linux tells the peak of a part of a process. This part was left out.")
        return found
    for requests in sizes:
        for load in BUSY:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.memory", str(requests), load],
                check=True,
                capture_output=True,
                text=True,
            )
            one = json.loads(done.stdout)
            found.rows.append(
                [
                    f"simulate and summarise, {load}",
                    f"{requests:,}",
                    f"{one['batches']:,}",
                    f"{one['bytes_per_request']:.1f}",
                    f"{one['peak_mb']:.0f}",
                    f"{one['seconds']:.2f}",
                ]
            )
            found.numbers[f"{requests}/{load}"] = one
    for name, rate_scaling in (("one request a batch", 5), ("as the defaults", 200)):
        peak_mb = command_peak_mb(command_requests, rate_scaling)
        found.rows.append(
            [f"command with stored tables, {name}", f"{command_requests:,}", "-", "-", f"{peak_mb:.0f}", "-"]
        )
        found.numbers[f"command/{rate_scaling}"] = peak_mb
    found.remarks.append(
        f"All runs have {GPUS} GPUs. Bytes a request are the peak of the run, less the trace itself (16 bytes a "
        "request) and less what Python and its libraries take."
    )
    return found


def command_peak_mb(requests: int, rate_scaling: float) -> float:
    """Return the peak of a whole command that stores both of its tables."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "mbexp", f"num_requests={requests}", f"num_gpus={GPUS}"),
            *(f"workload.rate_scaling={rate_scaling}", f"output.dir={folder}", "output.requests=true"),
        ]
        # A process counts the memory of the one it was started from, so a small one starts it.
        done = subprocess.run([sys.executable, "-c", STARTER, *command], check=True, capture_output=True, text=True)
    return int(done.stdout) / 1024


def _status_mb(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def main() -> None:
    """Simulate and summarise one run, and print what it took; the body of the process that `table` starts."""
    requests, load = int(sys.argv[1]), sys.argv[2]
    import time

    from benchmarks.cases import steady_trace
    from mbexp import configure
    from mbexp.run import run

    config = configure(num_requests=1000, num_gpus=GPUS, k_bins=8)
    run(config)  # loads everything
    trace = steady_trace(requests, BUSY[load] * GPUS)
    before = _status_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    began = time.process_time()
    result = run(config, trace)
    print(
        json.dumps(
            {
                "batches": result.summary["num_batches"],
                "bytes_per_request": (_status_mb("VmHWM") - before) * 2**20 / requests,
                "peak_mb": _status_mb("VmHWM"),
                "seconds": time.process_time() - began,
            }
        )
    )


if __name__ == "__main__":
    main()
