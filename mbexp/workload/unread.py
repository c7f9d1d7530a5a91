"""Keys of a workload that nothing reads: of other kinds, which are refused, and of other choices, which are named."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from mbexp.config.workload_keys import WorkloadConfig
from mbexp.errors import UserError

# Keys, with all below them, that are read whatever the kind is, or that a rule of their own refuses.
EVERY_KIND = (
    "kind", "timestamps", "rate_scaling", "window", "spread_ties_s", "arrivals", "classes", "class_column",
    "sessions.arrivals", "where", "time_unit_s", "burst_likeness",
)  # fmt: skip
# Of every kind that reads a file.
FILES = ("path", "failed", "columns.extra", *(
    f"sessions.{name}" for name in ("session", "chat", "parent", "delay", "delay_unit_s", "duration", "history")
))  # fmt: skip
INSTEAD = {
    "prompt": "workload=synthetic and sessions draw prompts from it",
    "output": "workload=synthetic and sessions draw outputs from it",
    "columns": "workload=csv names the columns of a file",
    "sessions": "workload=sessions generates conversations, and a file names theirs by its columns",
    "path": "its requests are generated; workload=csv reads a file",
    "failed": "its requests are generated, and none failed",
}


def refuse_unread(workload: WorkloadConfig, kind: ModuleType) -> None:
    """Refuse keys that differ from their default and have no effect under a kind.

    Raises
    ------
    UserError
        In one line, naming the first such key and what reads it.
    """
    read = (*EVERY_KIND, *getattr(kind, "READS", ()), *(() if hasattr(kind, "generate") else FILES))
    for key, value in _changed(workload, WorkloadConfig()):
        if not any(key == known or key.startswith(f"{known}.") for known in read):
            raise UserError(
                f"workload.{key}={_short(value)}: has no effect with workload={workload.kind}; "
                f"{INSTEAD[key.partition('.')[0]]}"
            )


def without_meaning(workload: WorkloadConfig) -> list[str]:
    """Return a note on each key that another key leaves without meaning; a sweep may well cross the two."""
    window, arrivals, other = workload.window, workload.arrivals, WorkloadConfig()
    found = []
    for key, value, default, reads, under in (
        ("rate_scaling", workload.rate_scaling, other.rate_scaling, workload.timestamps == "scaled",
         f"timestamps={workload.timestamps}; scaled divides gaps by it"),
        ("window.start_row", window.start_row, other.window.start_row, window.kind == "rows",
         f"window.kind={window.kind}; rows starts there"),
        ("window.start_s", window.start_s, other.window.start_s, window.kind == "time",
         f"window.kind={window.kind}; time starts there"),
        ("window.duration_s", window.duration_s, other.window.duration_s, window.kind == "time",
         f"window.kind={window.kind}; time is so long"),
        ("arrivals.cv", arrivals.cv, other.arrivals.cv, arrivals.kind == "gamma",
         f"arrivals.kind={arrivals.kind}; gamma varies its gaps by it"),
        ("arrivals.think_time_s", arrivals.think_time_s, other.arrivals.think_time_s, arrivals.kind == "closed",
         f"arrivals.kind={arrivals.kind}; users of closed think so long"),
    ):  # fmt: skip
        if not reads and value != default:
            found.append(f"workload.{key}={_short(value)}: without meaning under workload.{under}")
    return found


def _changed(one: Any, other: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys of a group, dotted, whose values are not those of `other`."""
    for field in dataclasses.fields(one):
        value, default = getattr(one, field.name), getattr(other, field.name)
        if dataclasses.is_dataclass(value):
            yield from _changed(value, default, f"{above}{field.name}.")
        elif value != default:
            yield f"{above}{field.name}", value


def _short(value: Any) -> str:
    if value is None:
        return "null"
    return f"{value:g}" if isinstance(value, float) else str(value)
