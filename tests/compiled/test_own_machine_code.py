"""Machine code of a user's rule: kept, never stale, and made again where its file was cut short."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mbexp.compiled import decorators
from mbexp.policy.views import Queue

LONG_AGO = 1_700_000_000
RULE = """
from mbexp.rules import batch_fill
from {helper} import COST

@batch_fill
def fill(queue, parameters):
    return COST
"""


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """Return a function that imports a rule as a new process would, with a helper whose constant is `cost`."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(decorators, "cache_folder", lambda: tmp_path / "cache")

    def load(cost: float, modified: int = LONG_AGO) -> ModuleType:
        import sys

        helper = f"helper_of_{tmp_path.name}"
        sys.modules.pop(helper, None)
        importlib.invalidate_caches()
        for name, text in ((helper, f"COST = {cost}\n"), ("kept_rule", RULE.format(helper=helper))):
            (tmp_path / f"{name}.py").write_text(text)
            os.utime(tmp_path / f"{name}.py", (modified, modified))
        for stale in tmp_path.glob("__pycache__/*"):
            stale.unlink()
        spec = importlib.util.spec_from_file_location("kept_rule", tmp_path / "kept_rule.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def value(module: ModuleType) -> float:
    return float(module.fill(Queue(1, 1, 0.0, 0.0), np.zeros(1)))


def hits(module: ModuleType) -> int:
    return sum(module.fill.stats.cache_hits.values())


def test_it_follows_what_a_rule_imports_and_is_kept(imported: Callable[..., ModuleType], tmp_path: Path) -> None:
    first, changed, again = imported(1.0), imported(5.0), imported(1.0)

    assert (value(first), value(changed), value(again)) == (1.0, 5.0, 1.0)
    assert (hits(first), hits(changed), hits(again)) == (0, 0, 1)
    assert len(list((tmp_path / "cache").glob("own-*"))) == 2


def test_it_is_not_kept_of_a_source_younger_than_the_process(
    imported: Callable[..., ModuleType], tmp_path: Path
) -> None:
    """What was imported may be an older text than the one in the file."""
    assert value(imported(1.0, modified=2_100_000_000)) == 1.0
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("suffix", "left"), [("nbi", 0), ("nbi", 40), ("nbc", -5)])
def test_a_file_that_was_cut_short_is_made_again(
    suffix: str, left: int, imported: Callable[..., ModuleType], tmp_path: Path
) -> None:
    imported(3.0)
    (file,) = (tmp_path / "cache").rglob(f"*.{suffix}")
    whole = file.stat().st_size
    os.truncate(file, left if left >= 0 else whole + left)

    assert value(imported(3.0)) == 3.0
    assert hits(imported(3.0)) == 1
