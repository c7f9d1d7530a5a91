"""Seeded schedules of faults break nothing, and they would tell if something broke."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from mbexp.results import index
from mbexp.sweep import engine, making, plan, worker
from tests.sweep.schedules import broken_by

FAST = 150  # `python -m tests.sweep.schedules 100000` tries more


def test_whatever_goes_wrong_the_same_command_makes_what_is_missing() -> None:
    assert [told for seed in range(FAST) if (told := broken_by(seed))] == []


def by_existence(folder: Path, key: str, by: str | None = None) -> str:
    return "" if (folder / key / "summary.json").is_file() else "missing"


@contextlib.contextmanager
def without_a_lock(path: Path) -> Any:
    yield True


PLANTS: dict[str, tuple[tuple[Any, str, Any], ...]] = {
    "stored means that the summary exists": ((plan, "why_not_stored", by_existence),),
    "a damaged folder stays in the way": ((worker, "set_aside", lambda folder: folder),),
    "the index never looks at files again": ((index, "_stamp", lambda folder: ("", 0.0)),),
    "nobody removes what is half-written": ((engine, "sweep_up", lambda folder: set()),),
    "the dead count as alive": ((making, "abandoned", lambda *_: []), (engine, "abandoned", lambda *_: [])),
}  # fmt: skip


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_bug_is_found(plant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in PLANTS[plant]:
        monkeypatch.setattr(module, name, value)
    assert any(broken_by(seed) for seed in range(FAST))
