"""A run as the command line makes it: simulate, store, and tell the user what came out."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from mbexp.config.keys import Config
from mbexp.modes import mode_of
from mbexp.results.terminal import report, say_if_compiling


def run_and_store(config: Config) -> Path:
    """Run `config`, write its folder under `config.output.dir` and print a short table; return the folder."""
    began = time.perf_counter()
    say_if_compiling(config.execution.name, mode_of(config).LOOP)
    from mbexp.results.replications import run_replications
    from mbexp.results.store import command_line, generated_hash, new_folder, run_key, save
    from mbexp.run import run

    result, summaries = run_replications(config, run)
    lines = report(result)
    key = run_key(config, result.trace.file_sha256 or generated_hash())
    folder = new_folder(Path(config.output.dir), config, key)
    save(result, folder, command_line(), "\n".join(lines) + "\n", replications=summaries)
    print("\n".join(lines))
    print(f"stored in {folder}  ({time.perf_counter() - began:.2f} s in all)")
    sys.stdout.flush()
    return folder
