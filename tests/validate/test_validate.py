"""The validation command: its fast subset agrees with theory, and it does not agree with a biased simulator."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mbexp.validate import __main__ as command
from mbexp.validate import case as case_module
from mbexp.validate.case import Case, check, judge
from mbexp.validate.cases import all_cases
from mbexp.validate.papers import __main__ as papers_command
from mbexp.validate.papers import mooncake
from mbexp.validate.papers import multi_bin as papers_multi_bin
from mbexp.validate.papers.row import Effort
from mbexp.validate.setups import bins_of_p1, constant_time, linear_time, one_queue, poisson

CASES = all_cases()


def named(*words: str) -> Case:
    (found,) = [case for case in CASES if all(word in case.name for word in words)]
    return found


@pytest.mark.parametrize("case", [case for case in CASES if case.fast], ids=lambda case: case.name)
def test_the_fast_subset_agrees_with_theory(case: Case) -> None:
    for outcome in check(case, fast=True):
        assert outcome.ok, outcome


def test_every_listed_model_has_a_case() -> None:
    names = " | ".join(f"{case.group}: {case.name}" for case in CASES)
    for word in ("M/M/1", "M/D/1", "M/G/1", "M/M/8", "M/D/4", "greedy, B 4, exponential", "full, B 4, exponential",
                 "full, B 4, constant", "greedy, B 4, constant", "T(b) = 1 + 0.1 b", "Fig. 3", "Fig. 4", "Fig. 6",
                 "Fig. 8", "Fig. 9", "Fig. 11", "U[1, 20], B 8, k 16", "whole tokens"):  # fmt: skip
        assert word in names
    assert len({case.name for case in CASES}) == len(CASES)


def test_a_bias_of_one_per_cent_is_found() -> None:
    # judged at the full precision, with times 1 % too long; the whole set of cases takes longer runs
    case = named("greedy, B 4, constant 1 s")
    values = {**poisson(3.2), **one_queue(4), **constant_time(1.01)}
    slower = dataclasses.replace(case, values=values, requests=100_000, replications=8)
    assert {outcome.quantity: outcome.verdict for outcome in check(slower)}["wait, s"] == "off"
    saturated = named("U[1, 20], B 8, k 4")
    biased = dataclasses.replace(
        saturated, values={**saturated.values, "gpu.law.beta_ms": 1.01 * saturated.values["gpu.law.beta_ms"]}
    )
    (outcome,) = check(dataclasses.replace(biased, requests=100_000, replications=4))
    assert outcome.verdict == "off"


def test_a_recursion_must_agree_with_every_run() -> None:
    case = dataclasses.replace(named("U[1, 20], B 8, 1 GPU, lambda 0.4, k 2"), requests=20_000, replications=2)
    assert all(outcome.ok for outcome in check(case))
    other_bins = dataclasses.replace(
        case, values={**case.values, **bins_of_p1(2, 8), "bins": "explicit", "bins.edges": [5e6]}
    )
    assert all(outcome.ok for outcome in check(other_bins))  # the recursion follows the run's own bins
    wrong_rule = dataclasses.replace(case, values={**case.values, "scheduler.selection": "longest_queue"})
    assert not all(outcome.ok for outcome in check(wrong_rule))


def test_the_verdict() -> None:
    assert judge(1.0, 0.005, 1.004, precise=True) == "ok"
    assert judge(1.0, 0.005, 1.006, precise=True) == "off"
    assert judge(1.0, 0.02, 1.0, precise=True) == "too wide"
    assert judge(1.0, 0.02, 1.0, precise=False) == "ok"
    assert judge(float("nan"), 0.02, 1.0, precise=False) == "off"


def test_the_command_prints_writes_and_fails(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(case_module, "FAST_REPLICATIONS", 3)
    monkeypatch.setattr(case_module, "FAST_REQUESTS", 5_000)
    page = tmp_path / "validation.md"
    assert command.main(["--fast", "--only", "M/D/1", "--page", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "| M/D/1, lambda 0.8 | wait, s | 2 |" in text
    assert "1 of 1 quantities agree" in text
    assert list(tmp_path.iterdir()) == [page]
    assert "M/D/1" in capsys.readouterr().out
    assert command.main(["--only", "no such case"]) == 2
    assert command.main(["--fast", "--only", "M/D/1", "--page", str(tmp_path / "missing" / "page.md")]) == 2
    broken = dataclasses.replace(named("M/D/1"), targets={"wait, s": 30.0})
    monkeypatch.setattr(command, "all_cases", lambda: [broken])
    assert command.main(["--fast"]) == 1
    assert "off: M/D/1" in capsys.readouterr().err


def test_the_toy_example_of_p1() -> None:
    text = papers_multi_bin.toy_example()
    assert "| standard batching | 11 s | 11 s | 11 s | yes |" in text
    assert "| 8 s | 8 s | 8 s | yes |" in text


def test_setups_are_what_they_say() -> None:
    from mbexp import simulate

    result = simulate(num_requests=500, **{**poisson(4.0), **one_queue(8), **linear_time(1, 0.1)})
    rows = result.outcome.batches
    assert (rows["finish_s"] - rows["start_s"]) == pytest.approx(1 + 0.1 * rows["size"])
    assert result.summary["arrival_rate_per_s"] == pytest.approx(4.0, rel=0.2)


def test_the_page_of_the_papers(tmp_path: Path, capsys) -> None:
    page = tmp_path / "papers.md"
    assert papers_command.main(["--quick", "--page", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.strip() == capsys.readouterr().out.strip()
    headings = "Fig. 1b", "Fig. 3", "Fig. 4", "Fig. 6", "Fig. 8", "Fig. 9", "Fig. 11", "Algorithm 1", "Algorithm 2"
    for heading in (*headings, "The original simulator", "At equal GPUs"):
        assert heading in text
    assert "nan" not in text
    for line in text.splitlines():
        if line.startswith("| U[1, 20], B 128"):  # the exact rows agree even when runs are short
            assert "| yes |" in line


def test_mooncake_cache_ratios_by_hand(tmp_path: Path) -> None:
    from mbexp import load_trace

    # Blocks 1 2 | 1 2 3 | 1 4 of 512 tokens, the last of each prompt partial.
    lines = (
        '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}\n'
        '{"timestamp": 1, "input_length": 1100, "output_length": 5, "hash_ids": [1, 2, 3]}\n'
        '{"timestamp": 2, "input_length": 700, "output_length": 5, "hash_ids": [1, 4]}\n'
    )
    file = tmp_path / "three.jsonl"
    file.write_text(lines, encoding="utf-8")
    trace = load_trace("mooncake", path=str(file), window={"kind": "rows"}, num_requests=3)
    assert list(mooncake.cache_ratios(trace).values()) == pytest.approx(
        [3 / 7, (1024 + 512) / 2400, (0 + 1024 / 1100 + 512 / 700) / 3, 2 / 3, 5 / 7]
    )
    assert "| mean prompt | 12,035 | 800 | - | no |" in mooncake.statistics(trace)
    rates = mooncake.hit_rates(trace, str(file))  # the run finds what the function finds, of whatever size
    assert "| lru, no end | 0.51 | 0.4286 |" in rates


def test_mooncake_without_its_trace(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "python -m mbexp.download mooncake_conversation" in mooncake.sections(Effort())[0]
