"""Composes a configuration from the config groups without Hydra, for notebooks and scripts."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import numpy as np

from mbexp.config.keys import Config, load_config
from mbexp.config.messages import explain
from mbexp.errors import UserError, unknown_choice
from mbexp.paths import config_dir


def configure(**values: Any) -> Config:
    """Return a checked configuration, with the names of the command line.

    Parameters
    ----------
    **values
        A group by the name of its file (``scheduler="static_fifo"``), some keys of a group (``sla={"request_s": 5}``),
        a top-level key (``num_gpus=8``), or a dotted key (``**{"scheduler.fixed_batch_size": 16}``).

    Raises
    ------
    UserError
        As on the command line.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    merged = _read(config_dir() / "config.yaml")
    merged.pop("hydra", None)
    groups = {entry_group: name for entry in merged.pop("defaults") if isinstance(entry, dict)
              for entry_group, name in entry.items() if " " not in entry_group}  # fmt: skip
    chosen = {key: value for key, value in values.items() if key in groups and isinstance(value, str)}
    groups |= _brought(chosen) | chosen
    merged = {group: _group(group, name) for group, name in groups.items()} | merged
    for key, value in values.items():
        if key not in chosen:
            _set(merged, key, value)
    try:
        resolved: Any = OmegaConf.to_container(OmegaConf.create(merged), resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(explain(error) or str(error)) from error
    return load_config(resolved)


def _set(merged: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a dotted key; the keys of a dict are set one by one, and those it does not name keep their values."""
    *groups, name = dotted.split(".")
    place = merged
    for group in groups:
        inner = place.setdefault(group, {})
        if not isinstance(inner, dict):
            raise UserError(f"{dotted}: '{group}' is a single value, not a group of keys")
        place = inner
    if isinstance(value, dict) and isinstance(place.get(name), dict):
        for key, item in value.items():
            _set(place[name], str(key), item)
    else:
        place[name] = value.item() if isinstance(value, np.generic) else value


def _group(group: str, name: str) -> dict[str, Any]:
    folder = config_dir() / group
    choices = [path.stem for path in folder.glob("*.yaml")]
    if name not in choices:
        raise unknown_choice(group, name, choices)
    path = folder / f"{name}.yaml"
    keys = _read(path)
    if not isinstance(keys, dict) or any(not word.startswith("override /") for word in _overrides(keys)):
        raise UserError(f"{path}: a config group is one file of keys, without defaults of its own")
    keys.pop("defaults", None)
    return keys


def _brought(chosen: dict[str, str]) -> dict[str, str]:
    """Return the groups that files chosen by name change with them, as Hydra does: ``override /gpu: NAME``."""
    brought: dict[str, str] = {}
    for group, name in chosen.items():
        path = config_dir() / group / f"{name}.yaml"
        if path.is_file():
            brought |= {key.removeprefix("override /"): value for key, value in _overrides(_read(path)).items()}
    return brought


def _overrides(keys: Any) -> dict[str, str]:
    """Return the entries of a file's list of defaults."""
    entries = keys.get("defaults", []) if isinstance(keys, dict) else []
    return {
        str(key): value
        for entry in entries
        for key, value in (entry if isinstance(entry, dict) else {entry: ""}).items()
    }


def _read(path: Path) -> dict[str, Any]:
    """Return a file's keys, a copy of one's own; parsing YAML takes longer than a small run."""
    return copy.deepcopy(_parsed(path, path.stat().st_mtime_ns))


@functools.lru_cache(maxsize=256)
def _parsed(path: Path, changed_ns: int) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.load(path), resolve=False)
