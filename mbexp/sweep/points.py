"""From the overrides of a command line to the points of a sweep, composing once for each choice of config groups."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, Quote, QuotedString
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from mbexp.config.keys import SHORTCUTS, Config, load_config
from mbexp.config.plugins import load_object
from mbexp.errors import UserError

MOST_POINTS = 1_000_000  # a slip of the finger beyond; each takes kilobytes
Assignments = dict[str, str]  # key -> the override that sets it, in Hydra's syntax


@dataclass(frozen=True)
class Point:
    """One configuration of a sweep.

    Attributes
    ----------
    overrides : tuple of str
        What makes this point, in Hydra's syntax, as Hydra saves it.
    swept : dict of str to object
        Value of each swept key; of a swept group the name of the chosen file.
    choices : dict of str to str
        File that was chosen for each config group.
    config : Config
    """

    overrides: tuple[str, ...]
    swept: dict[str, Any]
    choices: dict[str, str]
    config: Config


def expand(
    arguments: Sequence[str],
    params: Mapping[str, Any] | None,
    explicit: Sequence[Mapping[str, Any]] | None,
    loader: ConfigLoader,
) -> tuple[list[str], list[Assignments]]:
    """Return the swept keys, and for each point of the sweep the override of every key.

    Parameters
    ----------
    arguments
        Overrides of the command line. A key that stands here replaces that of `params` and `explicit`.
    params
        Keys that a study sweeps, with values in Hydra's syntax (``{"num_gpus": "1,2,4"}``).
    explicit
        Sets of keys that belong together, each combined with every point of the rest.
    loader
        Hydra's, which knows the config groups (for ``glob``).
    """
    parser = OverridesParser.create(config_loader=loader)
    given = [f"{key}={value}" for key, value in (params or {}).items()]
    choices: dict[str, list[str]] = {}
    swept: list[str] = []
    for override in parser.parse_overrides(given + list(arguments)):
        key, written = key_of(override), override.get_key_element()
        if override.is_sweep_override():
            if not override.is_discrete_sweep():
                raise UserError(f"{override.input_line}: a sweep needs values; an interval has none")
            values = itertools.islice(override.sweep_string_iterator(), MOST_POINTS + 1)
            choices[key] = [f"{written}={value}" for value in values]
            if not choices[key]:
                raise UserError(f"{override.input_line}: nothing to sweep over")
        else:
            choices[key] = [f"{written}={override.get_value_element_as_str()}"]
        if key in swept:
            swept.remove(key)
        if override.is_sweep_override():
            swept.append(key)
    sets = [{name: line for name, line in _lines(keys).items() if name not in choices} for keys in explicit or [{}]]
    if math.prod(map(len, choices.values())) * len(sets) > MOST_POINTS:
        raise UserError(f"{', '.join(swept)}: a sweep has at most {MOST_POINTS:,} points; split it")
    together = list(dict.fromkeys(key for keys in sets for key in keys))
    # Rows come out with explicit sets innermost: the sides of a comparison stand beside one another.
    points = [
        dict(zip(choices, values, strict=True)) | keys
        for values in itertools.product(*choices.values())
        for keys in sets
    ]
    return swept + together, points


def key_of(override: Override) -> str:
    """Return the one name of the key that an override sets: ``++num_gpus`` is ``num_gpus``."""
    return _plain_key(override.get_key_element())


def _lines(keys: Mapping[str, Any]) -> Assignments:
    return {_plain_key(key): f"{key}={override_value(value)}" for key, value in keys.items()}


def _plain_key(key: str) -> str:
    return key.lstrip("+~")


def override_value(value: Any) -> str:
    """Return a value of a YAML file in the syntax of an override."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{override_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)) or OmegaConf.is_list(value):
        return "[" + ",".join(override_value(item) for item in value) + "]"
    if isinstance(value, str):
        return QuotedString(value, Quote.single).with_quotes()
    return repr(value)


def compose_points(
    assignments: Iterable[Assignments], swept: Sequence[str], master: DictConfig, loader: ConfigLoader
) -> list[Point]:
    """Return the checked configuration of every point.

    Hydra composes once for each distinct choice of groups (and of what adds or deletes keys); plain values are then
    set on that composition, in the order in which Hydra would, which gives the same configuration in a hundredth of
    the time.

    Raises
    ------
    UserError, hydra.errors.HydraException
        On an unknown key, group or value in any point, before anything runs.
    """
    parser = OverridesParser.create(config_loader=loader)
    parsed: dict[str, Override] = {}
    plain: dict[str, bool] = {}
    composed: dict[tuple[str, ...], tuple[DictConfig, DictConfig]] = {}
    variants: dict[tuple[tuple[str, ...], ...], Variant] = {}
    points = []
    for overrides in assignments:
        lines = tuple(overrides.values())
        for line in lines:
            if line not in parsed:
                parsed[line] = parser.parse_override(line)
                # Whether a key is a group is asked once for each key: Hydra takes its time.
                kind = f"{parsed[line].get_key_element()} {isinstance(parsed[line].value(), dict)}"
                if kind not in plain:
                    plain[kind] = _is_plain(parsed[line], loader)
                plain[line] = plain[kind]
        rest = tuple(line for line in lines if not plain[line])
        values = [parsed[line] for line in lines if plain[line]]
        keys = tuple(override.key_or_group for override in values)
        if rest not in composed:
            composed[rest] = _compose(master, rest, loader)
        if (rest, keys) not in variants:
            variants[rest, keys] = Variant(*composed[rest])
        by_key = {key_of(parsed[line]): parsed[line] for line in lines}
        choices, config = variants[rest, keys].choices, variants[rest, keys].configure(values)
        points.append(
            Point(
                overrides=lines,
                swept={key: _swept_value(key, by_key[key], choices, config) for key in swept if key in by_key},
                choices=choices,
                config=config,
            )
        )
    _refuse_idle_scaling(points)
    know_own_metrics(points)
    return points


def know_own_metrics(points: Sequence[Point]) -> None:
    """Have the user's metrics in the catalogue, so that verdicts can name them; a wrong one costs no run.

    Raises
    ------
    UserError
        If one is not there.
    """
    for path in dict.fromkeys(path for point in points for path in point.config.metrics):
        load_object("metrics", path)


def _refuse_idle_scaling(points: Sequence[Point]) -> None:
    """Refuse to sweep the scaling of time over requests that keep the trace's time: all of it would be one run."""
    key = "workload.rate_scaling"
    values = list(dict.fromkeys(point.swept[key] for point in points if key in point.swept))
    if len(values) > 1 and all(point.config.workload.timestamps == "real" for point in points):
        raise UserError(
            f"{key}={','.join(f'{value:g}' for value in values)}: timestamps are real here, which no scaling changes; "
            f"add {key}=1, or workload.timestamps=scaled"
        )


class Variant:
    """What Hydra composed for one choice of groups, with the same keys set at every point.

    A group of the configuration is resolved and checked once for each combination of the overrides that it follows
    from: the points of a large sweep share most of theirs.

    Parameters
    ----------
    config
        The composed configuration without Hydra's node.
    whole
        With it.
    """

    def __init__(self, config: DictConfig, whole: DictConfig) -> None:
        self.config = copy.deepcopy(config)
        self.whole = whole
        chosen = whole.hydra.runtime.choices.items()
        self.choices = {str(group): name for group, name in chosen if not str(group).startswith("hydra/")}
        unresolved = OmegaConf.to_container(config, resolve=False)
        assert isinstance(unresolved, dict)
        self.follows = _what_groups_follow({str(key): str(value) for key, value in unresolved.items()})
        self.known: dict[tuple[Any, ...], Any] = {}

    def configure(self, overrides: Sequence[Override]) -> Config:
        """Return the checked configuration with some values set.

        They are set in place, since every point sets the same keys; but a dict is merged into what is there, and the
        next point must not find the last one's keys.
        """
        lines: dict[str, list[str]] = {}
        for override in overrides:
            lines.setdefault(_group_of(override.key_or_group), []).append(str(override.input_line))
        # A value that names another key may follow from any; Hydra repeats it with a backslash in between.
        anywhere = any("$" in line for each in lines.values() for line in each)
        made_of = {
            group: (group, *(line for each in lines if anywhere or each in follows for line in lines[each]))
            for group, follows in self.follows.items()
        }
        values = {group: self.known[of] for group, of in made_of.items() if of in self.known}
        if len(values) < len(made_of):
            merging = any(isinstance(override.value(), dict) for override in overrides)
            config = copy.deepcopy(self.config) if merging else self.config
            for override in overrides:
                _set(config, override)
            values |= self._resolve(config, [group for group in made_of if group not in values])
        checked = load_config(values)
        for group, of in made_of.items():
            # A shortcut has come to what it stands for, which may follow from more than it does.
            self.known.setdefault(of, values[group] if group in SHORTCUTS else getattr(checked, group))
        return checked

    def _resolve(self, config: DictConfig, keys: Iterable[Any]) -> dict[str, Any]:
        before = HydraConfig.instance().cfg
        HydraConfig.instance().cfg = self.whole  # type: ignore[assignment]  # for ${hydra:...}
        try:
            values = {str(key): config[key] for key in keys}
            return {
                key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
                for key, value in values.items()
            }
        finally:
            HydraConfig.instance().cfg = before


def _group_of(key: str) -> str:
    return key.split(".")[0].split("[")[0]


def _what_groups_follow(texts: Mapping[str, str]) -> dict[str, set[str]]:
    """Return for each top-level key of a configuration those whose values its own follows from, itself included.

    Every name in an interpolation counts. One that starts above its own place may mean anything.
    """
    named = {
        key: {key} | ({*texts} if "${.." in text else {*texts} & {*re.findall(r"\w+", text)} if "${" in text else set())
        for key, text in texts.items()
    }
    while True:
        further = {key: follows.union(*(named[each] for each in follows)) for key, follows in named.items()}
        if further == named:
            return named
        named = further


def _is_plain(override: Override, loader: ConfigLoader) -> bool:
    """Whether an override only sets a value of a key that exists."""
    return (
        override.type is OverrideType.CHANGE
        and override.package is None
        and (isinstance(override.value(), dict) or not loader.get_group_options(override.key_or_group))
    )


def _compose(master: DictConfig, overrides: tuple[str, ...], loader: ConfigLoader) -> tuple[DictConfig, DictConfig]:
    """Return the composed configuration without Hydra's node, and with it."""
    whole = loader.load_sweep_config(master_config=master, sweep_overrides=list(overrides))
    config = copy.deepcopy(whole)
    with open_dict(config):
        del config["hydra"]
    return config, whole


def _set(config: DictConfig, override: Override) -> None:
    """Set one value, with Hydra's words where that fails."""
    try:
        OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
    except (ConfigAttributeError, ConfigKeyError) as error:
        raise ConfigCompositionException(f"Could not override '{override.key_or_group}'.") from error
    except OmegaConfBaseException as error:
        raise ConfigCompositionException(f"Error merging override {override.input_line}") from error


def _swept_value(key: str, override: Override, choices: Mapping[str, str], config: Config) -> Any:
    if override.is_delete():
        return None
    value, text = override.value(), override.get_value_element_as_str()
    if isinstance(value, str) and key in choices:
        return choices[key]
    if "${" in str(value):  # what it has come to, not how it was written
        value = _configured(config, key)
        return value if value is None or isinstance(value, (bool, int, float, str)) else override_value(value)
    return text if isinstance(value, (list, dict)) else value


def _configured(config: Any, key: str) -> Any:
    """Return what a key of dotted names has come to in a configuration."""
    for name in re.findall(r"[^.\[\]]+", key):
        if isinstance(config, list):
            config = config[int(name)]
        else:
            config = config[name] if isinstance(config, Mapping) else getattr(config, name)
    return dataclasses.asdict(config) if dataclasses.is_dataclass(config) else config  # type: ignore[arg-type]
