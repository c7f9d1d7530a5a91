"""The tree whose root holds the item that comes first, beside a look at all of them."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numba import types

from mbexp.compiled.decorators import compiled
from mbexp.compiled.first_tree import first_tree
from mbexp.compiled.least_tree import leaves_of
from mbexp.compiled.records import Record, Table

TABLE = Table(("num_nodes", np.int64), ("num_leaves", np.int64))
node_at = TABLE.array("nodes", Record(("time_s", np.float64, np.inf), ("item", np.int64)), "num_nodes")
write = first_tree(node_at, "time_s", "item", "num_leaves")


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="reads records of compiled code")
@pytest.mark.parametrize("items", [1, 2, 7, 8, 100])
def test_the_root_holds_the_lowest_of_those_that_come_first(items):
    head = TABLE.head(num_nodes=2 * leaves_of(items), num_leaves=leaves_of(items))
    nodes = TABLE.allocate(head)["nodes"]

    kind = types.Array(numba.from_dtype(head.dtype), 1, "C")

    @compiled(types.int64(kind, types.int64, types.float64))
    def step(heads, item, time_s):
        write(heads[0], item, time_s)
        return node_at(heads[0], 1).item

    rng = np.random.default_rng(items)
    times = np.full(items, np.inf)
    for _ in range(1000):
        item = int(rng.integers(items))
        times[item] = rng.choice([0.0, 1.0, 2.0, 3.0, np.inf])  # many are equal
        first = step(head, item, times[item])
        assert nodes[1]["time_s"] == times.min()
        if times.min() < np.inf:
            assert first == int(np.argmin(times))
