"""Predicted lengths of the user's own: by a column of the trace, by a function, by an array; and how wrong they are."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

import mbexp
from mbexp import UserError
from mbexp.prediction import kendall_tau, prediction_errors
from mbexp.workload.trace import Trace

Run = Callable[..., tuple[int, str, str]]

LENGTHS = [(5, 10, 12), (7, 300, 200), (9, 20, 35), (11, 80, 60), (400, 80, 81)]  # prompt, output, predicted


def trace_file(folder: Path) -> None:
    rows = [f"{at * 0.5},{prompt},{output},{guess}" for at, (prompt, output, guess) in enumerate(LENGTHS)]
    text = "\n".join(["arrival_s,prompt_tokens,output_tokens,guess", *rows]) + "\n"
    (folder / "trace.csv").write_text(text)


def stored(folder: Path) -> tuple[dict, object]:
    import pyarrow.parquet as parquet

    (run,) = [path for path in (folder / "outputs").iterdir() if path.is_dir()]
    return json.loads((run / "summary.json").read_text()), parquet.read_table(run / "requests.parquet")


def test_a_column_of_the_trace_is_the_prediction(command: Run, tmp_path: Path) -> None:
    trace_file(tmp_path)

    code, _, err = command("workload=csv", "workload.path=trace.csv", "predictor=column", "predictor.column=guess")

    assert (code, err) == (0, "")
    summary, requests = stored(tmp_path)
    guess, true = [each[2] for each in LENGTHS], [each[1] for each in LENGTHS]
    assert requests["predicted_tokens"].to_pylist() == guess
    assert summary["prediction_bias_tokens"] == pytest.approx(sum(map(int.__sub__, guess, true)) / 5)
    assert summary["prediction_mae_log"] == pytest.approx(
        sum(abs(math.log(a / b)) for a, b in zip(guess, true, strict=True)) / 5
    )
    assert summary["prediction_kendall_tau"] == pytest.approx(kendalltau(guess, true).statistic)


OWN = """
import mbexp

def by_prompt(prompt_tokens, columns, seed, slope=2.0):
    return slope * prompt_tokens + columns["guess"] * 0 + seed

def by_model(prompt_tokens, columns, seed):
    return [100 if model == "long" else 10 for model in columns["model"]]

def broken(prompt_tokens, columns, seed):
    return prompt_tokens / 0 if columns["nothing"] else 1

def one(prompt_tokens, columns, seed):
    return 7

def blank(prompt_tokens, columns, seed):
    return [1.0, float("nan"), 1, 1, 1]
"""


def test_a_function_of_the_users_is_handed_lengths_columns_seed_and_parameters(command: Run, tmp_path: Path) -> None:
    trace_file(tmp_path)
    (tmp_path / "own_predictors.py").write_text(OWN)
    words = ["workload=csv", "workload.path=trace.csv", "workload.columns.extra=[guess]", "seed=3"]

    code, _, err = command(*words, "predictor.kind=own_predictors.by_prompt", "predictor.parameters.slope=1.5")

    assert (code, err) == (0, "")
    _, requests = stored(tmp_path)
    # halves go to the even number, as NumPy rounds
    assert requests["predicted_tokens"].to_pylist() == [round(1.5 * each[0] + 3) for each in LENGTHS]
    for kind, message in (
        ("by_prompts", "own_predictors has no by_prompts (did you mean 'by_prompt'?)"),
        ("broken", "failed with KeyError: 'nothing'"),
        ("one", "gives an array of shape (); 5 requests need (5,)"),
        ("blank", "gives no length for 1 of 5 requests, first for request 1 (nan)"),
    ):
        code, _, err = command(*words, f"predictor.kind=own_predictors.{kind}")
        assert code == 1
        assert message in err
        assert err.count("\n") == 1
    code, _, err = command(*words, "predictor.kind=own_predictors.by_prompt", "predictor.parameters.slop=1.5")
    assert "predictor.parameters.slop: own_predictors.by_prompt has no parameter of this name" in err
    assert "did you mean 'slope'" in err


def test_the_function_sees_text_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_by_model.py").write_text(OWN)
    codes, names = np.array([1, 0, -1], np.int8), {"model": ("short", "long")}
    trace = Trace([0.0, 1.0, 2.0], [5, 5, 5], [8, 8, 8], extra={"model": codes}, categories=names)

    result = mbexp.simulate(trace, **{"predictor.kind": "own_by_model.by_model"})

    assert result.prediction.tokens.tolist() == [100, 10, 10]


def test_an_array_from_python_is_the_prediction(make_trace: Callable[..., Trace]) -> None:
    trace = make_trace([0.0, 1.0, 2.0], [5, 50, 500])

    result = mbexp.simulate(trace, predicted_tokens=[4, 60, 499.6])

    assert result.prediction.tokens.tolist() == [4, 60, 500]
    assert result.requests["predicted_tokens"].tolist() == [4, 60, 500]
    assert result.summary["prediction_bias_tokens"] == pytest.approx(3)
    with pytest.raises(UserError, match=r"predicted_tokens: gives an array of shape \(2,\); 3 requests need \(3,\)"):
        mbexp.simulate(trace, predicted_tokens=[4, 60])
    with pytest.raises(UserError, match="predictor=noisy: has no effect beside predicted_tokens"):
        mbexp.simulate(trace, predicted_tokens=[4, 60, 1], predictor="noisy")


def test_a_missing_column_is_named(make_trace: Callable[..., Trace]) -> None:
    trace = make_trace([0.0], [5])
    trace.extra["guessed"] = np.array([1])
    with pytest.raises(UserError, match=r"predictor.column=guess: .*did you mean 'guessed'"):
        mbexp.simulate(trace, predictor="column", **{"predictor.column": "guess"})
    with pytest.raises(UserError, match=r"predictor.column=null"):
        mbexp.simulate(trace, predictor="column")


@pytest.mark.parametrize(("count", "most"), [(2, 3), (9, 3), (40, 12), (800, 70_000), (3000, 40), (150_000, 10**6)])
def test_kendalls_tau_is_that_of_scipy(count: int, most: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(20 if count < 5000 else 1):
        first = rng.integers(1, most + 1, count)
        second = rng.integers(1, most + 1, count) + first // 2
        ours, theirs = kendall_tau(first, second), kendalltau(first, second).statistic
        assert (math.isnan(ours) and math.isnan(theirs)) or ours == pytest.approx(theirs, abs=1e-12)


def test_the_oracle_makes_no_error() -> None:
    lengths = np.array([3, 9, 9, 2], np.int32)
    assert list(prediction_errors(lengths, lengths).values()) == [0, 0, 1]
    assert list(prediction_errors(lengths.copy(), lengths).values()) == [0, 0, pytest.approx(1)]
