"""The tree that finds the smallest number of a range, beside a look at all of them."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numba import types

from mbexp.compiled.decorators import compiled
from mbexp.compiled.least_tree import NONE, least_tree, leaves_of
from mbexp.compiled.records import Table

TABLE = Table(("num_nodes", np.int64), ("num_leaves", np.int64))
node_at = TABLE.array("nodes", np.int64, "num_nodes", initial=NONE)
write, first_least = least_tree(node_at, "num_leaves")


def test_leaves_are_a_power_of_two_and_enough():
    assert [leaves_of(places) for places in (1, 2, 3, 4, 5, 10_000)] == [2, 2, 4, 4, 8, 16_384]


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="reads records of compiled code")
@pytest.mark.parametrize("places", [1, 2, 7, 8, 100])
def test_the_lowest_of_the_smallest_is_found_in_every_range(places):
    head = TABLE.head(num_nodes=2 * leaves_of(places), num_leaves=leaves_of(places))
    arrays = TABLE.allocate(head)

    kind = types.Array(numba.from_dtype(head.dtype), 1, "C")

    @compiled(types.int64(kind, types.int64, types.int64, types.int64, types.int64))
    def step(heads, place, number, first, end):
        write(heads[0], place, number)
        return first_least(heads[0], first, end)

    rng = np.random.default_rng(places)
    numbers = np.zeros(places, np.int64)
    for place in range(places):
        step(head, place, 0, 0, places)
    for _ in range(500):
        place = int(rng.integers(places))
        numbers[place] = rng.integers(0, 4)  # many are equal
        first = int(rng.integers(places))
        end = int(rng.integers(first, places)) + 1
        assert step(head, place, int(numbers[place]), first, end) == first + int(np.argmin(numbers[first:end]))
    assert arrays["nodes"][1] == numbers.min()
