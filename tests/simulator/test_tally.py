"""Counts of whole numbers, beside NumPy's sort."""

from __future__ import annotations

import numpy as np
import pytest

from mbexp.simulator.tally import tallied


@pytest.mark.parametrize(("count", "largest"), [(0, 1), (1, 1), (1000, 1), (1000, 50), (1000, 3999), (1000, 10**12)])
def test_numbers_and_counts_are_those_of_a_sort(count, largest):
    numbers = np.random.default_rng(count).integers(0, largest, count)
    for found, known in zip(tallied(numbers), np.unique(numbers, return_counts=True), strict=True):
        assert found.tolist() == known.tolist()
