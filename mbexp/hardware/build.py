"""From the `gpu` part of a configuration to a compiled latency law."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from mbexp.config.keys import GpuConfig

if TYPE_CHECKING:
    from mbexp.hardware.law import LatencyLaw

# One module a law, each with `build(gpu) -> LatencyLaw`; imported when chosen, for importing one compiles it.
LAW_MODULES = {
    "affine": "mbexp.hardware.laws.affine",
    "linear": "mbexp.hardware.laws.linear",
    "roofline": "mbexp.hardware.laws.roofline",
    "grid_fit": "mbexp.hardware.laws.grid_fit",
    "grid_interpolation": "mbexp.hardware.laws.grid_interpolation",
}


def build_law(gpu: GpuConfig) -> LatencyLaw:
    """Return the latency law that ``gpu.law`` describes.

    ``gpu.law.kind`` is a name of `LAW_MODULES`, or the dotted path of a law of your own
    (see `mbexp.hardware.laws.own`).

    Raises
    ------
    UserError
        Where a card, a grid file or an own law is missing or wrong.
    """
    module = importlib.import_module(LAW_MODULES.get(gpu.law.kind, "mbexp.hardware.laws.own"))
    law: LatencyLaw = module.build(gpu)
    return law
