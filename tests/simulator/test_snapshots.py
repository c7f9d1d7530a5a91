"""What users and stored results rest on keeps its shape, or changes deliberately."""

from __future__ import annotations

import pytest

from tests.simulator import snapshots


@pytest.fixture(scope="module")
def shapes():
    return snapshots.shapes()


@pytest.mark.parametrize("kind", ["summary", "batches", "requests", "config", "run_keys"])
def test_shapes_are_those_stored(shapes, kind):
    known, found = snapshots.stored()[kind], shapes[kind]
    assert found == known, "if that is meant, run python -m tests.simulator.snapshots, and say so in the changelog"
    for name in known:  # the order of columns and keys is part of the shape
        assert list(found[name]) == list(known[name]) if isinstance(known[name], dict) else True
