"""What named schedulers differ in beside what their names say: the most requests that may run at once."""

from __future__ import annotations

from collections.abc import Sequence

from mbexp.policy.build import limit_max
from mbexp.results.lines import prose_lines
from mbexp.sweep.points import Point

TIMES = 2  # as many at once: a difference that decides more than an order does


def unlike_limits(points: Sequence[Point]) -> list[str]:
    """Return the lines that warn of a comparison of schedulers by name whose limits differ, if any.

    Schedulers of one execution mode are compared. A limit that the command sets or sweeps is the reader's own choice.
    """
    found: dict[str, int] = {}
    if any(word.startswith("scheduler.") and "batch_size" in word for point in points for word in point.overrides):
        return []
    for point in points:
        scheduler = point.config.scheduler
        if "scheduler" in point.swept and scheduler.batch_size == "fixed":
            found[scheduler.name] = limit_max(scheduler)
    if len(found) < 2 or max(found.values()) < TIMES * min(found.values()):
        return []
    each = ", ".join(f"{name} {limit:,}" for name, limit in found.items())
    said = (
        f"! these schedulers let different numbers of requests run at once on a GPU ({each}), which may decide more "
        "than their rules; scheduler.fixed_batch_size sets it for all, and scheduler.order=fifo,sjf compares orders "
        "alone"
    )
    return [*prose_lines(said, "  "), ""]
