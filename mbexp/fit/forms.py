"""The three forms of law that can be fitted: what each predicts, its parameters, and which points speak of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.config.gpu_keys import LawConfig
from mbexp.fit.points import Points

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Card:
    """Peaks of the GPU and name of the model card, for the roofline."""

    bandwidth_gb_per_s: float
    dense_tflops: float
    model: str
    card: str | None = None


@dataclass(frozen=True)
class Parameter:
    """One number to fit.

    Attributes
    ----------
    key : str
        Name in ``gpu.law``.
    assumed : float
        Where the search starts, and what stands where the points do not determine it.
    high : float
        Upper bound; the lower one is `low`.
    optional : bool
        Whether it may be left at `assumed`.
    """

    key: str
    assumed: float
    low: float = 0.0
    high: float = np.inf
    optional: bool = False


@dataclass(frozen=True)
class LawForm:
    """A form of law.

    Attributes
    ----------
    kind : str
        Name in ``gpu.law.kind``.
    parameters : tuple of Parameter
    rows : callable
        Mask of the points that the form is fitted to.
    predict : callable
        Seconds of points, of parameters in the units of the configuration.
    """

    kind: str
    parameters: tuple[Parameter, ...]
    rows: Callable[[Points], npt.NDArray[np.bool_]]
    predict: Callable[[FloatArray, Points], FloatArray]


def _static(points: Points) -> npt.NDArray[np.bool_]:
    return points.phase == "static"


def _affine(theta: FloatArray, points: Points) -> FloatArray:
    alpha_ms, beta_ms, gamma = theta
    b = points.batch_size
    return (alpha_ms + beta_ms * points.total_tokens * (1 + gamma * (b - 1) / b)) / 1e3


def _linear(theta: FloatArray, points: Points) -> FloatArray:
    c0_ms, c1_ms = theta
    steps = np.where(points.phase == "static", points.output_tokens, 1.0)
    return steps * (c0_ms + c1_ms * points.batch_size) / 1e3


AFFINE = LawForm(
    "affine", (Parameter("alpha_ms", 50.0), Parameter("beta_ms", 5.0), Parameter("gamma", 0.3)), _static, _affine
)
LINEAR = LawForm("linear", (Parameter("c0_ms", 10.0), Parameter("c1_ms", 0.1)), _static, _linear)


def _steps(theta: FloatArray, points: Points) -> FloatArray:
    fixed_ms, token_ms, context_us = theta
    b, prompt, output = points.batch_size, points.prompt_tokens, points.output_tokens
    seconds = output * fixed_ms / 1e3 + b * (output + prompt) * token_ms / 1e3
    return seconds + b * output * (prompt + 0.5 * output) * context_us / 1e6


# What a batch takes as the sum of its steps; from whole batches a sequence's time and a prompt token's are not told
# apart, so that it is shown beside the laws and is none.
SUM_OF_STEPS = LawForm(
    "sum of steps",
    (Parameter("fixed_ms", 10.0), Parameter("token_ms", 0.05), Parameter("context_us", 0.1)),
    _static,
    _steps,
)


def roofline_form(card: Card) -> LawForm:
    """Return the roofline of a card.

    It is fitted to prefills and decode steps where the file has them, and then predicts whole batches; else to whole
    batches.
    """
    default = LawConfig()
    efficiencies = (
        "bandwidth_efficiency_weights",
        "bandwidth_efficiency_attention",
        "compute_efficiency",
        "compute_efficiency_attention",
    )
    parameters = [Parameter(key, getattr(default, key), 1e-3, 1.0, True) for key in efficiencies]
    parameters.append(Parameter("step_overhead_ms", default.step_overhead_ms, 0.0, np.inf, True))

    def rows(points: Points) -> npt.NDArray[np.bool_]:
        parts = ~_static(points)
        return parts if parts.sum() > len(parameters) else np.ones(len(points), np.bool_)

    def predict(theta: FloatArray, points: Points) -> FloatArray:
        from mbexp.hardware.laws.roofline import iteration_form

        values: dict[str, Any] = {p.key: float(value) for p, value in zip(parameters, theta, strict=True)}
        price = iteration_form(
            LawConfig(
                kind="roofline",
                bandwidth_gb_per_s=card.bandwidth_gb_per_s,
                dense_tflops=card.dense_tflops,
                model=card.model,
                **values,
            )
        )
        b, prompt, output = points.batch_size, points.prompt_tokens, points.output_tokens
        step_s = price.fixed_s + np.maximum(price.floor_s, price.compute_s * b)
        decode_s = step_s + price.context_s * b * points.context_tokens
        prefill_s = (
            price.fixed_s
            + np.maximum(price.floor_s, price.prefill_token_s * b * prompt + price.prefill_sequence_s * b)
            + price.prefill_square_s * b * prompt**2
        )
        steps = np.maximum(output - 1, 0)
        static_s = prefill_s + steps * (step_s + price.context_s * b * (prompt + 0.5 * output))
        return np.where(points.phase == "decode", decode_s, np.where(points.phase == "prefill", prefill_s, static_s))

    return LawForm("roofline", tuple(parameters), rows, predict)


FORMS = {"affine": AFFINE, "linear": LINEAR}
