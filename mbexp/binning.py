"""Cuts predicted lengths into bins: edges, and the bin of each request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mbexp.config.keys import BinsConfig
from mbexp.errors import UserError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Bins:
    """Inner edges of the bins, in tokens.

    Attributes
    ----------
    edges : float64 array, shape (k - 1,), increasing
        A length equal to an edge belongs to the bin below it.
    notes : tuple of str
        Sentences a reader of the results must see.
    """

    edges: FloatArray
    notes: tuple[str, ...] = ()

    @property
    def k(self) -> int:
        """Number of bins."""
        return len(self.edges) + 1

    def bin_of(self, tokens: npt.NDArray[np.generic]) -> npt.NDArray[np.uint16]:
        """Return the bin of each length, 0 for the shortest."""
        return np.searchsorted(self.edges, tokens, side="left").astype(np.uint16)


def make_bins(bins: BinsConfig, predicted_tokens: IntArray) -> Bins:
    """Return the bins that `bins` asks for over the given predicted lengths.

    Raises
    ------
    UserError
        If explicit edges are missing or do not increase.
    """
    return RULES[bins.kind](bins, predicted_tokens)


def equal_mass(bins: BinsConfig, predicted_tokens: IntArray) -> Bins:
    """Edges at the quantiles i/k, equal shares; optimal for uniform lengths (P1, section IV)."""
    n = len(predicted_tokens)
    places = (np.arange(1, bins.k) * n + bins.k - 1) // bins.k - 1  # the ceil(i n / k)-th smallest
    edges = np.partition(predicted_tokens, places)[places].astype(np.float64) if n else np.empty(0)
    # An edge at the longest length would leave the bin above it empty.
    distinct = np.unique(edges[edges < predicted_tokens.max()]) if n else edges
    notes = []
    if len(distinct) < bins.k - 1:
        notes.append(
            f"{bins.k} equal-mass bins were asked for, but ties in the predicted lengths leave {len(distinct) + 1}"
        )
    return Bins(distinct, tuple(notes))


def explicit(bins: BinsConfig, predicted_tokens: IntArray) -> Bins:
    """Edges as given."""
    if not bins.edges:
        raise UserError("bins.edges=null: bins=explicit needs increasing edges, such as [64,256,1024]")
    edges = np.array(bins.edges)
    if np.any(np.diff(edges) <= 0):
        raise UserError(f"bins.edges={bins.edges}: must increase")
    return Bins(edges)


def exponential(bins: BinsConfig, predicted_tokens: IntArray) -> Bins:
    """Edges of P1's appendix for exponential lengths of the mean predicted length.

    l_i = mean * sum_{j=1..i} log L_{k-j}, with L_1 = H_B and L_m = 1 + log L_{m-1}; B is `bins.batch_size`.
    """
    mean = float(np.mean(predicted_tokens)) if len(predicted_tokens) else 1.0
    terms = [float(np.sum(1.0 / np.arange(1, bins.batch_size + 1)))]
    while len(terms) < bins.k:
        terms.append(1.0 + np.log(terms[-1]))
    steps = [np.log(terms[bins.k - j - 1]) for j in range(1, bins.k)]
    edges = np.unique(mean * np.cumsum(steps))
    return Bins(edges[edges > 0])


def none(bins: BinsConfig, predicted_tokens: IntArray) -> Bins:
    """One bin for all."""
    return Bins(np.empty(0))


RULES = {"equal_mass": equal_mass, "explicit": explicit, "exponential": exponential, "none": none}
