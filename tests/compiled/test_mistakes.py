"""A function of a user's that cannot be compiled is told by file, line, name, and what to change."""

from __future__ import annotations

from pathlib import Path

import numba
import pytest

from mbexp.config.plugins import load_object
from mbexp.errors import UserError

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")

GOOD = """from mbexp.rules import batch_price, bin_selection, queue_order


@queue_order
def plain(now_s, request, parameters):
    return request.prompt_tokens * 1.0


"""
CASES = {
    "nothing": (
        "@queue_order\ndef nothing(now_s, request, parameters):\n    if request.size > 3:\n        return 1.0\n",
        r"line \d+, nothing: every path must return a number",
    ),
    "attribute": (
        "@queue_order\ndef attribute(now_s, request, parameters):\n    return request.prompt_token\n",
        r"line 11, attribute: Waiting has no prompt_token \(did you mean 'prompt_tokens'\?\); it has place, arrival_s,",
    ),
    "unknown": (
        "@queue_order\ndef unknown(now_s, request, parameters):\n    return request.size + missing\n",
        r"line 9, unknown: missing cannot be used here",
    ),
    "few": (
        "@queue_order\ndef few(now_s, request):\n    return 1.0\n",
        r"line 9, few: a rule of this kind takes 3 arguments, not 2",
    ),
    "text": (
        "@bin_selection\ndef text(now_s, queues, memory, parameters):\n    return 'first'\n",
        r"line 11, text: cannot be compiled: No conversion from Literal\[str\]\(first\) to int64",
    ),
    "law": (
        "@batch_price\ndef law(parameters, batch_size):\n    return 1.0, 1.0, 1.0\n",
        r"line \d+, law: cannot be compiled: ",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_culprit_is_named_and_not_the_function_that_was_asked_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, message = CASES[name]
    module = f"mistakes_{name}"
    (tmp_path / f"{module}.py").write_text(GOOD + source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=rf"^{module}\.py {message}") as raised:
        load_object("scheduler.order", f"{module}.plain")
    assert "\n" not in str(raised.value)


def test_a_file_that_python_cannot_read_is_told_by_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no_colon.py").write_text(
        "from mbexp.rules import queue_order\n\n\ndef rank(a, b, c)\n    return 1.0\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"no_colon\.py line 4: expected ':'"):
        load_object("scheduler.order", "no_colon.rank")
