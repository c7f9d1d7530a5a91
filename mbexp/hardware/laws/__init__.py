"""One module a kind of latency law; a module put here is a value of ``gpu.law.kind``.

Each defines

- ``KEYS``: the keys of ``gpu.law`` that it reads, apart from those that every law has (`SHARED`);
- ``build(gpu: GpuConfig) -> LatencyLaw``.

A law with numbers of its own can read them from ``gpu.law.parameters``.
"""

from __future__ import annotations

SHARED = ("kind", "length", "provenance", "batch_size_range", "length_range_tokens")
