"""What one job of a sweep does: claim a run, make it, store it, and go on to the next, whatever happens to one."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbexp.config.keys import Config
from mbexp.errors import UserError
from mbexp.results.store import names_files, replace_file, run_key, save
from mbexp.results.stored import set_aside
from mbexp.sweep.claims import can_claim, claim
from mbexp.sweep.inputs import SharedInputs
from mbexp.sweep.plan import CLAIMS, FAILED, Plan, Run, read_plan, stored, token_of

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)  # no further run can be stored either
POLL_S = 0.1
WATCHED = ".watched"  # in place of .log: what becomes the log of a run whose process is ended for taking too long
TIMED_OUT = b"Timeout ("  # what faulthandler writes
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    key : str
    reason : str
        Why it failed, in one line; empty where it was made.
    log : str
        File with all that is known; empty where none could be written.
    """

    key: str
    reason: str = ""
    log: str = ""


@dataclass
class Job:
    """A part of a sweep, called by a Hydra launcher in whatever process it uses.

    Attributes
    ----------
    plan_file : Path
    shares : list of list of int
        Places in the plan of the runs of each job, by ``hydra.job.num``.
    help_others : bool
        Whether a job that is done goes on with runs of the others.
    parent : int or None
        Process whose end ends the job too.
    """

    plan_file: Path
    shares: list[list[int]]
    help_others: bool
    parent: int | None = None

    def __call__(self, composed: Any) -> list[Outcome]:
        """Make the runs of the job that Hydra's context names."""
        from hydra.core.hydra_config import HydraConfig

        return self.make_share(int(HydraConfig.get().job.num))

    def make_share(self, number: int) -> list[Outcome]:
        """Make the runs of the job of that number."""
        if self.parent is not None and self.parent != os.getpid():
            end_with(self.parent)
        mine = self.shares[number]
        others = [place for share in self.shares[number + 1 :] + self.shares[:number] for place in reversed(share)]
        return make_runs(read_plan(self.plan_file), [*mine, *others] if self.help_others else mine, self.plan_file)


def make_runs(plan: Plan, places: Iterable[int], plan_file: Path, inputs: SharedInputs | None = None) -> list[Outcome]:
    """Make the runs at `places` of the plan that are neither stored nor in someone else's hands; say how they ended."""
    inputs = inputs or SharedInputs()
    token = token_of(plan_file)
    again = token if plan.force else None
    waiting = [plan.runs[place] for place in places]
    outcomes: list[Outcome] = []
    while waiting:
        held = []
        for run in waiting:
            if stored(plan.folder, run.key, again) or has_failed(plan.folder, run.key, token):
                continue
            with contextlib.ExitStack() as stack:
                try:
                    mine = stack.enter_context(claim(plan.folder / CLAIMS / run.key))
                except OSError as error:
                    outcomes.append(Outcome(run.key, f"cannot write in {plan.folder} ({error.strerror or error})"))
                    return outcomes
                if not mine:
                    held.append(run)
                    continue
                if stored(plan.folder, run.key, again):  # by whoever held it until now
                    continue
                outcome, stop = _attempt(plan, run, inputs, token)
            outcomes.append(outcome)
            if stop:
                return outcomes
        waiting = held
        if held and can_claim():
            time.sleep(POLL_S)  # someone else has them: wait to see how they end
    return outcomes


def make_run(config: Config, inputs: SharedInputs) -> Any:
    """Return result and summaries of a run (see `run_replications`) on shared requests and predictions."""
    from mbexp.results.replications import run_replications
    from mbexp.run import run

    return run_replications(config, lambda one: run(one, inputs.trace(one), inputs.prediction(one)))


def end_with(parent: int) -> None:
    """End this process when `parent` does, so that nothing goes on computing unseen.

    Linux does it, whatever this process computes. Elsewhere a thread does, which compiled code can keep waiting.
    """
    direct = os.getppid() == parent
    if direct and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    def watch() -> None:
        while os.getppid() == parent if direct else is_alive(parent):
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


def _attempt(plan: Plan, run: Run, inputs: SharedInputs, token: str) -> tuple[Outcome, bool]:
    """Make and store one run. Return how that ended, and whether it is no use to go on."""
    log = plan.folder / FAILED / f"{run.key}.log"
    try:
        with ended_in_time(log, run, token):
            return _make_and_store(plan, run, inputs, token, log), False
    except Exception as error:
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        reason = " ".join(reason.split()) or type(error).__name__
        details = "" if isinstance(error, UserError) else traceback.format_exc()
        wrote = write_failure(log, run, token, reason, details)
        return Outcome(run.key, reason, str(log) if wrote else ""), _no_room(error)


def _make_and_store(plan: Plan, run: Run, inputs: SharedInputs, token: str, log: Path) -> Outcome:
    from mbexp.results.terminal import report

    trace = inputs.trace(run.config)
    if trace.file_sha256 and trace.file_sha256 != run.trace_hash:
        raise UserError(f"workload={run.config.workload.kind}: the file has changed since the sweep began")
    result, summaries = make_run(run.config, inputs)
    # What was imported may not be what the key stands for.
    if names_files(run.config) and run_key(run.config, run.trace_hash) != run.key:
        raise UserError("a rule, something it imports or reads, or a grid has changed since the sweep began")
    folder = plan.folder / run.key
    if folder.exists() and not stored(plan.folder, run.key):
        set_aside(folder)
    lines = "\n".join(report(result)) + "\n"
    save(result, folder, plan.command, lines, run.overrides, summaries, replace=plan.force, plan=token)
    with contextlib.suppress(OSError):
        log.unlink(missing_ok=True)
    return Outcome(run.key)


@contextlib.contextmanager
def ended_in_time(log: Path, run: Run, token: str) -> Iterator[None]:
    """End this process, compiled loop or not, where the block takes longer than ``study.timeout_s``.

    What then becomes the log of the run lies beside it meanwhile, and tells where it was.
    """
    timeout_s = run.values["study"]["timeout_s"]
    if timeout_s is None:
        yield
        return
    watched = log.with_suffix(WATCHED)
    write_failure(watched, run, token, f"took longer than study.timeout_s={timeout_s:g}")
    with watched.open("a") as file:
        faulthandler.dump_traceback_later(timeout_s, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            watched.unlink(missing_ok=True)


def ran_out(watched: Path) -> bool:
    """Whether the process of a run was ended because it took too long."""
    return TIMED_OUT in watched.read_bytes()


def write_failure(log: Path, run: Run, token: str, reason: str, details: str = "") -> bool:
    """Write why a run of a plan failed; return whether that could be written."""
    text = "\n".join([reason, token, "", *run.overrides, "", details])
    try:
        log.parent.mkdir(exist_ok=True)
        replace_file(log, lambda path: path.write_text(text, encoding="utf-8"))
    except OSError:
        return False
    return True


def failure(folder: Path, key: str, token: str) -> str:
    """Return why a run of a plan failed, in whatever process; empty where it did not."""
    try:
        with (folder / FAILED / f"{key}.log").open(encoding="utf-8", errors="replace") as file:
            reason, of = file.readline().strip(), file.readline().strip()
    except OSError:
        return ""
    return (reason or "no reason is known") if of == token else ""


def has_failed(folder: Path, key: str, token: str) -> bool:
    """Whether a run of a plan has failed, in whatever process."""
    return bool(failure(folder, key, token))


def _no_room(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return True
        error = error.__cause__
    return False


def is_alive(pid: int) -> bool:
    """Whether a process of this machine has not ended yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError, IndexError):  # ended, but nobody has asked how
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True
