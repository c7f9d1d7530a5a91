"""Fits the law of a step to the kernel tables of aiconfigurator-core: what is asked, the fit and its errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.config.gpu_keys import LawConfig
from mbexp.config.kernel_tables import ENGINES, described, facade, kept, unsupported

FloatArray = npt.NDArray[np.float64]
Step = tuple[str, int, int, int, int]  # phase, sequences, context of each, prompt tokens, tokens before them

PHASES = ("decode", "prefill", "mixed")
# In the order of the numbers that are fitted, with the power of ten from seconds.
NUMBERS = {
    "fixed_ms": 1e3,
    "floor_ms": 1e3,
    "sequence_ms": 1e3,
    "compute_ms": 1e3,
    "context_us": 1e6,
    "prefill_token_ms": 1e3,
    "prefill_square_ns": 1e9,
    "prefill_extra_ms": 1e3,
    "mixed_context_us": 1e6,
    "experts_ms": 1e3,
    "mixed_extra_ms": 1e3,
}


@dataclass(frozen=True)
class Points:
    """Steps of every phase: b, C, N, Q of each, and its seconds; columns of `rows`."""

    rows: FloatArray
    phase: npt.NDArray[np.str_]


def grid() -> list[Step]:
    """Return (phase, sequences, context of each, prompt tokens, tokens before them)."""
    contexts = (128, 256, 512, 1024, 2048, 4096, 8192, 16_384)
    sizes = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256)
    found = [("decode", b, x, 0, 0) for b in sizes for x in contexts if b * x <= 1_000_000]
    lengths = (16, 64, 128, 256, 384, 512, 768, 1024, 2048, 4096, 8192)
    found += [("prefill", 0, 0, n, before) for n in lengths for before in (0, 1024, 4096, 16_384)]
    found += [
        ("mixed", b, x, n, before)
        for n in (128, 256, 512, 1024, 2048, 4096, 8192)
        for b in (1, 8, 32, 64, 128, 256)
        for x in (256, 1024, 4096)
        for before in (0, 4096)
    ]
    return found


def random_points(rng: np.random.Generator) -> list[Step]:
    """Return 400 points a phase, off the grid."""

    def between(low: float, high: float) -> int:
        return int(np.exp(rng.uniform(np.log(low), np.log(high + 0.9))))

    found: list[Step] = []
    while sum(row[0] == "decode" for row in found) < 400:
        b, x = between(1, 256), between(128, 16_384)
        if b * x <= 1_000_000:
            found.append(("decode", b, x, 0, 0))
    for _ in range(400):
        before = 0 if rng.random() < 0.5 else between(16, 16_384)
        found.append(("prefill", 0, 0, between(16, 8192), before))
        before = 0 if rng.random() < 0.5 else between(16, 8192)
        found.append(("mixed", between(1, 256), between(128, 4096), between(128, 8192), before))
    return found


def ask(engine: Any, points: list[Step]) -> Points:
    """Return the seconds of each point.

    The tables' own mixed step gets cheaper as the prefix of its chunk grows. Put together here: the chunk's prefill,
    what the decoding sequences add to the products shared by both, and their attention.
    """
    rows = []
    for _, b, x, n, before in points:
        if not n:
            ms = engine.decode_step_latency(b, x - 1, 2)
        else:
            ms = engine.predict_prefill_latency(1, n + before, before)
            if b:
                _, shared, _, attention = engine.mixed_step_breakdown(n, b, x - 1, 2)
                ms += shared - engine.mixed_step_breakdown(n, 0, x - 1, 2)[1] + attention
        rows.append((b, b * x, n, float(n) * (n + 2 * before), ms / 1e3))
    return Points(np.array(rows, float), np.array([point[0] for point in points]))


def priced(numbers: FloatArray, rows: FloatArray, idle: float) -> FloatArray:
    """Return the law's seconds of each row."""
    fixed, floor, sequence, compute, context, token, square, extra, mixed, experts, beside = numbers
    b, total, n, squares = rows[:, :4].T
    seconds = fixed + sequence * b + np.maximum(floor, compute * b + token * n) + context * total + square * squares
    seconds = seconds + (n > 0) * (extra + mixed * total) + ((n > 0) & (b > 0)) * beside
    return seconds + experts * (1 - idle ** (b + n))


def fit(points: Points, active_share: float, mixed: bool = False) -> FloatArray:
    """Return the numbers of the law, in seconds."""
    from scipy.optimize import least_squares

    rows, dense = points.rows, active_share == 0
    weight = np.select([points.phase == "decode", points.phase == "prefill"], [2.0, 1.5], 1.0)
    weight /= np.sqrt([np.sum(points.phase == phase) for phase in points.phase])
    first = rows[(points.phase == "decode")][0, 4]
    start = np.array([0.4 * first, 0.6 * first, 1e-5, 1e-5, 5e-8, 3e-5, 1e-9, 1e-3, 0, 0, 0])
    free = np.array([True] * 9 + [False] * 2)
    free[8] = mixed  # kernel tables take the kernel of a decode step: what a mixed step adds is not in them
    if mixed:
        start[8] = start[4]
    if not dense:
        start[[1, 9]] = 0.0, first
        free[[1, 9]] = False, True

    def residuals(logs: FloatArray) -> FloatArray:
        numbers = start.copy()
        numbers[free] = logs**2 * scale
        return weight * (priced(numbers, rows, 1 - active_share) / rows[:, 4] - 1)

    scale = np.maximum(start[free], 1e-12)
    done = least_squares(residuals, np.ones(free.sum()), loss="soft_l1", f_scale=0.005, max_nfev=4000, xtol=1e-12)
    numbers = start.copy()
    numbers[free] = done.x**2 * scale
    return numbers


def fitted(law: LawConfig) -> dict[str, Any]:
    """Return the law of a step for a system, a model and an engine: from the cache, or asked for and fitted.

    Returns
    -------
    dict
        ``keys``, the keys of ``gpu.law`` with ``kind: step``; ``errors``, of each phase the median and the worst
        relative error of 400 random points off the grid, percent; ``queries``, how many the fit is of.

    Raises
    ------
    UserError
        Where the extra is missing, or has no tables for it.
    """
    system, model, cards = law.system, law.model, law.tensor_parallel
    facts = described(system, model, law.engine, cards)
    assert system is not None

    def make() -> dict[str, Any]:
        package = facade()
        try:
            engine = package.compile(model, system, ENGINES[law.engine], cards)
            points, test = ask(engine, grid()), ask(engine, random_points(np.random.default_rng(1)))
            for found in (points, test):
                if not np.all(np.isfinite(found.rows[:, 4]) & (found.rows[:, 4] > 0)):
                    raise ValueError("a step of its tables takes no time")
        except Exception as error:  # which it is depends on the table that is missing
            raise unsupported(package, system, model, law.engine, cards, error) from None
        return fit_and_test(points, test, facts["active_share"])

    return kept(["law", facts["package_version"], facts["engine_version"], system, model, law.engine, cards], make)


def fit_and_test(points: Points, test: Points, active_share: float) -> dict[str, Any]:
    """Return what `fitted` does, of some points to fit to and others to test on."""
    numbers = fit(points, active_share)
    error_pct = 100 * np.abs(priced(numbers, test.rows, 1 - active_share) / test.rows[:, 4] - 1)
    keys = {
        key: float(f"{number * unit:.5g}")
        for (key, unit), number in zip(NUMBERS.items(), numbers, strict=True)
        if number * unit > 1e-9
    }
    if active_share:
        keys["experts_active_share"] = active_share
    errors = {}
    for phase in PHASES:
        own = error_pct[test.phase == phase]
        errors[phase] = [float(np.median(own)), float(own.max())]
    return {"keys": keys, "errors": errors, "queries": len(points.rows)}
