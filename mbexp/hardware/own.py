"""A latency law of your own, named in the configuration by its dotted path; docs/gpu_laws.md shows how to write one.

``gpu.law.kind=my_laws.crowded`` names one of these in a Python file of yours that imports mbexp:

1. A function compiled with `mbexp.hardware.law.batch_price`: the price of whole batches, for
   ``execution=run_to_completion``.
2. A function compiled with `mbexp.hardware.law.iteration_price`: the price of iterations, for ``execution=continuous``.
3. A function of one argument, the `GpuConfig`, that returns a `LatencyLaw`: for a law with both prices, or one that
   reads a file.

A compiled function is handed the numbers of ``gpu.law.parameters``. It runs at full speed, and the event loop is not
compiled again. Its ranges are ``gpu.law.batch_size_range`` and ``gpu.law.length_range_tokens``.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mbexp.config.gpu_keys import GpuConfig
from mbexp.config.places import and_place, where_it_failed
from mbexp.config.plugins import load_object
from mbexp.errors import UserError
from mbexp.hardware.build import unread_keys
from mbexp.hardware.law import FloatArray, LatencyLaw, Price

DECORATORS = "mbexp.hardware.law.batch_price or iteration_price"


def build(gpu: GpuConfig) -> LatencyLaw:
    """Return the law at the dotted path ``gpu.law.kind``.

    Raises
    ------
    UserError
        If there is nothing there, it is neither a compiled price nor a function of the `GpuConfig`, or what that
        function returns is no law.
    """
    kind = gpu.law.kind
    found = load_object("gpu.law.kind", kind)
    slot = getattr(found, "prices", None)
    if slot is not None:
        price: dict[str, Any] = {slot: Price(found, parameter_values(gpu.law.parameters))}
        law = LatencyLaw.configured(gpu, f"the law {kind} of the user", **price)
        return dataclasses.replace(law, name=kind, notes=tuple(unread_keys(gpu, ("parameters",))))
    if not inspect.isfunction(found) or len(inspect.signature(found).parameters) != 1:
        raise UserError(
            f"gpu.law.kind={kind}{and_place(found)}: neither a price decorated with {DECORATORS} nor a function of "
            "one argument, the GpuConfig"
        )
    try:
        made = found(gpu)
    except UserError:
        raise
    except Exception as error:
        failed = where_it_failed(error, found.__code__.co_filename)
        raise UserError(f"gpu.law.kind={kind}: failed with {type(error).__name__}: {error}{failed}") from error
    if not isinstance(made, LatencyLaw):
        raise UserError(f"gpu.law.kind={kind}: returned {type(made).__name__}, not a LatencyLaw")
    _check_prices(kind, made)
    return made


def _check_prices(kind: str, law: LatencyLaw) -> None:
    prices = {slot: price for slot in ("batch", "iteration") if (price := getattr(law, slot)) is not None}
    if not prices:
        raise UserError(f"gpu.law.kind={kind}: returned a LatencyLaw without a price")
    for slot, price in prices.items():
        if not isinstance(price, Price) or getattr(price.function, "prices", None) != slot:
            raise UserError(
                f"gpu.law.kind={kind}: returned a LatencyLaw whose {slot} is not a Price of a function decorated with "
                f"mbexp.hardware.law.{slot}_price"
            )


def parameter_values(parameters: Sequence[float] | Mapping[str, float]) -> FloatArray:
    """Return the numbers of ``gpu.law.parameters`` in their order; of a mapping, the order in which it was written."""
    return np.array(list(parameters.values() if isinstance(parameters, Mapping) else parameters), np.float64)
