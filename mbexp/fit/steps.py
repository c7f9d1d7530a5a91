"""Fits the law of a step: decode steps, prefills and mixed steps, each phase by the terms that it speaks of."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError
from mbexp.hardware.kernel_fit import NUMBERS, priced

FloatArray = npt.NDArray[np.float64]

PHASES = ("decode", "prefill", "mixed")
FLAT_BELOW_TOKENS = 256  # a shorter prefill reads the weights, and takes what a decode step of one takes
LEAST_POINTS = {"decode": 3, "prefill": 3, "mixed": 0}


@dataclass(frozen=True)
class StepPoints:
    """Times of single steps of an engine.

    Attributes
    ----------
    sequences, context_tokens : float64 arrays, shape (n,)
        Sequences that decode in the step, and tokens that they attend to in total.
    prompt_tokens, prompt_squares : float64 arrays, shape (n,)
        Prompt tokens of the step, and the sum of (end^2 - begin^2) over its pieces of prompts.
    seconds : float64 array, shape (n,)
    source : str
    notes : tuple of str
    """

    sequences: FloatArray
    context_tokens: FloatArray
    prompt_tokens: FloatArray
    prompt_squares: FloatArray
    seconds: FloatArray
    source: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.seconds)

    def phase(self, name: str) -> npt.NDArray[np.bool_]:
        """Return which steps are of a phase."""
        decodes, prompts = self.sequences > 0, self.prompt_tokens > 0
        return {"decode": decodes & ~prompts, "prefill": prompts & ~decodes, "mixed": decodes & prompts}[name]


@dataclass(frozen=True)
class StepFit:
    """A fitted law.

    Attributes
    ----------
    keys : dict of str to float
        The keys of ``gpu.law`` with ``kind: step``, in their units.
    phases : dict of str to (int, float, float)
        Points of each phase, and the median and the worst of their relative errors, percent.
    not_fitted : tuple of str
        Sentences about terms that the points do not determine.
    """

    keys: dict[str, float]
    phases: dict[str, tuple[int, float, float]] = field(default_factory=dict)
    not_fitted: tuple[str, ...] = ()


def fit_steps(points: StepPoints) -> StepFit:
    """Fit every term >= 0, by relative errors.

    Decode steps give ``c0 + c1 b + c2 C`` and prefills of at least 256 tokens ``p0 + p1 N + p2 Q``. Then the fixed time
    is p0, the floor c0 - p0, the time per sequence c1, and per sequence within the floor p1 - c1. What mixed steps take
    beyond is ``extra + mixed C``. Where p0 exceeds c0, all of c0 is the fixed time and the rest is the prefill's extra.

    Raises
    ------
    UserError
        If there are fewer than three decode steps or three prefills of 256 tokens, or one phase does not tell its
        terms apart.
    """
    decode, prefill = points.phase("decode"), points.phase("prefill")
    long = prefill & (points.prompt_tokens >= FLAT_BELOW_TOKENS)
    for name, rows in (("decode", decode), ("prefill", long)):
        if rows.sum() < LEAST_POINTS[name]:
            least = f"of at least {FLAT_BELOW_TOKENS} tokens " if name == "prefill" else ""
            raise UserError(
                f"{points.source}: {int(rows.sum())} {name} steps {least}found; a law of a step needs "
                f"{LEAST_POINTS[name]} or more"
            )
    c0, c1, c2 = _terms(points, decode, "decode steps", points.sequences, points.context_tokens)
    p0, p1, p2 = _terms(points, long, "prefills", points.prompt_tokens, points.prompt_squares)
    fixed_s = min(p0, c0)
    seconds = {
        "fixed_ms": fixed_s,
        "floor_ms": c0 - fixed_s,
        "sequence_ms": c1,
        "compute_ms": max(0.0, p1 - c1),
        "context_us": c2,
        "prefill_token_ms": p1,
        "prefill_square_ns": p2,
        "prefill_extra_ms": p0 - fixed_s,
        "mixed_context_us": 0.0,
    }
    not_fitted = []
    mixed = points.phase("mixed")
    if mixed.sum() >= 2:
        beyond = points.seconds[mixed] - _predict(seconds, points)[mixed]
        weight = 1 / points.seconds[mixed]
        columns = np.stack([np.ones(int(mixed.sum())), points.context_tokens[mixed]], axis=1)
        extra, more = nonnegative(columns * weight[:, None], beyond * weight)
        seconds["mixed_context_us"] = more
        if extra:  # a prefill alone does not have it: state it, and leave it out of prefills' price
            not_fitted.append(
                f"mixed steps take {1e3 * extra:.3g} ms more than the law says, whatever their context; no term has it"
            )
    else:
        not_fitted.append("mixed_context_us: 0, since the points have no mixed steps")
    predicted_s = _predict(seconds, points)
    error_pct = 100 * np.abs(predicted_s / points.seconds - 1)
    phases = {
        name: (int(rows.sum()), float(np.median(error_pct[rows])), float(error_pct[rows].max()))
        for name in PHASES
        if (rows := points.phase(name)).any()
    }
    keys = {key: float(f"{value * NUMBERS[key]:.6g}") for key, value in seconds.items()}
    return StepFit(keys, phases, tuple(not_fitted))


def _predict(seconds: dict[str, float], points: StepPoints) -> FloatArray:
    rows = np.stack([points.sequences, points.context_tokens, points.prompt_tokens, points.prompt_squares], axis=1)
    return priced(np.array([seconds.get(key, 0.0) for key in NUMBERS]), rows, 1.0)


def _terms(
    points: StepPoints, rows: npt.NDArray[np.bool_], what: str, first: FloatArray, second: FloatArray
) -> tuple[float, float, float]:
    """Return constant, slope in `first` and slope in `second` of some steps."""
    weight = 1 / points.seconds[rows]
    columns = np.stack([np.ones(int(rows.sum())), first[rows], second[rows]], axis=1) * weight[:, None]
    scaled = columns / np.linalg.norm(columns, axis=0)
    if np.linalg.cond(scaled) > 1e6:
        raise UserError(
            f"{points.source}: the {what} do not tell three terms apart; measure several sizes, each at several lengths"
        )
    c0, c1, c2 = nonnegative(columns, np.ones(int(rows.sum())))
    return c0, c1, c2


def nonnegative(columns: FloatArray, values: FloatArray) -> list[float]:
    """Return the least-squares solution with every term >= 0; the columns may differ in size by any factor."""
    from scipy.optimize import nnls

    scale = np.linalg.norm(columns, axis=0)
    scale[scale == 0.0] = 1.0
    found, _ = nnls(columns / scale, values)
    return [float(value) for value in found / scale]
