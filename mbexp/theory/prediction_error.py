"""Confusion matrices of length predictors: P1's neighbour errors and its measured BERT classifier."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError

FloatArray = npt.NDArray[np.float64]

# P1, Fig. 11: GSM8K requests, rows = true bin, columns = predicted bin
BERT_K2_COUNTS = np.array([[25802, 4778], [3668, 26716]])
BERT_K4_COUNTS = np.array(
    [[12165, 2584, 490, 178], [2668, 8385, 3386, 724], [287, 2569, 8145, 4186], [82, 730, 4689, 9696]]
)


def neighbour(k: int, probability: float) -> FloatArray:
    """Return P1's matrix: a request goes to each neighbouring bin with `probability`; an edge bin errs half as often.

    With probability 1/2 and k = 2 the prediction says nothing, and the throughput is that of one bin.
    """
    if not 0 <= probability <= 0.5:
        raise UserError(f"probability={probability}: must be between 0 and 0.5")
    matrix = np.diag(np.ones(k))
    for i in range(k):
        for j in (i - 1, i + 1):
            if 0 <= j < k:
                matrix[i, j] += probability
                matrix[i, i] -= probability
    return matrix


def row_normalised(counts: npt.ArrayLike) -> FloatArray:
    """Return counts as probabilities of the predicted bin given the true one."""
    matrix = np.asarray(counts, dtype=np.float64)
    if (matrix < 0).any() or (matrix.sum(axis=1) <= 0).any():
        raise UserError("confusion: counts must not be negative, nor a row empty")
    return matrix / matrix.sum(axis=1, keepdims=True)


def misbin_share(joint: npt.ArrayLike) -> float:
    """Return the share of requests in a wrong bin, of a matrix of joint probabilities or counts."""
    matrix = np.asarray(joint, dtype=np.float64)
    return float(1 - np.trace(matrix) / matrix.sum())
