"""A run as the command line makes it: simulate, store, and tell the user what came out."""

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbexp.config.keys import Config
from mbexp.errors import UserError
from mbexp.modes import mode_of
from mbexp.results.lines import command_lines
from mbexp.results.shown import number
from mbexp.results.terminal import report, say_if_compiling

if TYPE_CHECKING:
    from mbexp.results.targets import Target

GOOD_PCT = 95.0  # share of good requests that is asked for where a run names no targets


def run_and_store(config: Config) -> Path:
    """Run `config`, write its folder under `config.output.dir` and print a short table; return the folder."""
    began = time.perf_counter()
    check_writable(Path(config.output.dir))
    say_if_compiling(config.execution.name, mode_of(config).LOOP)
    from mbexp.results.replications import run_replications
    from mbexp.results.store import command_line, generated_hash, new_folder, run_key, save
    from mbexp.results.targets import read_targets
    from mbexp.run import run

    targets = read_targets(config.sla, config.execution.name, config.workload.classes) if config.sla.targets else []
    result, summaries = run_replications(config, run)
    lines = report(result)
    key = run_key(config, result.trace.file_sha256 or generated_hash())
    folder = new_folder(Path(config.output.dir), config, key)
    save(result, folder, command_line(), "\n".join(lines) + "\n", replications=summaries)
    print("\n".join(lines))
    print(f"stored in {folder}  ({time.perf_counter() - began:.2f} s in all)")
    for target in targets:
        value = target.value(result.summary)
        print(f"target {target}: {'met' if target.excess(value) <= 0 else 'missed'}, {number(value)}")
    if too_few(result.summary, targets):
        command = capacity_command(sys.argv[1:], bool(config.sla.targets))
        print("\n".join(["how many GPUs would do:", *command_lines(command, before="  ")]))
    sys.stdout.flush()
    return folder


def too_few(summary: dict[str, Any], targets: Sequence[Target] = ()) -> bool:
    """Return whether a run leaves the question open how many GPUs it takes: it is overloaded, or misses a target."""
    if summary["overloaded"]:
        return True
    if targets:
        return any(not target.excess(target.value(summary)) <= 0 for target in targets)
    return bool(summary["request_sla_violation_pct"] > 100.0 - GOOD_PCT)


def capacity_command(words: list[str], has_targets: bool) -> str:
    """Return the command that finds the number of GPUs for a run of these words."""
    kept = [word for word in words if "=" in word and not word.startswith(("num_gpus=", "gpu.count=", "-"))]
    if not has_targets:
        kept.append(f"sla.targets=[goodput_pct>={GOOD_PCT:g}]")
    return shlex.join(["python", "-m", "mbexp.capacity", *kept])


def check_writable(folder: Path) -> None:
    """Try to write in a folder, and leave nothing there: what cannot be stored need not be simulated.

    Raises
    ------
    UserError
        If it cannot be made, or nothing can be written in it.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"output.dir={folder}: cannot write there ({error.strerror or error})") from error
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()
