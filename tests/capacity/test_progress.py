"""What a search tells of itself: the bracket of the verdicts so far, in lines and in a bar."""

from __future__ import annotations

import io

import pytest

from mbexp.capacity.judge import FAIL, PASS, UNDECIDED
from mbexp.capacity.progress import Shown, bracket, probes_left


@pytest.mark.parametrize(
    ("verdicts", "ends", "left"),
    [
        ([], (None, None), 3),
        ([(4, FAIL)], (4, None), 3),
        ([(4, PASS), (8, PASS)], (None, 4), 3),
        ([(4, FAIL), (20, PASS)], (4, 20), 5),
        ([(4, FAIL), (12, UNDECIDED), (20, PASS)], (4, 20), 5),
        ([(4, FAIL), (5, PASS), (9, FAIL)], (4, 5), 1),
    ],
)
def test_a_bracket_is_the_last_that_fails_and_the_first_that_passes(
    verdicts: list[tuple[int, str]], ends: tuple[int | None, int | None], left: int
) -> None:
    assert bracket(verdicts) == ends
    assert probes_left(*ends) == left


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_carry_the_bracket_and_a_terminal_has_a_bar() -> None:
    plain, terminal = io.StringIO(), Terminal()
    for stream in (plain, terminal):
        shown = Shown(stream)
        shown("num_gpus=4: fail", 1, 3, "more than 4 GPUs")
        shown("num_gpus=8: pass", 2, 3, "between 4 and 8 GPUs")
        shown.close()
    assert plain.getvalue().splitlines() == [
        "num_gpus=4: fail; more than 4 GPUs",
        "num_gpus=8: pass; between 4 and 8 GPUs",
    ]
    assert "2 of about 5 probes, between 4 and 8 GPUs" in terminal.getvalue()
    assert "num_gpus=8: pass\n" in terminal.getvalue()
