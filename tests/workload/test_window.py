"""Windows and arrival times, against plain loops over every possible window and every group of equal times."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbexp.config.workload_keys import WindowConfig, WorkloadConfig
from mbexp.errors import UserError
from mbexp.workload import window as window_room
from mbexp.workload.timing import scale_gaps, spread_ties
from mbexp.workload.window import NEAR, choose_window, describe_window

whole_times = st.lists(st.integers(0, 60), min_size=1, max_size=40).map(sorted)
any_times = st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=40).map(sorted)


def window_of(kind: str, times: list[float], count: int | None, **keys: float) -> slice:
    return choose_window(np.array(times, float), WindowConfig(kind=kind, **keys), count)[0]  # type: ignore[arg-type]


@pytest.fixture(autouse=True, scope="module")
def small_pieces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_room, "_CHUNK", 7)
        yield


class TestWindow:
    def test_many_alike_windows_are_thinned(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(window_room, "CANDIDATES", 5)
        assert window_of("typical", list(range(100)), 11) == slice(36, 47)  # of 0, 18, 36, 54, 72: all alike

    @given(whole_times, st.integers(1, 45))
    def test_busiest_is_the_first_of_the_shortest(self, times: list[float], count: int) -> None:
        chosen = window_of("busiest", times, count)
        count = min(count, len(times))
        lasting = [times[start + count - 1] - times[start] for start in range(len(times) - count + 1)]
        assert chosen == slice(lasting.index(min(lasting)), lasting.index(min(lasting)) + count)

    @given(whole_times, st.integers(1, 45))
    def test_typical_has_the_mean_rate_and_median_burstiness(self, times: list[float], count: int) -> None:
        times = [time - times[0] for time in times]
        chosen = window_of("typical", times, count)
        assert chosen.stop - chosen.start == min(count, len(times))
        if not 2 <= count < len(times) or times[-1] == 0:
            assert chosen.start == 0
            return
        target = Fraction((count - 1) * int(times[-1]), len(times) - 1)
        lasts = [times[start + count - 1] - times[start] for start in range(len(times) - count + 1)]
        near = [start for start, last in enumerate(lasts) if abs(last - target) < target * Fraction(NEAR)]
        if near:
            squares = sorted(sum((b - a) ** 2 for a, b in pairwise(times[start : start + count])) for start in near)
            got = sum((b - a) ** 2 for a, b in pairwise(times[chosen]))
            assert chosen.start in near
            assert got == squares[len(squares) // 2]
        else:
            off = [abs(math.log(last / target)) if last else math.inf for last in lasts]
            assert off[chosen.start] == pytest.approx(min(off))

    def test_rows(self) -> None:
        times = list(range(10))
        assert window_of("rows", times, 4) == slice(0, 4)
        assert window_of("rows", times, 4, start_row=8) == slice(8, 10)
        assert window_of("rows", times, None, start_row=3) == slice(3, 10)
        with pytest.raises(
            UserError, match=r"start_row=10: the trace has 10 usable requests, so the last one is row 9"
        ):
            window_of("rows", times, 4, start_row=10)

    def test_time(self) -> None:
        times = [0.0, 1.0, 1.0, 2.0, 5.0, 9.0]
        assert window_of("time", times, 2, start_s=1.0) == slice(1, 3)
        assert window_of("time", times, None, start_s=1.0, duration_s=4.0) == slice(1, 4)  # its end is not inside
        assert window_of("time", times, None, start_s=1.5) == slice(3, 6)
        with pytest.raises(UserError, match=r"start_s=6, duration_s=2: no request arrives then; the trace lasts 9 s"):
            window_of("time", times, None, start_s=6.0, duration_s=2.0)
        with pytest.raises(UserError, match=r"start_s=10: no request arrives then"):
            window_of("time", times, None, start_s=10.0)

    @pytest.mark.parametrize(
        ("window", "count", "note"),
        [
            (WindowConfig(kind="rows"), 7, "the trace has 5 usable requests, fewer than num_requests=7: all are used"),
            (
                WindowConfig(kind="busiest"),
                7,
                "the trace has 5 usable requests, fewer than num_requests=7: all are used",
            ),
            (WindowConfig(kind="rows", start_row=3), 7, "from request 4 on the trace has 2 usable requests, fewer"),
            (
                WindowConfig(kind="time", start_s=1.0, duration_s=3.0),
                2,
                "the time window holds 3 requests; the first 2",
            ),
        ],
    )
    def test_notes(self, window: WindowConfig, count: int, note: str) -> None:
        notes = choose_window(np.arange(5.0), window, count)[1]
        assert len(notes) == 1
        assert notes[0].startswith(note)

    def test_no_notes_where_all_is_as_asked(self) -> None:
        for window in (WindowConfig(kind="rows"), WindowConfig(kind="time", duration_s=3.0), WindowConfig()):
            assert choose_window(np.arange(5.0), window, 3)[1] == []
            assert choose_window(np.arange(5.0), window, None)[1] == []

    def test_consecutive_windows_share_nothing_and_leave_out_only_the_rest(self) -> None:
        times = np.arange(23.0)
        found = [choose_window(times, WindowConfig(), 5, place)[0] for place in range(4)]
        assert found == [slice(0, 5), slice(5, 10), slice(10, 15), slice(15, 20)]
        part = WindowConfig(kind="time", start_s=3.0, duration_s=10.0)
        assert [choose_window(times, part, 5, place)[0] for place in (0, 1)] == [slice(3, 8), slice(8, 13)]
        assert choose_window(times, WindowConfig(kind="rows", start_row=20), 3, 0)[0] == slice(20, 23)
        assert choose_window(times, WindowConfig(), 5, 2)[1] == [
            "windows: window 3 of 4 consecutive ones of 5 requests each"
        ]

    @pytest.mark.parametrize(
        ("window", "count", "message"),
        [
            (WindowConfig(), 5, r"seed=2: .* window 3, but 12 usable requests hold 2 windows of num_requests=5"),
            (WindowConfig(kind="rows", start_row=9), 5, "but 3 usable requests hold 0 windows"),
            (WindowConfig(kind="busiest"), 5, "window.kind=busiest: there is one such window"),
            (WindowConfig(), None, "num_requests=null: replicate=windows needs the length of a window"),
        ],
    )
    def test_windows_that_are_not_there(self, window: WindowConfig, count: int | None, message: str) -> None:
        with pytest.raises(UserError, match=message):
            choose_window(np.arange(12.0), window, count, 2)

    def test_description(self) -> None:
        times = np.array([0.0, 1.0, 2.0, 4.0])
        assert describe_window(slice(0, 4), "rows", times) == "all 4 requests, mean rate 0.75/s"
        assert describe_window(slice(1, 3), "busiest", times) == (
            "requests 2 to 3 of 4 (busiest), mean rate 1/s; whole trace 0.75/s"
        )
        assert "all at one instant" in describe_window(slice(0, 2), "rows", np.zeros(2))


class TestTies:
    @given(any_times, st.sampled_from([0.0, 1e-9, 0.5, 1.0, 3.0, 1e9]))
    def test_order_is_kept_and_nothing_passes_the_next_time(self, times: list[float], resolution: float) -> None:
        before = np.array(times)
        after, changed = spread_ties(before, resolution)
        assert np.all(np.diff(after) >= 0)
        assert np.all(after >= before)
        assert np.all(after <= before + resolution)
        assert changed == np.count_nonzero(after != before)
        first = np.flatnonzero(np.r_[True, before[1:] > before[:-1]])
        assert np.array_equal(after[first], before[first])

    @given(whole_times)
    def test_whole_seconds_are_spread_evenly(self, times: list[int]) -> None:
        after, changed = spread_ties(np.array(times, float), 1.0)
        expected, seen = [], {}
        for time in times:
            rank = seen[time] = seen.get(time, -1) + 1
            expected.append(time + rank / times.count(time))
        assert after.tolist() == pytest.approx(expected, abs=1e-12)
        assert changed == len(times) - len(set(times))

    def test_nearer_next_time_limits_the_spread(self) -> None:
        assert spread_ties(np.array([0.0, 0.0, 0.5, 0.5, 9.0]), 1.0)[0].tolist() == [0.0, 0.25, 0.5, 1.0, 9.0]

    def test_input_is_not_altered(self) -> None:
        times = np.zeros(3)
        spread_ties(times, 1.0)
        assert times.tolist() == [0.0, 0.0, 0.0]


class TestScale:
    @settings(max_examples=50)
    @given(any_times, st.floats(1e-3, 1e6))
    def test_gaps_are_divided(self, times: list[float], factor: float) -> None:
        scaled = scale_gaps(np.array(times), WorkloadConfig(rate_scaling=factor))
        assert scaled[0] == 0.0
        assert scaled == pytest.approx((np.array(times) - times[0]) / factor)

    def test_real_timestamps_start_at_zero(self) -> None:
        assert scale_gaps(np.array([5.0, 7.0]), WorkloadConfig(timestamps="real")).tolist() == [0.0, 2.0]

    def test_absurd_scaling(self) -> None:
        with pytest.raises(UserError, match=r"rate_scaling=1e-300: too small"):
            scale_gaps(np.array([0.0, 1e12]), WorkloadConfig(rate_scaling=1e-300))
