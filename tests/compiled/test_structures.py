"""The heap of busy GPUs and the set of idle ones against Python's own; the flush at the end of the trace."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from mbexp.compiled.busy_heap import pop_busy, push_busy
from mbexp.compiled.index_set import add, empty_set, take_lowest
from mbexp.simulator.batches.state import new_gpus
from tests.simulator.batches.agreement import Case, difference, run_compiled


@njit
def push(times, gpus, size, time, gpu):
    return push_busy(times, gpus, size, time, gpu)


@njit
def pop(times, gpus, size):
    return pop_busy(times, gpus, size)


@njit
def put(words, number):
    add(words, number)


@njit
def take(words):
    return take_lowest(words)


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(0, 3)), max_size=200))
def test_busy_gpus_leave_by_time_then_index(steps):
    count = sum(step is not None for step in steps)
    state = new_gpus(max(count, 1))
    expected: list[tuple[float, int]] = []
    size = 0
    for gpu, step in enumerate(steps):
        if step is None and expected:
            assert (state.busy_until_s[0], state.busy_gpu[0]) == heapq.heappop(expected)
            size = pop(state.busy_until_s, state.busy_gpu, size)
        elif step is not None:
            heapq.heappush(expected, (float(step), gpu))
            size = push(state.busy_until_s, state.busy_gpu, size, float(step), gpu)
        assert size == len(expected)
        assert state.busy_until_s[size] == np.inf


@pytest.mark.parametrize("bound", [1, 2, 31, 32, 33, 1000, 1024, 1025, 33_000])
def test_the_lowest_index_leaves_first(bound):
    rng = np.random.default_rng(bound)
    words = empty_set(bound)
    inside: set[int] = set()
    for _ in range(3000):
        if inside and rng.random() < 0.5:
            number = take(words)
            assert number == min(inside)
            inside.remove(number)
        else:
            number = int(rng.choice([0, bound - 1, int(rng.integers(bound))]))
            put(words, number)
            inside.add(number)
    while inside:
        number = take(words)
        assert number == min(inside)
        inside.remove(number)
    assert not words.any()


def test_a_queue_ready_at_the_end_of_the_trace_counts_as_formed_then():
    # The last arrival is at 0.5. The first batch ends at 1.5, when queue 0's limit grows, so that its head's second is
    # up before anything else is looked at: both queues are formed at 0.5 all the same, and the older head goes first.
    case = Case(
        requests=[(0.0, 1, 1, 1, 0)] * 4 + [(0.0, 1, 1, 1, 1), (0.5, 1, 1, 1, 0)],
        queues=2,
        scheduler={
            "batch_size": "dynamic",
            "selection": "first_formed",
            "fill": "timeout",
            "timeout_s": 1.0,
            "batch_size_max": 5,
        },
        controller={
            "alpha_requests": 0.5,
            "delta_requests": 0.0,
            "tolerance_ms": 0.0,
            "window_batches": 1,
            "interval_batches": 1,
        },
        token_ms=250.0,
        law=[0.0] * 6 + [0.5] + [0.0] * 7,
    )
    records = run_compiled(case)
    assert records.batches["queue"].tolist() == [0, 0, 1]
    assert records.batches["start_s"].tolist() == [0.0, 1.5, 2.5]
    assert difference(case) is None
