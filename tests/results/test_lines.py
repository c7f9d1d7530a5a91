"""Lines fit the terminal, and a command over several lines is still the command."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from mbexp.results.lines import command_lines, prose_lines, terminal_width

COMMAND = (
    "python -m mbexp.capacity execution=vllm gpu=h100_llama31_8b workload=synthetic num_requests=2000 "
    "'sla.targets=[ttft_p99_s<=2, tbt_p99_ms<=100]' workload.arrivals.rate_per_s=60"
)


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@pytest.mark.parametrize("before", ["", "next: ", "  "])
def test_a_command_can_be_pasted_as_it_stands(width: int, before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = command_lines(COMMAND, before)
    assert lines[0].startswith(f"{before}python -m")
    pasted = "\n".join(lines).removeprefix(before)
    done = subprocess.run(["sh", "-c", f"printf '%s\\n' {pasted}"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == shlex.split(COMMAND)
    for line in lines:
        assert len(line) <= width or len(shlex.split(line.removesuffix("\\"))) == 1


def test_a_short_command_has_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert command_lines("python -m mbexp", "next: ") == ["next: python -m mbexp"]


def test_prose_is_no_wider_than_what_is_read_easily(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, widest in ((60, 60), (80, 80), (200, 100)):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert terminal_width() == widest
        lines = prose_lines("! " + "a word " * 60, "  ")
        assert widest - 10 < max(map(len, lines)) <= widest
        assert {line[:2] for line in lines[1:]} == {"  "}
