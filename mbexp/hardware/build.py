"""From the `gpu` part of a configuration to a compiled latency law."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mbexp.config.cards import GPU_CARDS, MODEL_CARDS, find_model_card
from mbexp.config.choices import module_names
from mbexp.config.model_files import model_path
from mbexp.hardware.laws import SHARED

if TYPE_CHECKING:
    from mbexp.config.gpu_keys import GpuConfig
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
    own = kind not in module_names("hardware/laws")
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


def facts_in_use(gpu: GpuConfig) -> list[str]:
    """Return which of the keys ``card`` and ``model`` of ``gpu.law`` the memory of `gpu` agrees with."""
    card, name = GPU_CARDS.get(gpu.law.card or ""), gpu.law.model
    path = model_path(name)
    model = find_model_card(name) if name in MODEL_CARDS or (path is not None and path.is_file()) else None
    agrees = {
        "card": card is not None and gpu.memory_gb == card.memory_gb,
        "model": model is not None and gpu.kv_bytes_per_token == model.kv_bytes_per_token,
    }
    return [key for key, same in agrees.items() if same]
