"""One module a workload kind; a module put here is a value of ``workload.kind``.

A kind that reads a file defines

- ``DEFAULT_FILE``: file name looked for where ``workload.path`` is null, or None;
- ``CLOCK_RESOLUTION_S``: what ``workload.spread_ties_s=null`` stands for;
- ``VERSION``: raised by one whenever `read` gives other rows for the same file, so that converted copies are renewed;
- ``read(path, workload) -> Rows``.

A kind that makes its own requests defines ``CLOCK_RESOLUTION_S`` and
``generate(workload, num_requests, seed) -> UsableRows``.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from types import ModuleType

from mbexp.errors import unknown_choice


@functools.cache
def kind_names() -> tuple[str, ...]:
    """Return the names of all kinds, without importing any."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in names if not name.startswith("_")))


def find_kind(name: str) -> ModuleType:
    """Return the module of a kind."""
    if name not in kind_names():
        raise unknown_choice("workload.kind", name, kind_names())
    return importlib.import_module(f"{__name__}.{name}")
