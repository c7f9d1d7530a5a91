"""The command that is proposed next, composed as the command itself would be, and the warnings of an answer."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from mbexp.capacity.__main__ import main
from mbexp.capacity.command import answers, compose
from mbexp.capacity.onward import next_command, other_card
from mbexp.capacity.options import split
from mbexp.cli.words import quoted_targets
from mbexp.config.keys import Config

COMMON = ["execution=continuous", "gpu=h100_llama31_8b", "sla.targets=[ttft_p99_s<=1, tbt_p99_ms<=50]"]


def config_of(words: list[str]) -> Config:
    return compose([quoted_targets(word) for word in split(words)[1]])[0].config


def following(words: list[str], find: str = "gpus", **swept: object) -> list[str]:
    """Return the words of the next command, as a shell hands them over."""
    line = next_command(words, config_of(words), find, swept)
    assert line is not None
    assert "\n" not in line
    start = ["python", "-m", "mbexp.capacity"]
    assert shlex.split(line)[:3] == start
    return shlex.split(line)[3:]


@pytest.mark.parametrize(
    ("workload", "before", "after"),
    [
        (["workload=synthetic", "workload.arrivals.rate_per_s=20"], (20.0, None), (60.0, None)),
        (["workload=synthetic"], (10.0, None), (3 * 10.0, None)),
        (["workload.timestamps=generated", "workload.arrivals.rate_per_s=0.1"], (0.1, None), (0.3, None)),
        (["workload.timestamps=scaled", "workload.rate_scaling=4"], (None, 4.0), (None, 12.0)),
        (["workload.timestamps=real"], (None, None), (None, 3.0)),
    ],
)
def test_the_next_command_has_three_times_the_traffic(
    workload: list[str], before: tuple[float | None, ...], after: tuple[float | None, ...]
) -> None:
    words = [*workload, *COMMON, "min_replications=2"]
    onward = following(words)
    now, then = config_of(words), config_of(onward)
    for found, (rate, scaling) in ((now.workload, before), (then.workload, after)):
        assert rate is None or found.arrivals.rate_per_s == pytest.approx(rate)
        assert scaling is None or (found.timestamps, found.rate_scaling) == ("scaled", pytest.approx(scaling))
    assert split(onward)[0] == split(words)[0]
    assert (then.sla, then.gpu) == (now.sla, now.gpu)


@pytest.mark.parametrize("swept", [{}, {"workload.arrivals.rate_per_s": 20.0}])
def test_where_the_rate_is_asked_for_another_card_is_next(swept: dict[str, float]) -> None:
    words = ["workload=synthetic", "workload.arrivals.rate_per_s=20", *COMMON]
    onward = following(words, "gpus" if swept else "rate", **swept)
    asked, now = config_of(words), config_of(onward)
    assert now.gpu.name != asked.gpu.name
    assert now.gpu.name.endswith("llama31_8b")
    assert now.workload == asked.workload


def test_another_card_serves_the_same_model_and_is_the_next_by_price() -> None:
    cards = {"a100_m_8b": 2.0, "b200_m_8b": 6.0, "h100_m_8b": 4.0, "h200_m_8b": 4.5, "h100_m_70b_tp4": 16.0}
    assert other_card("h100_m_8b", cards, ["h100_m_8b"]) == "h200_m_8b"
    assert other_card("h100_m_8b", cards, ["h100_m_8b", "h200_m_8b"]) == "b200_m_8b"
    assert other_card("b200_m_8b", cards, []) == "h200_m_8b"
    assert other_card("h100_m_8b", cards, [*cards]) is None
    assert other_card("h100_m_70b_tp4", cards | {"b200_m_70b_tp2": 12.5}, []) == "b200_m_70b_tp2"
    unpriced: dict[str, float | None] = {"roofline_a100": None, "roofline_h100": None, "roofline_h200": None}
    assert other_card("roofline_h200", unpriced, []) == "roofline_a100"


def test_an_answer_ends_with_its_warnings_and_what_is_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["workload=synthetic", "workload.arrivals.rate_per_s=5", *COMMON, f"output.dir={tmp_path}"]
    assert main([*words, "num_requests=400", "min_replications=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    whole = re.sub(r" *\\?\n  +", " ", "\n".join(lines)).splitlines()
    assert [line.partition(":")[0] for line in whole[1:]] == [
        "! short run",
        "! generated workload",
        "! kernel tables hold no host time",
        "next",
    ]
    assert "400 requests" in whole[1]
    assert whole[1].endswith("slowest 4")
    (longer,) = answers([*words, "num_requests=1000", "min_replications=2"])
    assert [each.partition(":")[0] for each in longer.warnings] == [
        "generated workload",
        "kernel tables hold no host time",
    ]
