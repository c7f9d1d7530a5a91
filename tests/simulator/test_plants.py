"""Small bugs planted into copies of mbexp are caught, each by the corner case named for it."""

from __future__ import annotations

import pytest

from tests.simulator.corner_cases import CORNERS
from tests.simulator.plants import AGREEMENT, CAUGHT, CORNERS_TEST, PAGE, PASSED, PLANTS, run


def test_every_plant_is_caught_by_its_corner_case():
    status = run({None: [CORNERS_TEST], **{plant: [plant.caught_by] for plant in PLANTS}})
    sound = status.pop((None, CORNERS_TEST))
    assert sound == PASSED, "the tests fail without a plant"
    assert len(status) == len(PLANTS) >= 10
    missed = [plant.name for (plant, _), found in status.items() if plant and found != CAUGHT]
    assert not missed


def test_the_page_lists_every_plant_and_what_catches_it():
    rows = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    listed = {(cells[0].removeprefix("| "), cells[2]) for cells in rows}
    assert {(plant.name, plant.corner) for plant in PLANTS} <= listed
    assert {plant.corner for plant in PLANTS} <= set(CORNERS)


@pytest.mark.slow
def test_drawn_cases_alone_catch_most_plants():
    """Hypothesis, which knows nothing of the plants, finds most of them in as many cases as CI runs."""
    status = run({plant: [AGREEMENT] for plant in PLANTS}, cases=1500, limit_s=900)
    missed = [plant.name for (plant, _), found in status.items() if plant and found != CAUGHT]
    assert len(missed) <= 2, missed
