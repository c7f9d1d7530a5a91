"""Run folders: written complete or not at all, named so that no two runs share one, and read back."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbexp.config.keys import Config
from mbexp.config.model_files import model_path
from mbexp.config.schema import dotted_paths, is_group
from mbexp.errors import UserError
from mbexp.results.stored import manifest
from mbexp.version import RESULTS_VERSION, __version__

if TYPE_CHECKING:
    from mbexp.results.result import Result

# From so long a run on it is flushed to the disk before it counts as stored. A shorter one is sooner made again, and
# what a power cut leaves of it is recognised (see `mbexp.results.stored`).
DURABLE_FROM_S = 1.0
ASIDE = ".*.aside"  # what files that are being written are called
REQUESTS_BY_DEFAULT = 1_000_000  # up to this many, requests.parquet is stored unless the config says otherwise
NOT_IN_KEY = ("output", "study", "force")  # groups and keys that change no number
DEPENDENCIES = ("numpy", "numba", "llvmlite", "pyarrow", "hydra-core", "omegaconf", "scipy")


def run_key(
    config: Config,
    trace_hash: str,
    named: Sequence[str] | None = None,
    known: dict[int, tuple[Any, str]] | None = None,
) -> str:
    """Return 12 hex digits that name a run: its resolved configuration, its trace and the version of the results.

    `trace_hash` is that of the file the requests come from, or `generated_hash`; neither needs the requests. What
    does not change the numbers is left out: where results are written and which files, and what a sweep is for.
    `named` is what `named_files` returns, where that is known already. `known` keeps the text of each group, so that
    the runs of a sweep, which share most of theirs, are named without writing it again.
    """
    known = {} if known is None else known
    named = named_files(config) if named is None else named
    texts = []
    for name in sorted(field.name for field in dataclasses.fields(config) if field.name not in NOT_IN_KEY):
        value = getattr(config, name)
        if not is_group(value):
            text = json.dumps(value)
        elif id(value) in known:
            _, text = known[id(value)]
        else:
            text = json.dumps(_keyed(name, dataclasses.asdict(value)), sort_keys=True)
            known[id(value)] = value, text  # which keeps it, and so its id
        texts.append(f'"{name}": {text}')
    parts = [*map(json.dumps, (RESULTS_VERSION, trace_hash)), "{" + ", ".join(texts) + "}", *map(json.dumps, named)]
    return hashlib.sha256(("[" + ", ".join(parts) + "]").encode()).hexdigest()[:12]


def _keyed(group: str, values: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a group what changes no number."""
    if group == "scheduler" and values["wait"] == "none":
        values.pop("wait")  # as it was before there was the key
    if group == "sla":
        values.pop("targets")  # what is asked of a run changes nothing in it
    if group == "workload":
        values.pop("path")  # the trace's hash stands for it, wherever the file lies
    if group == "predictor" and values["low_factor"] == values["high_factor"] == 1:
        values.pop("low_factor"), values.pop("high_factor")
    if group == "execution":
        values.pop("engine")  # the limits that it gave stand there as numbers
        if values["future_estimate"] != "history":
            values.pop("future_history")
        for name, usual in (("future_estimate", "predicted"), ("gives_way", "admitted_last")):
            if values[name] == usual:
                values.pop(name)  # as before there were others
        if values["prefill"] == "first":
            values.pop("admission")  # it has a meaning where prompts are computed in chunks
    return values


def generated_hash() -> str:
    """Return what stands for the hash of a trace file where requests are generated: the source of random numbers.

    All else that they depend on is in the configuration, and in `RESULTS_VERSION`.
    """
    return "numpy " + ".".join(importlib.metadata.version("numpy").split(".")[:2])


def named_files(config: Config) -> list[str]:
    """Return hashes of what a configuration names besides the trace: a latency grid, a user's rules with all they use.

    What a rule uses are the modules it imports and the files it reads (see `mbexp.config.dependencies`).
    """
    from mbexp.config.plugins import source_digest

    hashes = [source_digest(key, name) for key, name in dotted_paths(config).items()]
    if (model := _model_file(config)) is not None:
        hashes.append(hashlib.sha256(model.read_bytes()).hexdigest())
    if config.gpu.law.path is not None:
        from mbexp.hardware.grid import find_grid

        hashes.append(hashlib.sha256(find_grid(config.gpu.law.path).read_bytes()).hexdigest())
    return hashes


def names_files(config: Config) -> bool:
    """Whether there is any of them."""
    return config.gpu.law.path is not None or bool(dotted_paths(config)) or _model_file(config) is not None


def _model_file(config: Config) -> Path | None:
    path = model_path(config.gpu.law.model)
    return path if path is not None and path.is_file() else None


def new_folder(parent: Path, config: Config, key: str) -> Path:
    """Return the name of a new run folder: when, what and its key. Microseconds and the key keep two runs apart."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    # A label can hold anything, a path even; the folder lies in `parent` all the same.
    label = re.sub(r"[^\w.-]+", "-", config.scheduler.name, flags=re.ASCII)[:60]
    return parent / f"{stamp}_{label}_{key}"


def save(
    result: Result,
    folder: Path,
    command: list[str],
    log: str = "",
    overrides: Sequence[str] | None = None,
    replications: Sequence[dict[str, Any]] = (),
    replace: bool = False,
    plan: str | None = None,
) -> Path:
    """Write a run folder, aside first and renamed when complete.

    Holds ``summary.json``, ``batches.parquet``, ``requests.parquet`` (see `OutputConfig`), ``config.yaml``,
    ``provenance.json`` and ``run.log``; of a run with replications the tables are those of its first seed.

    Parameters
    ----------
    overrides
        What makes the run a point of its sweep, written to ``overrides.yaml``.
    replications
        Summary of each seed, written to ``replications.parquet`` where there are several.
    replace
        Whether a folder of that name gives way; otherwise it stays, since the same key means the same results.
    plan
        Token of the sweep that made the run, written to ``provenance.json``.

    Raises
    ------
    UserError
        If the folder cannot be written.
    """
    from mbexp.results.own import own_rows
    from mbexp.results.tables import replications_table, write_batches, write_requests

    output = result.config.output
    keep_requests = len(result.trace) <= REQUESTS_BY_DEFAULT if output.requests is None else output.requests
    with complete_folder(folder, replace, result.summary["wall_time_s"] >= DURABLE_FROM_S) as aside:
        write_json(aside / "summary.json", {**result.summary, "warnings": "\n".join(result.warnings)})
        if output.batches:
            write_batches(result.mode, result.outcome, aside / "batches.parquet")
        if keep_requests:
            write_requests(result.outcome, result.trace, aside / "requests.parquet")
            for further in result.further_seeds:
                write_requests(further.outcome, further.trace, aside / f"requests_{further.config.seed}.parquet")
        if len(replications) > 1:
            import pyarrow.parquet as parquet

            parquet.write_table(replications_table(replications), aside / "replications.parquet")
        if overrides is not None:
            lines = json.dumps(list(overrides), indent=0, ensure_ascii=False)  # JSON is YAML too
            (aside / "overrides.yaml").write_text(lines + "\n", encoding="utf-8")
        (aside / "config.yaml").write_text(to_yaml(result.config), encoding="utf-8")
        (aside / "run.log").write_text(log, encoding="utf-8")
        own = {"own_metrics": rows} if (rows := own_rows(result.summary)) else {}
        write_json(
            aside / "provenance.json", provenance(result, command) | own | {"plan": plan, "files": manifest(aside)}
        )
    return folder


@contextmanager
def complete_folder(folder: Path, replace: bool = False, durable: bool = False) -> Iterator[Path]:
    """Give a folder to write in, and make it `folder` only when the block ends well; otherwise leave nothing behind.

    Where there is such a folder already, it is kept (the same key means the same results) unless `replace` is set.
    `durable` has all of it on the disk before it takes its name.
    """
    aside = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.partial"
    try:
        try:
            aside.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"output.dir={folder.parent}: cannot write there ({error.strerror})") from error
        yield aside
        if durable:
            flush(aside)
        if replace and folder.is_dir():
            former = aside.with_suffix(".former")
            os.rename(folder, former)
            os.rename(aside, folder)
            shutil.rmtree(former, ignore_errors=True)
        else:
            try:
                os.rename(aside, folder)
            except OSError:
                if not folder.is_dir():
                    raise
                shutil.rmtree(aside, ignore_errors=True)
        if durable:
            flush(folder.parent, content=False)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise UserError(f"output.dir={folder.parent}: writing failed ({error.strerror or error})") from error
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def flush(folder: Path, content: bool = True) -> None:
    """Have the files of a folder, and their names, on the disk."""
    for path in [*(folder.iterdir() if content else ()), folder]:
        with suppress(IsADirectoryError, PermissionError):  # not every system opens folders
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            except OSError:
                if path != folder:  # not every file system flushes folders
                    raise
            finally:
                os.close(handle)


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` write a file aside, which takes the place of `path` when it is complete; leave nothing else behind.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}{ASIDE.removeprefix('.*')}")
    try:
        write(aside)
        os.replace(aside, path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write `values` as JSON, NaN and infinity as null."""
    path.write_text(json.dumps(_plain(values), indent=2) + "\n", encoding="utf-8")


def to_yaml(config: Config) -> str:
    """Return the resolved configuration as YAML."""
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the C form is several times faster
    text: str = yaml.dump(dataclasses.asdict(config), Dumper=dumper, sort_keys=False, allow_unicode=True)
    return text


def provenance(result: Result, command: list[str]) -> dict[str, Any]:
    """Return what is needed to know where a result came from, and to make it again."""
    return {
        "mbexp_version": __version__,
        "results_version": RESULTS_VERSION,
        "git": git_state(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libc": " ".join(platform.libc_ver()),
        "cpu": cpu_model(),
        "dependencies": dependency_versions(),
        "command": command,
        "finished": datetime.now(UTC).isoformat(),
        "wall_time_s": result.summary["wall_time_s"],
        "seed": result.config.seed,
        "trace_sha256": result.trace.sha256,
        "trace_source": result.trace.source,
        "trace_dropped": result.trace.dropped,
        "trace_changed": result.trace.changed,
        "law": result.law.name,
        "law_provenance": result.law.provenance,
    }


@functools.cache
def dependency_versions() -> dict[str, str]:
    """Return the version of each dependency that takes part in a result."""
    return {name: importlib.metadata.version(name) for name in DEPENDENCIES}


@functools.cache
def cpu_model() -> str:
    """Return the name of the processor: last bits of a result may hang on it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


@functools.cache  # the state that the running code was loaded from, or close to it; git takes longer than a small run
def git_state() -> dict[str, Any] | None:
    """Return commit and cleanliness of the checkout that the package runs from; None for an installed package."""
    root = Path(__file__).resolve().parent.parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return {"commit": commit, "modified": bool(_git(root, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def command_line() -> list[str]:
    """Return the command that is running, as a user would type it."""
    program = Path(sys.argv[0]).name
    head = ["python", "-m", "mbexp"] if program == "__main__.py" else [program]
    return head + sys.argv[1:]
