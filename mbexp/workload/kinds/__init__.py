"""One module a workload kind; a module put here is a value of ``workload.kind``.

A kind that reads a file defines

- ``DEFAULT_FILE``: file name looked for where ``workload.path`` is null, or None;
- ``CLOCK_RESOLUTION_S``: what ``workload.spread_ties_s=null`` stands for;
- ``VERSION``: raised by one whenever `read` gives other rows for the same file, so that converted copies are renewed;
- ``read(path, workload) -> Rows``;
- ``KEEPS_COLUMNS = False`` where its files have no further columns to keep.

A kind that makes its own requests defines ``CLOCK_RESOLUTION_S`` and
``generate(workload, num_requests, seed) -> UsableRows``. Where it draws them from files it has
``files_sha256(workload)``, one hash of them all, too; ``CUTS_TIME`` says that it draws the window of time alone that is
asked for.

Either names in ``READS`` the keys of ``workload`` that it reads beside those of every kind (`mbexp.workload.unread`):
``prompt``, ``output``, ``columns``. Others are refused.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from mbexp.config.choices import module_names
from mbexp.config.workload_keys import WorkloadConfig
from mbexp.errors import unknown_choice


def find_kind(name: str) -> ModuleType:
    """Return the module of a kind."""
    if name not in module_names("workload/kinds"):
        raise unknown_choice("workload.kind", name, module_names("workload/kinds"))
    return importlib.import_module(f"{__name__}.{name}")


def is_drawn(workload: WorkloadConfig) -> bool:
    """Return whether another seed gives other requests: all of them are generated, or their arrivals are."""
    return hasattr(find_kind(workload.kind), "generate") or workload.timestamps == "generated"
