"""Modes of execution, one module each; a module put here is a value of ``execution``.

A mode is a module with what `Mode` lists. It answers the questions that every mode is asked, so that a run, its tables,
its files and the terminal know no mode by name.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from typing import TYPE_CHECKING, Any, Protocol, cast

from mbexp.errors import unknown_choice

if TYPE_CHECKING:
    import pyarrow as pa

    from mbexp.modes.problem import Problem
    from mbexp.simulator.outcome import Outcome

Summary = dict[str, Any]


class Mode(Protocol):
    """What a module of this package defines."""

    @property
    def LOOP(self) -> str:
        """Module and name of the event loop, ``package.module:function``: what takes seconds to compile."""
        ...

    def simulate(self, problem: Problem) -> Outcome:
        """Serve the requests; a mistake in the configuration is a `UserError`."""
        ...

    def check(self, problem: Problem, outcome: Any) -> Summary:
        """Check the invariants; return ``invariants_checked`` and ``requests_waiting_max``."""
        ...

    def meets_token_sla(self, problem: Problem, outcome: Any, first: int) -> Any:
        """Return for each accepted request from `first` on whether its time between tokens meets the target."""
        ...

    def metrics(self, problem: Problem, outcome: Any, first: int) -> Summary:
        """Return the metrics of tokens, batches, GPUs and load; those of requests are the same for every mode."""
        ...

    def notes(self, problem: Problem, outcome: Any, summary: Summary) -> list[str]:
        """Return the sentences that a reader of such a run must see, besides those of any run."""
        ...

    def rows(self, outcome: Any) -> int:
        """Return how many rows `table` has."""
        ...

    def table(self, outcome: Any, first: int = 0, last: int | None = None) -> pa.Table:
        """Return the rows of batches.parquet from `first` up to, without, `last`."""
        ...


@functools.cache
def mode_names() -> tuple[str, ...]:
    """Return the names of all modes, without importing any."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted((name for name in names if name != "problem"), reverse=True))


def find_mode(name: str) -> Mode:
    """Return the module of a mode."""
    if name not in mode_names():
        raise unknown_choice("execution", name, mode_names())
    return cast(Mode, importlib.import_module(f"{__name__}.{name}"))


def mode_of(config: Any) -> Mode:
    """Return the mode that a configuration names."""
    return find_mode(config.execution.name)
