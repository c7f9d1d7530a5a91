"""Predictors: what they return, and how often they put a request into the wrong bin."""

from __future__ import annotations

import numpy as np
import pytest

from mbexp.config.keys import BinsConfig, PredictorConfig
from mbexp.errors import UserError
from mbexp.prediction import BERT, confusion_matrix, predict

N = 200_000
RNG = np.random.default_rng(1)
PROMPT = RNG.integers(1, 2000, N).astype(np.int32)
OUTPUT = RNG.integers(1, 1_000_000, N).astype(np.int32)


def test_the_oracle_never_misbins() -> None:
    prediction = predict(PredictorConfig(kind="oracle"), BinsConfig(k=8), PROMPT, OUTPUT, seed=0)

    assert prediction.tokens is OUTPUT
    assert prediction.misbin_pct == 0


def test_noise_is_lognormal_with_median_one() -> None:
    prediction = predict(PredictorConfig(kind="noisy", sigma=0.5), BinsConfig(k=2), PROMPT, OUTPUT, seed=0)

    error = np.log(prediction.tokens[OUTPUT > 1000] / OUTPUT[OUTPUT > 1000])
    assert np.mean(error) == pytest.approx(0, abs=0.01)
    assert np.std(error) == pytest.approx(0.5, rel=0.01)


def test_the_power_law_is_the_originals() -> None:
    quiet = PredictorConfig(kind="prompt_power_law", power_law_sigma=0.0)

    tokens = predict(quiet, BinsConfig(k=2), np.array([1, 100, 10**7], np.int32), OUTPUT[:3], seed=0).tokens

    assert tokens.tolist() == [1, int(1.5 * 100**0.7), 4096]


def test_a_constant_prediction_leaves_one_bin() -> None:
    prediction = predict(PredictorConfig(kind="constant"), BinsConfig(k=4), PROMPT, OUTPUT, seed=0)

    assert prediction.bins.k == 1


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("k", [2, 4])
def test_neighbour_errors_have_the_chances_of_p1(p: float, k: int) -> None:
    predictor = PredictorConfig(kind="confusion", confusion="neighbour", error_probability=p)

    prediction = predict(predictor, BinsConfig(k=k), PROMPT, OUTPUT, seed=3)

    counted = np.zeros((k, k))
    np.add.at(counted, (prediction.true_bin, prediction.bin_of), 1)
    assert counted / counted.sum(axis=1, keepdims=True) == pytest.approx(confusion_matrix(predictor, k), abs=0.01)
    # Two edge bins of k have one neighbour, the others two.
    assert prediction.misbin_pct == pytest.approx(100 * p * (2 * k - 2) / k, abs=0.5)


@pytest.mark.parametrize("name", BERT)
def test_bert_matrices_are_p1s(name: str) -> None:
    rows = np.array(BERT[name], float)
    predictor = PredictorConfig(kind="confusion", confusion=name)

    prediction = predict(predictor, BinsConfig(k=len(rows)), PROMPT, OUTPUT, seed=3)

    right = np.mean(np.diag(rows) / rows.sum(axis=1))
    assert prediction.misbin_pct == pytest.approx(100 * (1 - right), abs=0.5)


def test_a_wrong_bin_gets_a_length_of_that_bin() -> None:
    predictor = PredictorConfig(kind="confusion", confusion="bert_k4")

    prediction = predict(predictor, BinsConfig(k=4), PROMPT, OUTPUT, seed=3)

    assert prediction.bins.bin_of(prediction.tokens).tolist() == prediction.bin_of.tolist()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"confusion": "bert_k4"}, "set k_bins=4"),
        ({"confusion": "explicit"}, "predictor.matrix=null"),
        ({"confusion": "explicit", "matrix": [[1.0, 0.0]]}, "must be square"),
        ({"confusion": "explicit", "matrix": [[0.0, 0.0], [1.0, 0.0]]}, "positive sum"),
    ],
)
def test_bad_matrices_are_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        predict(PredictorConfig(kind="confusion", **keys), BinsConfig(k=2), PROMPT, OUTPUT, seed=0)  # type: ignore[arg-type]
