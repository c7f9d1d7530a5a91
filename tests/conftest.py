"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mbexp.workload.trace import Trace

SHARED_TRACES = Path(__file__).resolve().parent.parent.parent / "shared" / "traces"


@pytest.fixture
def shared_trace() -> Callable[[str], Path]:
    """Return the path of a real trace, or skip the test where it is not at hand."""

    def find(name: str) -> Path:
        path = SHARED_TRACES / name
        if not path.is_file():
            pytest.skip(f"{name} is not in {SHARED_TRACES}")
        return path

    return find


@pytest.fixture
def make_trace() -> Callable[..., Trace]:
    """Build a trace from plain lists; prompts default to one token."""

    def make(arrival_s: list[float], output_tokens: list[int], prompt_tokens: list[int] | None = None) -> Trace:
        prompts = [1] * len(arrival_s) if prompt_tokens is None else prompt_tokens
        return Trace(
            np.array(arrival_s, np.float64), np.array(prompts, np.int32), np.array(output_tokens, np.int32), "test"
        )

    return make
