"""The command to ask next: for three times the traffic, or for another card."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from mbexp.config.keys import Config

MORE = 3.0  # times the traffic
RATE, SCALING = "workload.arrivals.rate_per_s", "workload.rate_scaling"


def rate_changes(config: Config, factor: float) -> dict[str, Any]:
    """Return the keys, with their values, that make `factor` times the traffic of a configuration."""
    workload = config.workload
    if workload.kind == "synthetic" or workload.timestamps == "generated":
        return {RATE: workload.arrivals.rate_per_s * factor}
    if workload.timestamps == "scaled":
        return {SCALING: workload.rate_scaling * factor}
    return {"workload.timestamps": "scaled", SCALING: factor}


def next_command(words: Sequence[str], config: Config, find: str, swept: Mapping[str, Any]) -> str | None:
    """Return the command to ask next, ready to paste; None where there is nothing near to ask.

    Parameters
    ----------
    words
        Of the command that was answered, without ``python -m mbexp.capacity``.
    config
        Of the best choice.
    find : {"gpus", "rate"}
    swept
        What was chosen from; a rate that was swept, or looked for, is not tripled: another card is asked for.
    """
    changes = rate_changes(config, MORE)
    rateless = RATE in changes and config.workload.arrivals.kind in ("at_once", "closed")
    if find == "rate" or {*changes} & {*swept} or rateless:
        card = other_card(config.gpu.name, _cards(), _given(words, "gpu"))
        if card is None:
            return None
        changes = {"gpu": card}
    kept = [word for word in words if _key(word) not in changes]
    return shlex.join(["python", "-m", "mbexp.capacity", *kept, *(f"{key}={_text(changes[key])}" for key in changes)])


def other_card(name: str, cards: Mapping[str, float | None], asked: Sequence[str]) -> str | None:
    """Return the next dearer card that serves the same model, else the next cheaper one, or None.

    Names are ``CARD_MODEL``, ``CARD_MODEL_tpN`` or ``roofline_CARD``.

    Parameters
    ----------
    cards
        Price per hour of each, None where it is not known; without the price of `name`, the first by name is next.
    """
    same = {card: cards[card] for card in cards if _model(card) == _model(name) and card not in {name, *asked}}
    own = cards.get(name)
    priced = [(price, card) for card, price in same.items() if price is not None]
    if own is None or not priced:
        return min(same, default=None)
    dearer = [pair for pair in priced if pair[0] >= own]
    return min(dearer)[1] if dearer else max(priced)[1]


def _model(name: str) -> str:
    if name.startswith("roofline_"):
        return "roofline"
    return re.sub(r"_tp\d+$", "", name.partition("_")[2])


def _cards() -> dict[str, float | None]:
    """Return the packaged cards with their price per hour, all cards of tensor parallelism together."""
    import yaml

    from mbexp.paths import config_dir

    found: dict[str, float | None] = {}
    for path in sorted((config_dir() / "gpu").glob("*.yaml")):
        values = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        price = values.get("price_per_hour")
        cards = (values.get("law") or {}).get("tensor_parallel") or 1
        found[path.stem] = None if price is None else float(price) * cards
    return found


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+")


def _given(words: Sequence[str], key: str) -> list[str]:
    return [value for word in words if _key(word) == key for value in word.partition("=")[2].split(",")]


def _text(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)
