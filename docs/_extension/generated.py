"""Tables of the reference pages, made of the package: keys, choices, schedulers, GPU cards and studies."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mbexp.config.keys import Config
from mbexp.config.schema import LARGEST
from mbexp.paths import config_files

GROUPS = ("scheduler", "workload", "gpu", "bins", "sla", "predictor", "execution")


def part(name: str) -> str:
    """Return the Markdown that a page has from ``<!-- site: NAME -->`` on."""
    return PARTS[name]()


def keys() -> str:
    """Return a table of keys for each group, in the order of the schema, those of no group first."""
    plain, sections = _keys_of(Config, "")
    lines = ["## Keys of no group", *_key_table(plain)]
    for title, why, rows in sections:
        lines += ["", f"## `{title}`", "", f"{_sentence(why)}", *_key_table(rows)]
    return "\n".join(lines)


Row = tuple[str, str, str, str]
Section = tuple[str, str, list[Row]]


def _keys_of(group: type, prefix: str) -> tuple[list[Row], list[Section]]:
    """Return the rows of a group's own keys, and a section for each group within it."""
    hints, rows, sections = typing.get_type_hints(group), [], []
    for field in dataclasses.fields(group):
        name, hint, why = prefix + field.name, hints[field.name], field.metadata.get("why", "")
        if dataclasses.is_dataclass(hint):
            inner, below = _keys_of(typing.cast(type, hint), f"{name}.")
            sections += [(name, why, inner), *below]
        else:
            rows.append((name, _default(field), _values(hint, field.metadata), why))
    return rows, sections


def _default(field: dataclasses.Field[Any]) -> str:
    value = field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[misc]
    return "`null`" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _values(hint: Any, metadata: typing.Mapping[str, Any]) -> str:
    """Return what a key may be: its choices, or its type and range."""
    if metadata.get("choices"):
        listed = " ".join(f"`{choice}`" for choice in metadata["choices"])
        return f"{listed}, or a dotted path" if metadata.get("dotted") else listed
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    arguments = typing.get_args(hint) if union else (hint,)
    plain = next(each for each in arguments if each is not type(None))
    words = {int: "integer", float: "number", str: "text", bool: "`true` `false`"}
    text = words.get(plain) or {list: "list", tuple: "list", dict: "names and values"}.get(
        typing.get_origin(plain), "list"
    )
    if plain in (int, float) or typing.get_origin(plain) in (list, tuple):
        low, high, above = (metadata.get(bound) for bound in ("low", "high", "above"))
        bounds = [f"> {_number(above)}"] if above is not None else []
        bounds += [f"{_number(low)} to {_number(high)}"] if low is not None and high is not None else []
        bounds += [f">= {_number(low)}"] if low is not None and high is None else []
        bounds += [f"<= {_number(high)}"] if low is None and high is not None else []
        text = f"{text}, {', '.join(bounds)}" if bounds else text
    return text + (", or `null`" if len(arguments) > 1 else "")


def _number(value: float) -> str:
    if value == 2**63 - 1:
        return "2^63 - 1"
    return f"{value:,.0f}" if value == int(value) and abs(value) < LARGEST else f"{value:g}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _key_table(rows: Sequence[Row]) -> list[str]:
    shown = [(f"`{name}`", default, values, _cell(why)) for name, default, values, why in rows]
    return _table(("key", "default", "values", "meaning"), shown)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table, an empty one before it."""
    return ["", f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]


def _cell(text: str) -> str:
    """Return text that stands in a cell: names between quotes as code, what Markdown would take for signs escaped."""
    return re.sub(r"(?<!\w)'([^' ]+)'", r"`\1`", text).replace("|", r"\|").replace("<", r"\<").replace("*", r"\*")


def choices() -> str:
    """Return what each choice of each group is, from the first comment of its file."""
    lines: list[str] = []
    for group in GROUPS:
        rows = [(f"`{name}`", _cell(_comment(path))) for name, path in sorted(config_files(group).items())]
        lines += ["", f"## `{group}=`", *_table(("choice", "what it is"), rows)]
    return "\n".join(lines)


def _comment(path: Path) -> str:
    """Return the comment that opens a file of the configuration, without what says how it was made."""
    words = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#") or line.startswith(("# made by", "# error", "# @package")):
            break
        if line.startswith("# python -m "):  # the command that the table names
            continue
        words.append(line.lstrip("# ").rstrip())
    return " ".join(words)


def schedulers() -> str:
    """Return a section for each named scheduler: what it is, and all that its file sets."""
    lines: list[str] = []
    for name, path in sorted(config_files("scheduler").items()):
        text = path.read_text(encoding="utf-8")
        body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
        lines += ["", f"## `{name}`", "", _comment(path), "", "```yaml", body, "```"]
    return "\n".join(lines)


def cards() -> str:
    """Return a table of the cards that ship, for each model, then of the other laws."""
    from mbexp.gpus.__main__ import shipped_cards

    by_model: dict[str, list[Any]] = {}
    shipped = shipped_cards()
    for card in shipped:
        by_model.setdefault(card.model, []).append(card)
    lines: list[str] = []
    for model, found in by_model.items():
        rows = [
            (
                f"`{card.name}`",
                card.card,
                str(card.tensor_parallel),
                f"{card.kv_tokens:,}",
                f"{card.step_1_ms:.1f}",
                f"{card.step_64_ms:.1f}",
                "-" if card.price_per_hour is None else f"{card.price_per_hour:.2f}",
                _cell(card.source),
            )
            for card in found
        ]
        head = ("`gpu=`", "card", "TP", "KV tokens", "step of 1, ms", "step of 64, ms", "USD an hour", "source")
        lines += ["", f"## {model}", *_table(head, rows)]
    names = {card.name for card in shipped}
    others = [(f"`{name}`", _cell(_comment(path))) for name, path in config_files("gpu").items() if name not in names]
    return "\n".join([*lines, "", "## Other laws", *_table(("`gpu=`", "what it is"), sorted(others))])


def studies() -> str:
    """Return a table of the studies that ship."""
    rows = [(f"`-cn {name}`", _cell(_comment(path))) for name, path in config_files().items() if name != "config"]
    return "\n".join(_table(("study", "question"), sorted(rows)))


PARTS: dict[str, Callable[[], str]] = {
    "nothing": str,  # what a page says on a code host alone
    "keys": keys,
    "choices": choices,
    "schedulers": schedulers,
    "cards": cards,
    "studies": studies,
}
