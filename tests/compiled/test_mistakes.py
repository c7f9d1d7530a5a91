"""A function of a user's that cannot be compiled is told by file, line, name, and what to change."""

from __future__ import annotations

from pathlib import Path

import numba
import pytest

from mbexp import simulate
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
def test_a_function_with_a_mistake_is_told_where_it_is_asked_for_and_stops_no_other_of_its_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, message = CASES[name]
    module = f"mistakes_{name}"
    (tmp_path / f"{module}.py").write_text(GOOD + source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert callable(load_object("scheduler.order", f"{module}.plain"))
    with pytest.raises(UserError, match=rf"^{module}\.py {message}") as raised:
        load_object("scheduler.order", f"{module}.{name}")
    assert "\n" not in str(raised.value)


def test_a_rule_that_calls_one_with_a_mistake_names_that_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = "\n\n@queue_order\ndef caller(now_s, request, parameters):\n    return few(now_s, request)\n"
    (tmp_path / "mistakes_called.py").write_text(GOOD + CASES["few"][0] + caller)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"^mistakes_called\.py line 9, few: a rule of this kind takes 3"):
        load_object("scheduler.order", "mistakes_called.caller")


def test_a_price_of_a_law_that_cannot_be_compiled_is_named_by_the_law(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from mbexp.rules import LatencyLaw, Price, batch_price\n\n\n@batch_price\ndef price(parameters):\n"
    law = "    return 1.0\n\n\ndef law(gpu):\n    return LatencyLaw.configured(gpu, 'mine', batch=Price(price, []))\n"
    (tmp_path / "broken_price.py").write_text(source + law)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"^broken_price\.py line \d+, price: cannot be compiled"):
        simulate(num_requests=10, **{"gpu.law.kind": "broken_price.law"})


def test_an_error_of_a_file_while_it_is_imported_names_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_read.py").write_text("def half()\n")
    (tmp_path / "imports_it.py").write_text("import mbexp\n\nimport half_read\n")
    (tmp_path / "divides.py").write_text("import mbexp\n\n\ndef share(n):\n    return 1 / n\n\n\nEACH = share(0)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"^half_read\.py line 1: expected ':'$"):
        load_object("metrics", "imports_it.anything")
    with pytest.raises(UserError, match=r"importing divides failed \(divides\.py line 5\): ZeroDivisionError: "):
        load_object("metrics", "divides.EACH")


def test_a_file_that_python_cannot_read_is_told_by_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no_colon.py").write_text(
        "from mbexp.rules import queue_order\n\n\ndef rank(a, b, c)\n    return 1.0\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"^no_colon\.py line 4: expected ':'$"):
        load_object("scheduler.order", "no_colon.rank")
