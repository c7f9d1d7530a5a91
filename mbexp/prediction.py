"""Predicts output lengths before a request runs, and so the bin it joins."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.binning import Bins, make_bins
from mbexp.config.keys import BinsConfig, PredictorConfig
from mbexp.config.places import and_place, where_it_failed
from mbexp.config.plugins import load_object
from mbexp.errors import UserError, nearest
from mbexp.workload.trace import Trace

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]

STREAM = 2  # random stream of the predictor, apart from those of the workload

LONGEST_TOKENS = 2**24  # no prediction is longer

# P1, Fig. 11: what its BERT classifier predicted for the requests of each true bin (rows = true).
BERT = {
    "bert_k2": ((25802, 4778), (3668, 26716)),
    "bert_k4": ((12165, 2584, 490, 178), (2668, 8385, 3386, 724), (287, 2569, 8145, 4186), (82, 730, 4689, 9696)),
}


@dataclass(frozen=True)
class Prediction:
    """Predicted output lengths and the bins that they put requests into.

    Attributes
    ----------
    tokens : int32 array, shape (n,), each at least 1
    bins : Bins
    bin_of, true_bin : uint16 arrays, shape (n,)
        Bin by the predicted and by the true length.
    true_tokens : int32 array, shape (n,)
        What was predicted.
    """

    tokens: IntArray
    bins: Bins
    bin_of: npt.NDArray[np.uint16]
    true_bin: npt.NDArray[np.uint16]
    true_tokens: IntArray

    @cached_property
    def errors(self) -> dict[str, float]:
        """Measures of the error over all requests, defined in docs/metrics.md."""
        return prediction_errors(self.tokens, self.true_tokens)

    @property
    def misbin_pct(self) -> float:
        """Share of requests whose predicted bin is not that of their true length."""
        return 100.0 * float(np.mean(self.bin_of != self.true_bin)) if len(self.bin_of) else 0.0


def predict(
    predictor: PredictorConfig, bins: BinsConfig, prompt_tokens: IntArray, output_tokens: IntArray, seed: int
) -> Prediction:
    """Predict the output length of every request and put it into a bin.

    Parameters
    ----------
    prompt_tokens, output_tokens : int32 arrays, shape (n,)
        True lengths; only rules that model a predictor of known quality look at the output.
    seed
        Of the run; the predictor draws from a stream of its own, so that every policy sees the same predictions.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, STREAM]))
    if predictor.kind == "confusion":
        return _confusion(predictor, make_bins(bins, output_tokens), output_tokens, rng)
    if predictor.kind not in RULES:
        raise UserError(f"predictor.kind={predictor.kind}: needs a trace")
    return _binned(RULES[predictor.kind](predictor, prompt_tokens, output_tokens, rng), bins, output_tokens)


def predict_trace(predictor: PredictorConfig, bins: BinsConfig, trace: Trace, seed: int) -> Prediction:
    """Predict as `predict` does, by a column of the trace or a function of the user's too.

    Raises
    ------
    UserError
        If the column or the function is not there, or gives no length for some request.
    """
    if predictor.kind == "column":
        return _binned(_from_column(predictor, trace), bins, trace.output_tokens)
    if "." in predictor.kind:
        return _binned(_from_own(predictor, trace, seed), bins, trace.output_tokens)
    return predict(predictor, bins, trace.prompt_tokens, trace.output_tokens, seed)


def given_prediction(values: Any, bins: BinsConfig, trace: Trace) -> Prediction:
    """Return the prediction that an array holds, shape (n,), one number of tokens for each request of `trace`."""
    return _binned(_as_lengths("predicted_tokens", values, len(trace)), bins, trace.output_tokens)


def _binned(tokens: IntArray, bins: BinsConfig, output_tokens: IntArray) -> Prediction:
    made = make_bins(bins, tokens)
    bin_of = made.bin_of(tokens)
    true_bin = bin_of if tokens is output_tokens else made.bin_of(output_tokens)
    return Prediction(tokens, made, bin_of, true_bin, output_tokens)


def _from_column(predictor: PredictorConfig, trace: Trace) -> IntArray:
    name = predictor.column
    if not name:
        raise UserError("predictor.column=null: predictor=column needs the column of the trace with predicted lengths")
    where = f"predictor.column={name}"
    if name not in trace.extra:
        known = nearest(name, trace.extra) or f"; it has {', '.join(trace.extra) or 'none'}"
        raise UserError(f"{where}: the trace has no further column of this name{known}")
    if name in trace.categories:
        text = trace.labels(name)[0]
        raise UserError(f"{where}: holds text ({text!r} in the first request), not lengths in tokens")
    return _as_lengths(where, trace.extra[name], len(trace))


def _from_own(predictor: PredictorConfig, trace: Trace, seed: int) -> IntArray:
    """Call the user's function on copies, so that it cannot change what the run is made of."""
    where = f"predictor.kind={predictor.kind}"
    function: Any = load_object("predictor.kind", predictor.kind)
    if not callable(function):
        raise UserError(f"{where}: is no function")
    given, numbers = (trace.prompt_tokens.copy(), trace.columns(), seed), predictor.parameters
    named = dict(numbers) if isinstance(numbers, Mapping) else {}
    further = () if isinstance(numbers, Mapping) else tuple(numbers)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        signature = inspect.signature(lambda *all_, **named: None)
    takes = list(signature.parameters)[3:]
    for name in named:
        if name not in takes and not any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values()):
            known = nearest(name, takes) or f"; it declares {', '.join(takes) or 'none'}"
            raise UserError(f"predictor.parameters.{name}: {predictor.kind} has no parameter of this name{known}")
    try:
        signature.bind(*given, *further, **named)
    except TypeError as error:
        raise UserError(
            f"{where}{and_place(function)}: must take prompt_tokens, columns, seed and the numbers of "
            f"predictor.parameters ({error})"
        ) from None
    try:
        predicted = function(*given, *further, **named)
    except UserError:
        raise
    except Exception as error:
        code = getattr(function, "__code__", None)
        failed = where_it_failed(error, code.co_filename) if code else ""
        raise UserError(f"{where}: failed with {type(error).__name__}: {error}{failed}") from error
    return _as_lengths(where, predicted, len(trace))


def _as_lengths(where: str, values: Any, count: int) -> IntArray:
    """Return predictions as whole tokens, at least 1 and at most `LONGEST_TOKENS`."""
    try:
        numbers = np.asarray(values)
        tokens = numbers.astype(np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{where}: gives {type(values).__name__}, not a number of tokens for each request") from None
    if tokens.shape != (count,):
        raise UserError(f"{where}: gives an array of shape {tokens.shape}; {count:,} requests need ({count},)")
    wrong = ~np.isfinite(tokens)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise UserError(
            f"{where}: gives no length for {int(wrong.sum()):,} of {count:,} requests, first for request {at} "
            f"({tokens[at]})"
        )
    return np.clip(np.rint(tokens), 1, LONGEST_TOKENS).astype(np.int32)


def interval(predictor: PredictorConfig, tokens: IntArray) -> tuple[IntArray, IntArray]:
    """Return the least and the most that outputs are thought to be, each of shape (n,): predictions by two factors."""
    low = np.floor(predictor.low_factor * tokens)
    high = np.ceil(predictor.high_factor * tokens)
    return np.maximum(low, 1).astype(np.int32), np.minimum(high, LONGEST_TOKENS).astype(np.int32)


def prediction_errors(predicted: IntArray, true: IntArray) -> dict[str, float]:
    """Return bias, mean absolute error of the logarithm, and Kendall's tau-b of predicted lengths."""
    exact = predicted is true
    if not len(true):
        return {"prediction_bias_tokens": np.nan, "prediction_mae_log": np.nan, "prediction_kendall_tau": np.nan}
    difference = 0.0 if exact else float(np.mean(predicted - true.astype(np.float64)))
    logarithm = 0.0 if exact else float(np.mean(np.abs(np.log(predicted) - np.log(true))))
    of_itself = 1.0 if true.min() < true.max() else np.nan
    tau = of_itself if exact else kendall_tau(predicted, true)
    return {
        "prediction_bias_tokens": difference,
        "prediction_mae_log": logarithm,
        "prediction_kendall_tau": tau,
    }


def kendall_tau(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    """Return Kendall's tau-b (Biometrika 33, 1945), NaN where a side is constant.

    Pairs in disorder are counted a bit of the rank at a time: two ranks are in disorder where, at the highest bit in
    which they differ, a one stands before a zero. It takes O(n log m) steps for m different values of `second`.
    """
    x, y = _ranks(first), _ranks(second)
    num = int(y.max(initial=0)) + 1
    both = np.sort(x * num + y)  # in the order of `first`, ties in that of `second`
    ranks: npt.NDArray[Any] = (both % num).astype(
        np.uint16 if num <= 1 << 16 else np.int64
    )  # short ones are sorted by their digits
    pairs = len(ranks) * (len(ranks) - 1) // 2
    tied_x, tied_y = _tied(np.bincount(x)), _tied(np.bincount(y))
    tied_both = _tied(np.diff(np.flatnonzero(np.append(True, both[1:] != both[:-1])), append=len(both)))
    if tied_x == pairs or tied_y == pairs:
        return float("nan")
    disorder = 0
    for bit in range(max(num - 1, 1).bit_length() - 1, -1, -1):
        # those that agree in the higher bits stand together, each such group in the order of `first`
        one = (ranks >> bit) & 1 == 1
        ones = np.cumsum(one)
        group = ranks >> (bit + 1)
        starts = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
        zeros = np.diff(np.append(0, np.cumsum(~one))[np.append(starts, len(one))])
        # ones before each zero, less those of the groups in front
        disorder += int(ones[~one].sum()) - int((zeros * np.append(0, ones)[starts]).sum())
        ranks = ranks[np.argsort(ranks >> bit, kind="stable")]
    agreement = pairs - tied_x - tied_y + tied_both - 2 * disorder
    return agreement / (float(pairs - tied_x) ** 0.5 * float(pairs - tied_y) ** 0.5)


def _ranks(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return for each value how many different ones are smaller."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, -1)
    if high - low > 4 * len(values) + 1000:
        return np.unique(values, return_inverse=True)[1].astype(np.int64)
    here = np.zeros(high - low + 1, np.int64)
    here[values - low] = 1
    return (np.cumsum(here) - 1)[values - low]


def _tied(counts: npt.NDArray[Any]) -> int:
    return int((counts.astype(np.int64) * (counts - 1) // 2).sum())


def oracle(predictor: PredictorConfig, prompt: IntArray, output: IntArray, rng: np.random.Generator) -> IntArray:
    """The true length."""
    return output


def noisy(predictor: PredictorConfig, prompt: IntArray, output: IntArray, rng: np.random.Generator) -> IntArray:
    """The true length times exp(sigma Z), Z standard normal: right in the median, off by a factor."""
    factor = np.exp(predictor.sigma * rng.standard_normal(len(output)))
    return np.clip(np.rint(output * factor), 1, LONGEST_TOKENS).astype(np.int32)


def prompt_power_law(
    predictor: PredictorConfig, prompt: IntArray, output: IntArray, rng: np.random.Generator
) -> IntArray:
    """The original's: scale * prompt ** exponent with lognormal noise, rounded down; blind to the true output."""
    noise = np.exp(predictor.power_law_sigma * rng.standard_normal(len(prompt)))
    raw = predictor.scale_tokens * prompt.astype(np.float64) ** predictor.exponent * noise
    return np.clip(np.floor(raw), 1, predictor.longest_tokens).astype(np.int32)


def constant(predictor: PredictorConfig, prompt: IntArray, output: IntArray, rng: np.random.Generator) -> IntArray:
    """The same for all."""
    return np.full(len(output), max(1, round(predictor.value_tokens)), np.int32)


def _confusion(predictor: PredictorConfig, bins: Bins, output: IntArray, rng: np.random.Generator) -> Prediction:
    """A classifier over bins of the true length, wrong as its confusion matrix says.

    A request in a wrong bin gets the length of a request drawn at random from that bin.
    """
    chances = confusion_matrix(predictor, bins.k)
    true_bin = bins.bin_of(output)
    cumulative = np.cumsum(chances, axis=1)
    cumulative[:, -1] = 1.0
    bin_of = (rng.random(len(output))[:, None] >= cumulative[true_bin]).sum(axis=1).astype(np.uint16)
    place = rng.random(len(output))
    by_length = np.sort(output)
    bounds = np.searchsorted(by_length, np.concatenate(([-np.inf], bins.edges, [np.inf])), side="right")
    wrong = (bin_of != true_bin) & (bounds[bin_of] < bounds[bin_of.astype(np.int64) + 1])
    low, high = bounds[bin_of[wrong]], bounds[bin_of[wrong].astype(np.int64) + 1]
    tokens = output.copy()
    tokens[wrong] = by_length[low + (place[wrong] * (high - low)).astype(np.int64)]
    return Prediction(tokens, bins, bin_of, true_bin, output)


def confusion_matrix(predictor: PredictorConfig, k: int) -> FloatArray:
    """Return P(predicted bin | true bin), rows = true, shape (K, K).

    ``neighbour`` is P1's error: an interior bin goes to each neighbour with probability p, an edge bin to its one
    neighbour with p. ``bert_k2`` and ``bert_k4`` are P1's Fig. 11, each row divided by its sum.
    """
    if predictor.confusion == "neighbour":
        matrix = np.eye(k)
        p = predictor.error_probability
        for row in range(k):
            for column in (row - 1, row + 1):
                if 0 <= column < k:
                    matrix[row, column] = p
                    matrix[row, row] -= p
        return matrix
    if predictor.confusion == "explicit":
        if not predictor.matrix:
            raise UserError("predictor.matrix=null: predictor.confusion=explicit needs a K x K matrix")
        rows = predictor.matrix
    else:
        rows = [[float(count) for count in row] for row in BERT[predictor.confusion]]
    if any(len(row) != len(rows) for row in rows):
        raise UserError(f"predictor.matrix={rows}: must be square, rows = true bin, columns = predicted bin")
    if len(rows) != k:
        raise UserError(
            f"predictor.confusion={predictor.confusion}: a matrix of {len(rows)} bins for a run of {k}; "
            f"set k_bins={len(rows)}"
        )
    matrix = np.array(rows)
    sums = matrix.sum(axis=1, keepdims=True)
    if np.any(sums <= 0):
        raise UserError("predictor.matrix: every row needs a positive sum")
    return matrix / sums


Rule = Callable[[PredictorConfig, IntArray, IntArray, np.random.Generator], IntArray]
RULES: dict[str, Rule] = {
    "oracle": oracle,
    "noisy": noisy,
    "prompt_power_law": prompt_power_law,
    "constant": constant,
}
