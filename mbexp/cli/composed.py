"""A configuration from overrides as on the command line, for commands that run more than a simulation."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mbexp.config.keys import Config, load_config
from mbexp.config.messages import explain
from mbexp.errors import UserError
from mbexp.paths import config_dir


def composed(overrides: Sequence[str], own_dir: str | None = None) -> Config:
    """Return the checked configuration of overrides; later ones replace earlier ones.

    Parameters
    ----------
    overrides
        As of mbexp: ``gpu=roofline_h100``, ``num_requests=200``.
    own_dir
        Folder with config groups of the user's own (``--config-dir``).

    Raises
    ------
    UserError
        As on the command line.
    """
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    import mbexp.cli.main  # noqa: F401  (gives Hydra every key with its default)

    every = list(overrides)
    if own_dir:
        if not Path(own_dir).is_dir():
            raise UserError(f"--config-dir={own_dir}: no such folder")
        every.append(f"hydra.searchpath=[file://{Path(own_dir).resolve().as_posix()}]")
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            found = compose("config", every)
        values: Any = OmegaConf.to_container(found, resolve=True)
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        raise UserError(line) from None
    return load_config(values)


@contextmanager
def told(command: str) -> Iterator[None]:
    """End a command that writes all or nothing: a user's mistake is one line and exit code 1, an interrupt 130."""
    try:
        yield
    except UserError as error:
        sys.exit(f"{command}: {error}")
    except KeyboardInterrupt:
        print(f"{command}: interrupted; nothing was written", file=sys.stderr)
        sys.exit(130)
