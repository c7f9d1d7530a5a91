"""From the `gpu` part of a configuration to a compiled latency law."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mbexp.hardware.cards import facts_in_use
from mbexp.hardware.laws import SHARED, law_names

if TYPE_CHECKING:
    from mbexp.config.keys import GpuConfig
    from mbexp.hardware.law import LatencyLaw


def build_law(gpu: GpuConfig) -> LatencyLaw:
    """Return the latency law that ``gpu.law`` describes.

    ``gpu.law.kind`` is the name of a module of `mbexp.hardware.laws`, or the dotted path of a law of your own
    (see `mbexp.hardware.own`). A key that was set for another kind is named in the law's notes.

    Raises
    ------
    UserError
        Where a card, a grid file or an own law is missing or wrong.
    """
    kind = gpu.law.kind
    own = kind not in law_names()
    module = importlib.import_module("mbexp.hardware.own" if own else f"mbexp.hardware.laws.{kind}")
    law: LatencyLaw = module.build(gpu)
    # A function of one's own that makes a law can read any key.
    return law if own else dataclasses.replace(law, notes=(*law.notes, *unread_keys(gpu, module.KEYS)))


def unread_keys(gpu: GpuConfig, keys: Sequence[str]) -> list[str]:
    """Return one sentence on keys of ``gpu.law`` that were set although the law does not read them, if there are any.

    Parameters
    ----------
    keys
        What the law reads apart from `SHARED`. The card and the model count as read where the memory is theirs.
    """
    law = gpu.law
    usual = type(law)()
    read = {*SHARED, *keys, *facts_in_use(gpu)}
    unread = [
        f"gpu.law.{field.name}={value:g}" if isinstance(value, float) else f"gpu.law.{field.name}={value}"
        for field in dataclasses.fields(law)
        if field.name not in read and (value := getattr(law, field.name)) != getattr(usual, field.name)
    ]
    return [f"{', '.join(unread)}: without meaning under gpu.law.kind={law.kind}"] if unread else []
