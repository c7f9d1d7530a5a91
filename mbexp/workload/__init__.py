"""Request traces: readers, generators and what is done to them before a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mbexp.workload.load import load_trace as load_trace
    from mbexp.workload.trace import Trace as Trace

_HOME = {"load_trace": "mbexp.workload.load", "Trace": "mbexp.workload.trace"}
__all__ = ["Trace", "load_trace"]


def __getattr__(name: str) -> Any:  # numpy is imported only where a trace is used
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
