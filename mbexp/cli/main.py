"""The command line: Hydra composes a configuration, one run is made of it, and a mistake becomes one line."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from mbexp.cli import folders
from mbexp.cli.signals import interruptible
from mbexp.cli.words import check_environment, check_words, completed_study_names, quoted_targets
from mbexp.config.compose import refuse_missing_folders
from mbexp.config.keys import all_defaults, load_config
from mbexp.config.messages import NO_DEFAULTS, explain
from mbexp.errors import READER_GONE, UserError, as_program
from mbexp.paths import config_dir, replaced_config_files, use_config_dirs
from mbexp.sweep import sweeper
from mbexp.version import __version__

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Every key exists before the groups are read, so that any of them can be set whatever file a group takes.
_all_keys = OmegaConf.create(all_defaults())
for _open in (
    _all_keys.scheduler.parameters,
    _all_keys.predictor.parameters,
    _all_keys.workload.where,
    _all_keys.workload.classes,
):  # their names are the user's own
    OmegaConf.set_struct(_open, False)
ConfigStore.instance().store(name="all_keys", node=_all_keys)
# Hydra copies its store with every question about a group, 85 times for --help; what it takes out is a copy anyway.
ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]
sweeper.register()
folders.register()


@hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")
def job(composed: DictConfig) -> None:
    """Make one run of a composed configuration."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf.errors import OmegaConfBaseException

    try:
        if "workload" not in composed:
            raise UserError(f"-cn {HydraConfig.get().job.config_name}: {NO_DEFAULTS}")
        _refuse_unasked_sweep(HydraConfig.get())
        values: Any = OmegaConf.to_container(composed, resolve=True)
        config = load_config(values)  # before anything slow is imported, so that mistakes show at once
        from mbexp.cli.job import run_and_store

        run_and_store(config)
    except (UserError, OmegaConfBaseException) as error:
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            raise
        # Hydra would put a line of its own before the message.
        sys.exit(f"mbexp: {explain(error) or error}")


def _refuse_unasked_sweep(hydra_config: Any) -> None:
    """Refuse one run of a study file that says what to sweep: without a mode Hydra would leave that out silently."""
    from hydra.types import RunMode

    asked = [name for name in ("params", "points", "best_of") if hydra_config.sweeper.get(name)]
    if asked and hydra_config.mode is not RunMode.MULTIRUN and "hydra.mode=RUN" not in sys.argv:
        raise UserError(
            f"hydra.sweeper.{asked[0]} is set, but one run was asked for: "
            f"add -m, or `mode: MULTIRUN` below hydra: in {hydra_config.job.config_name}.yaml"
        )


def main() -> None:
    """Run the command line, and turn whatever ends it into a line and an exit code."""
    # What is imported stays to the end; looking for garbage among it would take a quarter of a short run.
    gc.set_threshold(100_000, 50, 50)
    atexit.register(gc.freeze)
    # Hydra prints errors in its own words unless told to let them through.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    if os.environ["HYDRA_FULL_ERROR"] != "1":
        job()
        return
    try:
        check_environment()
        if "--version" in sys.argv[1:]:
            print(f"mbexp {__version__}")
            return
        if (names := completed_study_names()) is not None:
            print(*names)
            return
        use_config_dirs(sys.argv[1:])
        refuse_missing_folders()
        check_words(sys.argv[1:])
        sys.argv[1:] = map(quoted_targets, sys.argv[1:])
        for path, name in replaced_config_files():
            print(f"mbexp: {path} takes the place of mbexp's own {name}", file=sys.stderr)
        with interruptible():
            job()
        sys.stdout.flush()  # here, where a reader that has gone can still be met
    except UserError as error:
        sys.exit(f"mbexp: {error}")
    except KeyboardInterrupt:
        print("mbexp: interrupted; nothing half-written was left behind", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `mbexp ... | head`
        sys.exit(READER_GONE)
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        sys.exit(f"mbexp: {line}")


def start() -> None:
    """Run the command line as a program: the entry point of ``mbexp`` and ``python -m mbexp``."""
    as_program(main)
