"""The boundary of stability that Li, Dai and Peng prove, from both sides, and the case that lies on it."""

from __future__ import annotations

import pytest

from mbexp.validate.case import seeds
from mbexp.validate.papers import stability
from mbexp.validate.papers.row import Effort


def test_the_boundary_is_the_papers() -> None:
    assert stability.boundary_per_s() == pytest.approx(16.71, abs=0.005)  # of the sheet of reference values


@pytest.mark.parametrize(("share", "climbs"), [(0.9, False), (1.1, True)])
def test_the_queue_climbs_beyond_the_boundary_alone(share: float, climbs: bool) -> None:
    for run in seeds(stability.load(share), 20_000, 3):
        assert run.summary["queue_climbing"] is climbs
        # Served beyond the boundary is what the theorem says can be served.
        if climbs:
            end_s = run.outcome.finish_s.max()
            assert len(run.outcome.finish_s) / end_s == pytest.approx(stability.boundary_per_s(), rel=0.02)


def test_decodes_first_within_one_block_settle_on_the_edge() -> None:
    run = next(seeds(stability.edge(128, "chunked"), 3000, 1))
    assert stability.settled(run) == (99, 29)
    assert not run.summary["queue_climbing"]
    assert run.summary["requests_waiting_max"] == 1


@pytest.mark.parametrize(("budget", "prefill"), [(1024, "chunked"), (128, "alone")])
def test_longer_rounds_or_prompts_first_climb_on_the_edge(budget: int, prefill: str) -> None:
    run = next(seeds(stability.edge(budget, prefill), 3000, 1))
    assert run.summary["queue_climbing"]
    assert stability.settled(run)[0] == stability.EDGE_CAP


def test_the_section_of_the_page_says_so() -> None:
    text = "\n".join(stability.sections(Effort(replications=2)))
    assert text.count("| yes |") == 5
    assert "| no |" not in text
    assert "29 + 99 tokens a round" in text
