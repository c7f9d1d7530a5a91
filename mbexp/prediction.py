"""Predicts output lengths before a request runs, and so the bin it joins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mbexp.binning import Bins, make_bins
from mbexp.config.keys import BinsConfig, PredictorConfig
from mbexp.errors import UserError

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
    """

    tokens: IntArray
    bins: Bins
    bin_of: npt.NDArray[np.uint16]
    true_bin: npt.NDArray[np.uint16]

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
    tokens = RULES[predictor.kind](predictor, prompt_tokens, output_tokens, rng)
    made = make_bins(bins, tokens)
    bin_of = made.bin_of(tokens)
    return Prediction(tokens, made, bin_of, bin_of if tokens is output_tokens else made.bin_of(output_tokens))


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
    return Prediction(tokens, bins, bin_of, true_bin)


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
