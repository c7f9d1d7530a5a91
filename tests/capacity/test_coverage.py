"""How often the stated range holds the long-run answer: Erlang C's staffing, asked again with other seeds."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from mbexp import configure
from mbexp.capacity.options import Options
from mbexp.capacity.probes import Prober, Workers
from mbexp.capacity.question import Question
from mbexp.theory.queueing import mmc_wait_percentile
from mbexp.validate.setups import constant_time, one_queue, poisson

LOAD, BOUND_S, SERVERS = 6.0, 0.5, 9  # M/M/c whose p95 of the wait is 0.46 s with 9 servers and 0.98 s with 8
FAR = 1000  # between the seeds of two repetitions, which share none


def stated(repetition: int) -> tuple[float, float]:
    """Return the range that a question of its own seeds states."""
    config = configure(
        **poisson(LOAD),
        **constant_time(1.0, "exponential"),
        **one_queue(1, gpus=6),
        num_requests=3000,
        seed=FAR * repetition,
        **{"sla.targets": [f"queue_delay_p95_s<={BOUND_S}"]},
    )
    with tempfile.TemporaryDirectory() as folder:
        prober = Prober(Path(folder), Workers(1), (), ["test"])
        answer = Question(config, Options(max_replications=20), prober, lambda *_: None).answer()
    return answer.low, answer.high


def share_covered(found: Iterable[tuple[float, float]]) -> float:
    ranges = [*found]
    return sum(low <= SERVERS <= high for low, high in ranges) / len(ranges)


def test_the_long_run_answer_is_erlangs() -> None:
    enough, few = (mmc_wait_percentile(LOAD, 1.0, servers, 95.0) for servers in (SERVERS, SERVERS - 1))
    assert enough < BOUND_S < few


def test_a_few_ranges_hold_the_long_run_answer() -> None:
    assert share_covered(map(stated, range(3))) == 1.0


@pytest.mark.slow
def test_two_hundred_ranges_hold_the_long_run_answer_as_often_as_they_say() -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context) as pool:
        ranges = [*pool.map(stated, range(200), chunksize=10)]
    assert share_covered(ranges) >= 0.95
    # A range that is always one number would say that the case is too easy to test anything.
    wide = sum(low < high for low, high in ranges)
    print(f"{100 * share_covered(ranges):.1f} % hold it; {wide} of {len(ranges)} state more than one number")
    assert 0 < wide < len(ranges)
