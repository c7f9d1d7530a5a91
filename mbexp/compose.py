"""Composes a configuration from the config groups without Hydra, for notebooks and scripts."""

from __future__ import annotations

from typing import Any

from mbexp.config import Config, load_config
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

    base: Any = OmegaConf.to_container(OmegaConf.load(config_dir() / "config.yaml"), resolve=False)
    base.pop("hydra", None)
    groups = {group: name for entry in base.pop("defaults") if isinstance(entry, dict) for group, name in entry.items()}
    groups = {group: name for group, name in groups.items() if " " not in group}
    groups |= {key: value for key, value in values.items() if key in groups and isinstance(value, str)}
    merged = OmegaConf.create({group: _group(group, name) for group, name in groups.items()} | base)
    for key, value in values.items():
        if key in groups and isinstance(value, str):
            continue
        if isinstance(value, dict):
            value = OmegaConf.merge(OmegaConf.select(merged, key) or {}, value)
        OmegaConf.update(merged, key, value, force_add=True)
    resolved: Any = OmegaConf.to_container(merged, resolve=True)
    return load_config(resolved)


def _group(group: str, name: str) -> Any:
    from omegaconf import OmegaConf

    folder = config_dir() / group
    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise unknown_choice(group, name, [choice.stem for choice in folder.glob("*.yaml")])
    values = OmegaConf.load(path)
    if "defaults" in values:
        raise UserError(f"{path}: a config group is one file, without defaults of its own")
    return values
