"""Time what reads many stored runs: python scripts/time_stored_runs.py [COUNT]

A sweep of so many points (20,000) is stored without simulating it: each run is a copy of one real run under its own
key and configuration. Then the same sweep is resumed, its runs are listed, and its report is written, each command
twice: the first has no index of the runs, the second has one. Prints a line for each.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
NAME = "many"
EACH_SEED = 40  # points


def sweep(folder: str, count: int) -> list[str]:
    """Return the words of a sweep of so many points."""
    return [
        *("--multirun", f"study.name={NAME}", f"output.dir={folder}", "num_requests=200", "output.requests=false"),
        *("output.batches=false", "k_bins=1,2,4,8", "num_gpus=range(1,11)", f"seed=range({count // EACH_SEED})"),
    ]


def store(words: Sequence[str]) -> None:
    """Store every run of a sweep as a copy of its first one."""
    from mbexp.cli.main import main
    from mbexp.results.store import save
    from mbexp.sweep.inputs import SharedInputs
    from mbexp.sweep.worker import make_run

    def copies(plan: Any, plan_file: Path, places: Sequence[int], crew: Any, suspects: Any, made: Any) -> None:
        result, _ = make_run(plan.runs[places[0]].config, SharedInputs())
        for place in places:
            run = plan.runs[place]
            object.__setattr__(result, "config", run.config)
            save(result, plan.folder / run.key, plan.command, "", run.overrides, plan=plan_file.stem)

    with (
        mock.patch("mbexp.sweep.engine.make", copies),
        mock.patch.object(sys, "argv", ["mbexp", *words]),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        main()


def timed(module: str, words: Sequence[str], cache: str) -> tuple[float, str]:
    """Return how long a command takes, and the last line that it prints."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        env=os.environ | {"MBEXP_CACHE": cache},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - began, done.stdout.strip().splitlines()[-1]


def main() -> int:
    """Print the times; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=20_000)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory(prefix="mbexp-stored-") as folder:
        words = sweep(f"{folder}/outputs", count)
        began = time.perf_counter()
        store(words)
        print(f"{count:,} runs stored in {time.perf_counter() - began:.0f} s", flush=True)
        study = f"{folder}/outputs/{NAME}"
        for what, module, given in (
            ("resume", "mbexp", words),
            ("runs", "mbexp.runs", [study, "--limit", "1"]),
            ("report", "mbexp.report", [study]),
        ):
            cache = f"{folder}/cache-{what}"
            for index in ("no index", "an index"):
                seconds, line = timed(module, given, cache)
                print(f"{what:>7}  {index}  {seconds:6.1f} s  {line.replace(f'{folder}/', '')}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
