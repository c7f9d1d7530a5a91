"""Times one point after another, and keeps what came of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from mbexp.measure.plan import Point
from mbexp.measure.store import Row, Store


class OutOfMemory(Exception):
    """The device has no memory for a point."""


class Engine(Protocol):
    """What can run points: a GPU behind PyTorch, or a stand-in.

    `load` prepares a point (buffers, CUDA graphs) and returns two functions: one that renews the inputs, untimed, and
    one that does the work. `time` runs the work and returns its seconds. `peak_memory_bytes` is that since the last
    `load`; `unload` frees what `load` took. `load` and `time` raise `OutOfMemory`.
    """

    def load(self, point: Point) -> tuple[Callable[[], None], Callable[[], None]]: ...

    def time(self, work: Callable[[], None]) -> float: ...

    def peak_memory_bytes(self) -> int: ...

    def unload(self) -> None: ...


def measure(
    points: Sequence[Point],
    engine: Engine,
    store: Store,
    repeats: int = 20,
    seconds_per_point: float = 10.0,
    warm_up: int = 2,
    show: Callable[[Point], None] = lambda point: None,
) -> None:
    """Time every point that `store` does not hold yet.

    Parameters
    ----------
    repeats
        Timed runs of a point, with new inputs each.
    seconds_per_point
        No further run of a point is begun after this long, once there are three.
    warm_up
        Runs before the timed ones.
    show
        Called with each point before it is timed.

    Notes
    -----
    A point that needs no less memory than one that ran out of it is skipped, and stored as such.
    """
    for point in points:
        if point in store.done:
            continue
        show(point)
        if any(point.covers(failed) for failed in store.out_of_memory):
            store.add(Row(point, "skipped"))
            continue
        try:
            seconds = _time(point, engine, repeats, seconds_per_point, warm_up)
        except OutOfMemory:
            engine.unload()
            store.add(Row(point, "out_of_memory"))
            continue
        peak = engine.peak_memory_bytes()
        engine.unload()
        store.add(Row(point, "ok", seconds, peak))


def _time(point: Point, engine: Engine, repeats: int, budget_s: float, warm_up: int) -> tuple[float, ...]:
    began = time.monotonic()
    renew, work = engine.load(point)
    for _ in range(warm_up):
        renew()
        engine.time(work)
    seconds: list[float] = []
    while len(seconds) < repeats and (len(seconds) < 3 or time.monotonic() - began < budget_s):
        renew()
        seconds.append(engine.time(work))
    return tuple(seconds)
