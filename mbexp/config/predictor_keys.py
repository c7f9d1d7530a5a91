"""Keys of the group `predictor`: how output lengths are predicted before a request runs."""

from __future__ import annotations

from dataclasses import dataclass

from mbexp.config.schema import Numbers, option
from mbexp.config.workload_keys import MAX_TOKENS

PREDICTORS = ("oracle", "noisy", "prompt_power_law", "confusion", "constant", "column")
CONFUSIONS = ("neighbour", "bert_k2", "bert_k4", "explicit")


@dataclass(frozen=True)
class PredictorConfig:
    """How output lengths are predicted before a request runs."""

    kind: str = option(
        "oracle", "rule of the prediction; a dotted path names your own", choices=PREDICTORS, dotted=True
    )
    column: str | None = option(None, "'column': column of the trace that holds predicted lengths, in tokens")
    parameters: Numbers = option({}, "numbers handed to your own predictor: by the names it declares, or in order")
    sigma: float = option(0.5, "'noisy': standard deviation of the logarithm of the error", low=0, high=20)
    confusion: str = option("neighbour", "'confusion': which matrix", choices=CONFUSIONS)
    error_probability: float = option(0.1, "'neighbour': chance of each neighbouring bin (p of P1)", low=0, high=0.5)
    matrix: list[list[float]] | None = option(None, "'explicit': rows = true bin, columns = predicted bin", low=0)
    value_tokens: float = option(128.0, "'constant': the one prediction", above=0, high=MAX_TOKENS)
    scale_tokens: float = option(1.5, "'prompt_power_law': prediction for a prompt of one token", above=0)
    exponent: float = option(0.7, "'prompt_power_law': power of the prompt's length", low=-10, high=10)
    power_law_sigma: float = option(
        0.1, "'prompt_power_law': standard deviation of the logarithm of its noise", low=0, high=20
    )
    longest_tokens: int = option(4096, "'prompt_power_law': no prediction is longer", low=1, high=MAX_TOKENS)
    low_factor: float = option(
        1.0, "of the prediction: no output is thought to be shorter (execution.future_estimate=low)", above=0, high=1
    )
    high_factor: float = option(
        1.0, "of the prediction: no output is thought to be longer (execution.future_estimate=high)", low=1, high=1000
    )
