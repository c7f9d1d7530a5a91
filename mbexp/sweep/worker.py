"""What one job of a sweep does: claim a run, make it, store it, and go on to the next, whatever happens to one."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbexp.config.keys import Config
from mbexp.errors import UserError
from mbexp.sweep.claims import can_claim, claim
from mbexp.sweep.inputs import SharedInputs
from mbexp.sweep.plan import CLAIMS, FAILED, Plan, Run, read_plan, stored

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)  # no further run can be stored either
POLL_S = 0.1


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

        if self.parent is not None and self.parent != os.getpid():
            end_with(self.parent)
        number = int(HydraConfig.get().job.num)
        mine = self.shares[number]
        others = [place for share in self.shares[number + 1 :] + self.shares[:number] for place in reversed(share)]
        return make_runs(read_plan(self.plan_file), [*mine, *others] if self.help_others else mine, self.plan_file)


def make_runs(plan: Plan, places: Iterable[int], plan_file: Path, inputs: SharedInputs | None = None) -> list[Outcome]:
    """Make the runs at `places` of the plan that are neither stored nor in someone else's hands; say how they ended."""
    inputs = inputs or SharedInputs()
    since = plan_file.stat().st_mtime_ns if plan.force else None
    waiting = [plan.runs[place] for place in places]
    outcomes: list[Outcome] = []
    while waiting:
        held = []
        for run in waiting:
            if stored(plan.folder, run.key, since) or has_failed(plan.folder, run.key, plan_file):
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
                if stored(plan.folder, run.key, since):  # by whoever held it until now
                    continue
                outcome, stop = _attempt(plan, run, inputs)
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
    """End this process when `parent` does, so that nothing goes on computing unseen."""
    direct = os.getppid() == parent

    def watch() -> None:
        while os.getppid() == parent if direct else _alive(parent):
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


def _attempt(plan: Plan, run: Run, inputs: SharedInputs) -> tuple[Outcome, bool]:
    """Make and store one run. Return how that ended, and whether it is no use to go on."""
    from mbexp.results.store import run_key, save
    from mbexp.results.terminal import report

    log = plan.folder / FAILED / f"{run.key}.log"
    try:
        trace = inputs.trace(run.config)
        if trace.file_sha256 and trace.file_sha256 != run.trace_hash:
            raise UserError(f"workload={run.config.workload.kind}: the file has changed since the sweep began")
        result, summaries = make_run(run.config, inputs)
        if run_key(run.config, run.trace_hash) != run.key:  # what was imported may not be what the key stands for
            raise UserError("a rule, something it imports or reads, or a grid has changed since the sweep began")
        save(
            result,
            plan.folder / run.key,
            plan.command,
            "\n".join(report(result)) + "\n",
            overrides=run.overrides,
            replications=summaries,
            replace=plan.force,
        )
        with contextlib.suppress(OSError):
            log.unlink(missing_ok=True)
    except Exception as error:
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        reason = " ".join(reason.split()) or type(error).__name__
        wrote = write_failure(log, run, reason, "" if isinstance(error, UserError) else traceback.format_exc())
        return Outcome(run.key, reason, str(log) if wrote else ""), _no_room(error)
    return Outcome(run.key), False


def write_failure(log: Path, run: Run, reason: str, details: str = "") -> bool:
    """Write why a run failed; return whether that could be written."""
    try:
        log.parent.mkdir(exist_ok=True)
        aside = log.with_suffix(f".{os.getpid()}")
        aside.write_text("\n".join([reason, "", *run.overrides, "", details]), encoding="utf-8")
        os.replace(aside, log)
    except OSError:
        return False
    return True


def has_failed(folder: Path, key: str, plan_file: Path) -> bool:
    """Whether a run has failed since the plan was made, in whatever process."""
    try:
        return (folder / FAILED / f"{key}.log").stat().st_mtime_ns >= plan_file.stat().st_mtime_ns
    except OSError:
        return False


def _no_room(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return True
        error = error.__cause__
    return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError, IndexError):  # ended, but nobody has asked how
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True
