"""Arrow columns made without pandas hold what they were made from."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from mbexp.results.arrow import column, list_column, text_column


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None, 3], "int64"),
        ([1, 2.5, None], "double"),
        ([True, None, False], "bool"),
        (["a", None, "é\nb", ""], "string"),
        ([None, None], "double"),
        ([1, "a"], "string"),
        ([], "double"),
        ([2**53 + 1], "int64"),
    ],
)
def test_a_list_becomes_a_column_of_its_kind(values: list[Any], kind: str) -> None:
    made = list_column(values)

    made.validate(full=True)
    assert str(made.type) == kind
    assert made.to_pylist() == ([str(value) for value in values] if values == [1, "a"] else values)


@pytest.mark.parametrize("dtype", ["float64", "int32", "uint16", "int8", "bool"])
def test_an_array_becomes_a_column_of_its_type(dtype: str) -> None:
    values = np.arange(19).astype(dtype)
    missing = np.arange(19) % 3 == 0

    whole, holes = column(values[::2]), column(values, missing)

    whole.validate(full=True)
    holes.validate(full=True)
    assert whole.to_pylist() == values[::2].tolist()
    assert holes.to_pylist() == [None if gone else value for gone, value in zip(missing, values.tolist(), strict=True)]


def test_text_of_any_length_survives() -> None:
    values = ["", None, "a" * 1000, "ü"]

    assert text_column(values).to_pylist() == values


def test_pandas_is_not_imported() -> None:
    """It takes longer than many a run; should pyarrow stop needing it, this module can go."""
    code = "import sys, numpy, pyarrow as pa; from mbexp.results.arrow import *\n"
    code += (
        "pa.table({'a': column(numpy.arange(3)), 'b': list_column([1, None, 2]), 'c': text_column(['x', None, ''])})\n"
    )
    code += "sys.exit('pandas' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
