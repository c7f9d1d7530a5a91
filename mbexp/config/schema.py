"""Turns a plain mapping into a frozen, checked dataclass, and a wrong value into one line that names it."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from mbexp.errors import UserError, nearest, unknown_choice

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
Numbers = dict[str, float] | list[float]  # by name, or in an order
Filter = dict[str, list[str]]  # the texts that a column may have

# What a number may be where its option names no bound: beyond, sums and products leave what 64 bits hold.
LARGEST, SMALLEST = 10**15, 1e-12


def option(
    default: Any,
    why: str,
    *,
    choices: Sequence[str] | None = None,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    dotted: bool = False,
) -> Any:
    """Declare a field: its default, a word of why, and what values are possible.

    `low` and `high` are inclusive bounds, `above` an exclusive one (`LARGEST` and `SMALLEST` hold where they are not
    given); `choices` lists the names of a string field, to which `dotted` adds any dotted path
    (``package.module.name``).
    """
    metadata = {"why": why, "choices": choices, "low": low, "high": high, "above": above, "dotted": dotted}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: default.copy(), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def build(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Return ``cls(**values)`` with every key known, every type right and every value in range.

    Parameters
    ----------
    cls
        A dataclass whose fields were declared with `option`, nested dataclasses included.
    values
        What the user gave; keys left out take their defaults.
    where
        Dotted name of `values` in the whole configuration, for messages.

    Raises
    ------
    UserError
        Naming the key, the value and the nearest valid name.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{where}={values!r}: must be a group of keys, not a single value")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    prefix = f"{where}." if where else ""
    for key in values:
        if key not in fields:
            raise UserError(f"{prefix}{key}={_show(values[key])}: unknown key{_nearest_key(str(key), fields, prefix)}")
    hints = _hints(typing.cast(Any, cls))
    checked = {key: _convert(hints[key], value, prefix + key, fields[key].metadata) for key, value in values.items()}
    return cls(**checked)


def known_keys(cls: type, prefix: str = "") -> list[str]:
    """Return the dotted names of every key of a dataclass, groups included."""
    names: list[str] = []
    hints = _hints(cls)
    for field in dataclasses.fields(cls):
        names.append(prefix + field.name)
        if dataclasses.is_dataclass(hints[field.name]):
            names += known_keys(hints[field.name], f"{prefix}{field.name}.")
    return names


def is_group(value: object) -> TypeGuard[DataclassInstance]:
    """Return whether a value of a built configuration is a group of keys."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def dotted_paths(config: Any, prefix: str = "") -> dict[str, str]:
    """Return the keys of a built dataclass that name something of the user's by a dotted path, with that path."""
    found: dict[str, str] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            found |= dotted_paths(value, f"{prefix}{field.name}.")
        elif field.metadata.get("dotted") and isinstance(value, list):
            found |= {f"{prefix}{field.name}[{place}]": path for place, path in enumerate(value)}
        elif field.metadata.get("dotted") and "." in str(value):
            found[prefix + field.name] = value
    return found


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _nearest_key(key: str, fields: Mapping[str, object], prefix: str) -> str:
    close = nearest(key, fields)
    if close:
        return close.replace("'", f"'{prefix}", 1)
    return f"; valid here: {', '.join(prefix + name for name in fields)}"


def _show(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _convert(hint: Any, value: Any, where: str, metadata: Mapping[str, Any]) -> Any:
    if hint == Numbers:
        if isinstance(value, Mapping):
            return {str(key): _scalar(float, item, f"{where}.{key}", metadata) for key, item in value.items()}
        return _convert(list[float], value, where, metadata)
    if hint == Filter:
        if not isinstance(value, Mapping):
            raise UserError(f"{where}={_show(value)}: must name columns and their values, such as {{model: GPT-4}}")
        return {str(key): _texts(f"{where}.{key}", item) for key, item in value.items()}
    if typing.get_origin(hint) is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{where}={_show(value)}: must name groups of keys, such as {{chat: {{...}}}}")
        of = typing.get_args(hint)[1]
        return {str(name): _convert(of, item, f"{where}.{name}", metadata) for name, item in value.items()}
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return None if value is None else _convert(inner[0], value, where, metadata)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else build(hint, value, where)  # type: ignore[arg-type]
    if value is None:
        raise UserError(f"{where}=null: a value is needed here")
    if typing.get_origin(hint) in (list, tuple):
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise UserError(f"{where}={_show(value)}: must be a list, such as [64,256,1024]")
        inner_hint = typing.get_args(hint)[0]
        items = [_convert(inner_hint, item, f"{where}[{index}]", metadata) for index, item in enumerate(value)]
        return tuple(items) if typing.get_origin(hint) is tuple else items
    return _scalar(hint, value, where, metadata)


def _texts(where: str, value: Any) -> list[str]:
    """Return one value or several as the texts that a file has."""
    values = value if isinstance(value, list | tuple) else [value]
    if not values or any(isinstance(each, Mapping | list | tuple) for each in values):
        raise UserError(f"{where}={_show(value)}: must be a value, or a list of values")
    return ["" if each is None else str(each).lower() if isinstance(each, bool) else str(each) for each in values]


def _scalar(hint: Any, value: Any, where: str, metadata: Mapping[str, Any]) -> Any:
    if hint is Any:
        return value
    if hint is bool:
        if not isinstance(value, bool):
            raise UserError(f"{where}={_show(value)}: must be true or false")
        return value
    if hint is str:
        if not isinstance(value, str):
            raise UserError(f"{where}={_show(value)}: must be text")
        choices = metadata.get("choices")
        if choices and value not in choices and not (metadata.get("dotted") and "." in value):
            raise unknown_choice(where, value, choices)
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        kind = "a whole number" if hint is int else "a number"
        raise UserError(f"{where}={_show(value)}: must be {kind}")
    if hint is int:
        if value != value or value in (math.inf, -math.inf) or int(value) != value:
            raise UserError(f"{where}={_show(value)}: must be a whole number")
        value = int(value)
    else:
        try:
            value = float(value)
        except OverflowError:  # a whole number beyond the largest double
            value = math.inf
        if not math.isfinite(value):
            raise UserError(f"{where}={value}: must be a finite number")
    low, high, above = metadata.get("low"), metadata.get("high"), metadata.get("above")
    if low is not None and value < low:
        raise UserError(f"{where}={value}: must be at least {low}")
    if above is not None and value <= above:
        raise UserError(f"{where}={value}: must be above {above}")
    if value > (LARGEST if high is None else high):
        raise UserError(f"{where}={value}: must be at most {f'{LARGEST:g}' if high is None else high}")
    if value < -LARGEST or (above == 0 and value < SMALLEST):
        raise UserError(f"{where}={value}: must be at least {-LARGEST if value < 0 else SMALLEST:g}")
    return value


def expand_user(config: object, key: str, where: str) -> None:
    """Write a leading ``~`` of a path out, once for all readers: no shell sees what stands in quotes or a file."""
    path = getattr(config, key)
    if path is not None and path.startswith("~"):
        try:
            object.__setattr__(config, key, str(Path(path).expanduser()))
        except RuntimeError:
            raise UserError(f"{where}={path}: there is no such user, or no home folder") from None
