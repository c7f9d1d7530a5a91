"""The price of an iteration: the compiled forms against the plain ones, and a table against the grid it comes from."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbexp.config.gpu_keys import GpuConfig, LawConfig
from mbexp.hardware import build_law
from mbexp.hardware.closed_form import closed_form
from mbexp.hardware.iteration import ClosedForm
from mbexp.hardware.iteration_table import IterationTable, interpolated
from tests.simulator.continuous.agreement import plain_price

FIELDS = [field.name for field in dataclasses.fields(ClosedForm)]
TABLE = IterationTable(
    batch_sizes=np.array([1.0, 4.0, 16.0]),
    contexts_tokens=np.array([32.0, 100.0, 250.5, 1000.0]),
    step_table_s=np.array([[5.0, 5.5, 7.0, 9.0], [6.0, 6.5, 8.0, 12.0], [9.0, 11.0, 14.0, 30.0]]) / 1000,
    prefill_sequences=np.array([1.0, 2.0, 8.0]),
    prefill_tokens=np.array([0.0, 64.0, 512.0, 2048.0]),
    prefill_table_s=np.array([[4.0, 5.0, 20.0, 90.0], [4.5, 6.0, 35.0, 170.0], [6.0, 12.0, 120.0, 600.0]]) / 1000,
)
PARAMETERS = TABLE.price().parameters


@given(
    st.lists(st.floats(0, 1), min_size=len(FIELDS), max_size=len(FIELDS)),
    st.integers(0, 9),
    st.integers(0, 500),
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), max_size=4),
)
def test_closed_form_is_the_plain_formula(values, decodes, context, chunks):
    price = ClosedForm(*values)
    tokens = sum(n for _, n in chunks)
    squares = float(sum((x + n) ** 2 - x**2 for x, n in chunks))
    context = context if decodes else 0
    seconds = closed_form(np.array(values), decodes, context, tokens, squares, 0.0, len(chunks))[0]
    assert seconds == pytest.approx(plain_price(price)(decodes, context, tokens, squares, len(chunks)), rel=1e-12)


@given(
    st.integers(0, 30), st.floats(1, 3000), st.lists(st.tuples(st.integers(0, 900), st.integers(1, 900)), max_size=3)
)
def test_table_is_interpolated_as_the_page_says(decodes, mean, chunks):
    tokens = sum(n for _, n in chunks)
    squares = float(sum((x + n) ** 2 - x**2 for x, n in chunks))
    context = int(decodes * mean)
    if not decodes and not tokens:
        return
    seconds = interpolated(PARAMETERS, decodes, context, tokens, squares, 0.0, len(chunks))[0]
    assert seconds == pytest.approx(plain_price(TABLE)(decodes, context, tokens, squares, len(chunks)), rel=1e-9)


@settings(max_examples=200)
@given(st.integers(1, 30), st.floats(1, 3000))
def test_a_table_says_how_long_its_line_holds(decodes, mean):
    context = int(decodes * mean)
    first_s, growth_s, alike = interpolated(PARAMETERS, decodes, context, 0, 0.0, 0.0, 0)
    plain = plain_price(TABLE)
    for step in range(int(min(alike, 400))):
        assert first_s + growth_s * step == pytest.approx(plain(decodes, context + step * decodes, 0, 0.0, 0), rel=1e-9)
    if np.isfinite(alike):  # and not longer than it must: the line bends there
        beyond = plain(decodes, context + int(alike + 1) * decodes, 0, 0.0, 0)
        assert first_s + growth_s * (alike + 1) != pytest.approx(beyond, rel=1e-9)


def test_the_generated_grid_gives_steps_and_prefills_that_add_up_to_its_batches():
    path = "rtx4080_qwen3_1_7b_generated.csv"
    law = build_law(GpuConfig(law=LawConfig(kind="grid_interpolation", path=path)))
    # From a context of 300 to one of 400: what the law of whole batches says of the difference.
    steps_s = sum(law.decode_step_s(8, 8 * (300 + k)) for k in range(100))
    assert steps_s == pytest.approx(law.service(8, 300, 100)[0] - law.service(8, 299, 1)[0], rel=1e-3)
    assert law.prefill_s(4, 500) == pytest.approx(law.service(4, 499, 1)[0], rel=1e-9)
