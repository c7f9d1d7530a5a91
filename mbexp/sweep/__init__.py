"""Sweeps: plans, workers, resume, tidy tables and verdicts. As ``mbexp.sweep(...)`` it makes a sweep from Python."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mbexp.sweep.notebook import Study


class _Callable(ModuleType):
    """A module that is also the function of its name, since Python sets ``mbexp.sweep`` to this package on import."""

    def __call__(self, jobs: int | None = None, **values: Any) -> Study:
        """Make a sweep; see `mbexp.sweep.notebook.sweep`."""
        from mbexp.sweep.notebook import sweep

        return sweep(jobs, **values)


sys.modules[__name__].__class__ = _Callable
