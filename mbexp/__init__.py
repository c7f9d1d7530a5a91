"""Experiments on LLM-inference batching: which policy, and how many GPUs, meet my latency targets?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mbexp.errors import UserError
from mbexp.version import __version__

if TYPE_CHECKING:
    from mbexp.api import load_trace, simulate
    from mbexp.config.compose import configure
    from mbexp.results.own import metric
    from mbexp.results.result import Result
    from mbexp.sweep.notebook import Study, compare, sweep
    from mbexp.workload.trace import Trace

__all__ = [
    "Result",
    "Study",
    "Trace",
    "UserError",
    "__version__",
    "compare",
    "configure",
    "load_trace",
    "metric",
    "simulate",
    "sweep",
]

_HOMES = {
    "load_trace": "mbexp.api",
    "simulate": "mbexp.api",
    "configure": "mbexp.config.compose",
    "metric": "mbexp.results.own",
    "Study": "mbexp.sweep.notebook",
    "compare": "mbexp.sweep.notebook",
    "sweep": "mbexp.sweep.notebook",
    "Result": "mbexp.results.result",
    "Trace": "mbexp.workload.trace",
}


def __dir__() -> list[str]:
    return sorted([*__all__, "capacity"])


def __getattr__(name: str) -> Any:
    # Numba and what it brings are imported only when something is simulated.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "capacity":  # a package that can be called
        import importlib

        return importlib.import_module("mbexp.capacity")
    raise AttributeError(f"module 'mbexp' has no attribute '{name}'")
