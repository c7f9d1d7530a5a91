"""Fits the law of a step: decode steps, prefills and mixed steps, each phase by the terms that it speaks of."""

from __future__ import annotations

import dataclasses
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


def fit_steps(points: StepPoints, active_share: float = 0.0) -> StepFit:
    """Fit every term >= 0, by relative errors.

    Decode steps give ``c0 + c1 b + c2 C`` and prefills of at least 256 tokens ``p0 + p1 N + p2 Q``. Then the fixed time
    is p0, the floor c0 - p0, the time per sequence c1, and per sequence within the floor p1 - c1. What mixed steps take
    beyond is ``extra + mixed C``. Where p0 exceeds c0, all of c0 is the fixed time and the rest is the prefill's extra.

    Of a mixture of experts, `active_share` of which a token activates, decode steps give ``c0 + c1 b + c2 C + experts
    (1 - (1 - active_share)^b)``, and there is no floor: the fixed time is c0. Prefills then give what they take beyond.

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
    seconds = _of_experts(points, decode, long, active_share) if active_share else _dense(points, decode, long)
    not_fitted = []
    mixed = points.phase("mixed")
    if mixed.sum() >= 2:
        beyond = points.seconds[mixed] - _predict(seconds, points, active_share)[mixed]
        weight = 1 / points.seconds[mixed]
        columns = np.stack([np.ones(int(mixed.sum())), points.context_tokens[mixed]], axis=1)
        seconds["mixed_extra_ms"], seconds["mixed_context_us"] = nonnegative(columns * weight[:, None], beyond * weight)
    else:
        not_fitted.append("mixed_extra_ms, mixed_context_us: 0, since the points have no mixed steps")
    predicted_s = _predict(seconds, points, active_share)
    error_pct = 100 * np.abs(predicted_s / points.seconds - 1)
    phases = {
        name: (int(rows.sum()), float(np.median(error_pct[rows])), float(error_pct[rows].max()))
        for name in PHASES
        if (rows := points.phase(name)).any()
    }
    keys = {key: float(f"{value * NUMBERS[key]:.6g}") for key, value in seconds.items()}
    if active_share:
        keys["experts_active_share"] = active_share
    return StepFit(keys, phases, tuple(not_fitted))


def _dense(points: StepPoints, decode: npt.NDArray[np.bool_], long: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Return the terms of decode steps and prefills, seconds, by the keys of `NUMBERS`."""
    c0, c1, c2 = _terms(points, decode, "decode steps", points.sequences, points.context_tokens)
    p0, p1, p2 = _terms(points, long, "prefills", points.prompt_tokens, points.prompt_squares)
    fixed_s = min(p0, c0)
    return {
        "fixed_ms": fixed_s,
        "floor_ms": c0 - fixed_s,
        "sequence_ms": c1,
        "compute_ms": max(0.0, p1 - c1),
        "context_us": c2,
        "prefill_token_ms": p1,
        "prefill_square_ns": p2,
        "prefill_extra_ms": p0 - fixed_s,
    }


def _of_experts(
    points: StepPoints, decode: npt.NDArray[np.bool_], long: npt.NDArray[np.bool_], active_share: float
) -> dict[str, float]:
    """Return the same of a mixture of experts."""
    met = 1 - (1 - active_share) ** points.sequences
    c0, c1, c2, experts_s = _terms(points, decode, "decode steps", points.sequences, points.context_tokens, met)
    loaded_s = c0 + experts_s * (1 - (1 - active_share) ** points.prompt_tokens)
    beyond = dataclasses.replace(points, seconds=points.seconds - loaded_s)
    extra_s, p1, p2 = _terms(beyond, long, "prefills", points.prompt_tokens, points.prompt_squares, of=points.seconds)
    return {
        "fixed_ms": c0,
        "sequence_ms": c1,
        "context_us": c2,
        "prefill_token_ms": p1,
        "prefill_square_ns": p2,
        "prefill_extra_ms": extra_s,
        "experts_ms": experts_s,
    }


def _predict(seconds: dict[str, float], points: StepPoints, active_share: float) -> FloatArray:
    rows = np.stack([points.sequences, points.context_tokens, points.prompt_tokens, points.prompt_squares], axis=1)
    return priced(np.array([seconds.get(key, 0.0) for key in NUMBERS]), rows, 1.0 - active_share)


def _terms(
    points: StepPoints,
    rows: npt.NDArray[np.bool_],
    what: str,
    *slopes: FloatArray,
    of: FloatArray | None = None,
) -> list[float]:
    """Return the constant of some steps, and their slope in each of `slopes`, by errors relative to `of`."""
    weight = 1 / (points.seconds if of is None else of)[rows]
    columns = np.stack([np.ones(int(rows.sum())), *(slope[rows] for slope in slopes)], axis=1) * weight[:, None]
    scaled = columns / np.linalg.norm(columns, axis=0)
    if np.linalg.cond(scaled) > 1e6 or len(columns) < columns.shape[1]:
        number = {3: "three", 4: "four"}[columns.shape[1]]
        raise UserError(
            f"{points.source}: the {what} do not tell {number} terms apart; measure several sizes, each at several "
            "lengths"
        )
    return nonnegative(columns, points.seconds[rows] * weight)


def nonnegative(columns: FloatArray, values: FloatArray) -> list[float]:
    """Return the least-squares solution with every term >= 0; the columns may differ in size by any factor."""
    from scipy.optimize import nnls

    scale = np.linalg.norm(columns, axis=0)
    scale[scale == 0.0] = 1.0
    found, _ = nnls(columns / scale, values)
    return [float(value) for value in found / scale]
