"""Edges, ties, and the bin of a length."""

from __future__ import annotations

import numpy as np
import pytest

from mbexp.binning import make_bins
from mbexp.config.keys import BinsConfig
from mbexp.errors import UserError


def test_equal_mass_of_distinct_lengths_gives_equal_bins() -> None:
    lengths = np.random.default_rng(0).permutation(np.arange(1, 1001)).astype(np.int32)

    bins = make_bins(BinsConfig(kind="equal_mass", k=4), lengths)

    assert bins.edges.tolist() == [250, 500, 750]
    assert np.bincount(bins.bin_of(lengths)).tolist() == [250, 250, 250, 250]
    assert bins.notes == ()


def test_ties_merge_edges_and_are_told() -> None:
    lengths = np.array([7] * 6 + [8, 9], np.int32)

    bins = make_bins(BinsConfig(kind="equal_mass", k=4), lengths)

    assert bins.edges.tolist() == [7]
    assert bins.k == 2
    assert bins.notes == ("4 equal-mass bins were asked for, but ties in the predicted lengths leave 2",)


@pytest.mark.parametrize("k", [1, 2, 5, 64])
def test_more_bins_than_lengths_leaves_one_for_each_length(k: int) -> None:
    lengths = np.array([5, 5, 9, 9, 30], np.int32)

    bins = make_bins(BinsConfig(kind="equal_mass", k=k), lengths)

    assert bins.k <= min(k, 3)
    assert np.bincount(bins.bin_of(lengths), minlength=bins.k).min() > 0


def test_all_equal_lengths_are_one_bin() -> None:
    assert make_bins(BinsConfig(kind="equal_mass", k=8), np.full(10, 3, np.int32)).k == 1


def test_explicit_edges_belong_to_the_bin_below() -> None:
    bins = make_bins(BinsConfig(kind="explicit", edges=[64, 256, 1024]), np.array([1], np.int32))

    assert bins.bin_of(np.array([1, 64, 65, 256, 257, 1024, 1025, 9000])).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("edges", [None, [], [256, 64], [64, 64]])
def test_bad_explicit_edges_are_refused(edges: list[float] | None) -> None:
    with pytest.raises(UserError, match=r"bins\.edges"):
        make_bins(BinsConfig(kind="explicit", edges=edges), np.array([1], np.int32))


def test_exponential_edges_follow_the_recursion() -> None:
    # L_1 = H_200, L_2 = 1 + log L_1, L_3 = 1 + log L_2; l_1 = mean log L_3, l_2 = l_1 + mean log L_2, ...
    lengths = np.full(10, 1000, np.int32)
    first = sum(1 / j for j in range(1, 201))
    second = 1 + np.log(first)
    third = 1 + np.log(second)

    edges = make_bins(BinsConfig(kind="exponential", k=4, batch_size=200), lengths).edges

    expected = 1000 * np.cumsum([np.log(third), np.log(second), np.log(first)])
    assert edges == pytest.approx(expected)


def test_none_is_one_bin() -> None:
    assert make_bins(BinsConfig(kind="none", k=4), np.arange(1, 9, dtype=np.int32)).k == 1
