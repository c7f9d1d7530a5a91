"""Small bugs planted into copies of mbexp are caught, each by the corner case named for it."""

from __future__ import annotations

import pytest

from tests.simulator.batches import corner_cases
from tests.simulator.batches import plants as batches
from tests.simulator.continuous import corner_cases as continuous_corner_cases
from tests.simulator.continuous import plants as continuous
from tests.simulator.plants import CAUGHT, PAGE, PASSED, run

PLANTS = (*batches.PLANTS, *continuous.PLANTS)


# A second of processor time each: one in four in every run of the tests, the others with -m slow.
@pytest.mark.parametrize("first", [0, *(pytest.param(first, marks=pytest.mark.slow) for first in (1, 2, 3))])
def test_every_plant_is_caught_by_its_corner_case(first):
    corners = [batches.CORNERS_TEST, continuous.CORNERS_TEST]
    planted = PLANTS[first::4]
    status = run({None: corners, **{plant: [plant.caught_by] for plant in planted}})
    assert [status.pop((None, test)) for test in corners] == [PASSED, PASSED], "the tests fail without a plant"
    assert len(status) == len(planted)
    assert min(len(batches.PLANTS), len(continuous.PLANTS)) >= 26
    missed = [plant.name for (plant, _), found in status.items() if plant and found != CAUGHT]
    assert not missed


def test_the_page_lists_every_plant_and_what_catches_it():
    rows = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    listed = {(cells[0].removeprefix("| "), cells[2]) for cells in rows}
    assert {(plant.name, plant.corner) for plant in PLANTS} <= listed
    assert {plant.corner for plant in batches.PLANTS} <= set(corner_cases.CORNERS)
    assert {plant.corner for plant in continuous.PLANTS} <= set(continuous_corner_cases.CORNERS)


@pytest.mark.slow
@pytest.mark.parametrize(("loop", "most_missed"), [(batches, 2), (continuous, 17)], ids=["batches", "continuous"])
def test_drawn_cases_alone_catch_most_plants(loop, most_missed):
    """Hypothesis, which knows nothing of the plants, finds most of them in as many cases as the page says."""
    status = run({plant: [loop.AGREEMENT] for plant in loop.PLANTS}, cases=loop.CASES, limit_s=900)
    missed = [plant.name for (plant, _), found in status.items() if plant and found != CAUGHT]
    assert len(missed) <= most_missed, missed
