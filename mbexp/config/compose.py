"""Composes a configuration from the config groups without Hydra, for notebooks and scripts."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mbexp.config.keys import Config, load_config
from mbexp.config.messages import explain
from mbexp.errors import UserError, unknown_choice
from mbexp.paths import config_files, missing_config_dirs

OVERRIDE = "override /"  # what a list of defaults in a file of a group may do: choose for another group


def configure(**values: Any) -> Config:
    """Return a checked configuration. Keys have the names that they have on the command line.

    Parameters
    ----------
    **values
        A group by the name of its file (``scheduler="static_fifo"``), some keys of a group (``sla={"request_s": 5}``),
        a top-level key (``num_gpus=8``), or a dotted key (``**{"scheduler.fixed_batch_size": 16}``).

    Raises
    ------
    UserError
        If a key or a value is not possible. The message is that of the command line.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    refuse_missing_folders()
    merged = _read(config_files()["config"])
    merged.pop("hydra", None)
    groups = _groups(merged)
    merged.pop("defaults")
    merged = {group: _group(group, name) for group, name in chosen_groups(values).items()} | merged
    chosen = {key for key, value in values.items() if key in groups and isinstance(value, str)}
    for key, value in values.items():
        if key not in chosen:
            _set(merged, key, value)
    try:
        resolved: Any = OmegaConf.to_container(OmegaConf.create(merged), resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(explain(error) or str(error)) from error
    return load_config(resolved)


def chosen_groups(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the file that each config group takes for what `configure` is given."""
    groups = _groups(_read(config_files()["config"]))
    chosen = {key: value for key, value in values.items() if key in groups and isinstance(value, str)}
    return groups | _brought(chosen) | chosen


def _groups(composed: Mapping[str, Any]) -> dict[str, str]:
    entries = [entry for entry in composed["defaults"] if isinstance(entry, dict)]
    return {group: name for entry in entries for group, name in entry.items() if " " not in group}


def refuse_missing_folders() -> None:
    """Refuse a variable that names no folder, as it would be without effect.

    Raises
    ------
    UserError
        Naming it.
    """
    for folder in missing_config_dirs():
        raise UserError(f"MBEXP_CONFIG_PATH={folder}: is no folder")


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
    choices = config_files(group)
    if name not in choices:
        raise unknown_choice(group, name, choices)
    path = choices[name]
    keys = _read(path)
    if not isinstance(keys, dict) or any(not word.startswith(OVERRIDE) for word, _ in _defaults(keys)):
        raise UserError(f"{path}: a config group is one file of keys, without defaults of its own")
    keys.pop("defaults", None)
    return keys


def _brought(chosen: Mapping[str, str]) -> dict[str, str]:
    """Return the groups that files chosen by name bring along where no file is chosen for them, as Hydra does."""
    brought = {}
    for group, name in chosen.items():
        path = config_files(group).get(name)
        for word, value in _defaults(_read(path)) if path else []:
            brought[word.removeprefix(OVERRIDE).partition("@")[0]] = str(value)
    return brought


def _defaults(keys: Any) -> list[tuple[str, Any]]:
    """Return the entries of a file's list of defaults."""
    entries = keys.get("defaults", []) if isinstance(keys, dict) else []
    return [pair for entry in entries for pair in (entry.items() if isinstance(entry, dict) else [(str(entry), None)])]


def _read(path: Path) -> dict[str, Any]:
    """Return a file's keys, a copy of one's own; parsing YAML takes longer than a small run."""
    return copy.deepcopy(_parsed(path, path.stat().st_mtime_ns))


@functools.lru_cache(maxsize=256)
def _parsed(path: Path, changed_ns: int) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.load(path), resolve=False)
