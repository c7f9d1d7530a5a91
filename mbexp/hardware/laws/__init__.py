"""One module a kind of latency law; a module put here is a value of ``gpu.law.kind``.

Each defines

- ``KEYS``: the keys of ``gpu.law`` that it reads, apart from those that every law has (`SHARED`);
- ``build(gpu: GpuConfig) -> LatencyLaw``.

A law with numbers of its own can read them from ``gpu.law.parameters``.
"""

from __future__ import annotations

import functools
import pkgutil

SHARED = ("kind", "length", "provenance", "batch_size_range", "length_range_tokens")


@functools.cache
def law_names() -> tuple[str, ...]:
    """Return the names of all kinds, without importing any: importing one compiles it."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in names if not name.startswith("_")))
