"""A toy table of records: what it allocates, and that compiled code and plain Python reach the same entries."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from numba import njit

from mbexp.compiled.heap import heap
from mbexp.compiled.records import CACHE_LINE, Record, Table, blank
from mbexp.simulator.continuous import layout
from tests import ROOT

ITEM = Record(
    ("time_s", np.float64, 2.5),
    ("next", np.int32, -1),
    ("small", np.uint16, 65535),
    ("seen", np.bool_),
    whole_lines=True,
)
PAIR = Record(("key", np.float64), ("item", np.int64))
TOY = Table(("items", np.int64), ("rows", np.int64), ("stride", np.int64, 3), ("total_s", np.float64))
item_at = TOY.array("records", ITEM, "items")
raw_at = TOY.array("raw", ITEM, "items", initial=None)
price = TOY.array("prices", np.float64, "items", initial=np.nan)
count = TOY.array("counts", np.int32, "rows", 3, "items", initial=-1)
length = TOY.array("lengths", np.float64, "rows", "items")
lengths = TOY.vector("lengths")
pair_at = TOY.array("pairs", PAIR, "rows", "items")
make_blank = blank(ITEM)
sift_up, sift_down = heap(pair_at, "key", "item")


def toy(items=5, rows=4):
    head = TOY.head(items=items, rows=rows)
    return head, TOY.allocate(head)


def fill(heads):
    """Write into every array through its accessor, with indices of several types."""
    head = heads[0]
    for item in range(head.items):
        make_blank(raw_at(head, item))
        raw_at(head, item).seen = True
        item_at(head, np.int32(item)).time_s += item
        item_at(head, item).next = item_at(head, item).small
        price(head, np.uint16(item)).value = 0.5 * item
        for row in range(head.rows):
            count(head, row, 1, item).value += 10 * row + item
            length(head, row, item).value = 100.0 * row + item
    row = lengths(head, 2)
    for item in range(len(row)):
        head.total_s += row[item]


compiled_fill = njit(_nrt=False)(fill)


def test_the_head_holds_an_address_for_each_array_and_initial_values():
    head, arrays = toy()
    assert head.dtype.names[:6] == (
        "records_at", "raw_at", "prices_at", "counts_at", "lengths_at", "pairs_at",
    )  # fmt: skip
    assert head.dtype.names[6:] == ("items", "rows", "stride", "total_s")
    assert head["stride"][0] == 3
    for name, array in arrays.items():
        assert head[f"{name}_at"][0] == array.ctypes.data
        assert array.ctypes.data % CACHE_LINE == 0
    with pytest.raises(ValueError, match="wrong"):
        TOY.head(wrong=1)


def test_a_table_that_is_extended_has_each_array_once():
    more = TOY.extended(("others", np.int64))
    more.array("another", np.int64, "others")
    for table, name in ((TOY, "prices"), (more, "prices"), (more, "another")):
        with pytest.raises(ValueError, match=f"has an array {name} already"):
            table.array(name, np.int64, "items")
    assert "another" not in TOY.head(items=1, rows=1).dtype.names


def test_arrays_have_the_sizes_and_the_initial_values_of_the_table():
    _, arrays = toy(items=5, rows=4)
    shapes = {name: array.shape for name, array in arrays.items()}
    assert shapes == {
        "records": (5,), "raw": (5,), "prices": (5,), "counts": (4, 3, 5), "lengths": (4, 5), "pairs": (4, 5),
    }  # fmt: skip
    assert ITEM.dtype.itemsize == CACHE_LINE
    assert arrays["records"].dtype == ITEM.dtype
    assert arrays["records"].tolist() == [(2.5, -1, 65535, False)] * 5
    assert np.isnan(arrays["prices"]).all()
    assert (arrays["counts"] == -1).all()
    assert arrays["counts"].dtype == np.int32
    assert not arrays["lengths"].any()


@pytest.mark.parametrize("items", [0, 1, 5])
def test_compiled_code_reaches_what_numpy_reaches(items):
    head, arrays = toy(items)
    compiled_fill(head)
    item, row = np.arange(items), np.arange(4)
    assert arrays["raw"].tolist() == [(2.5, -1, 65535, True)] * items
    assert np.array_equal(arrays["records"]["time_s"], 2.5 + item)
    assert (arrays["records"]["next"] == 65535).all()
    assert np.array_equal(arrays["prices"], 0.5 * item)
    assert np.array_equal(arrays["lengths"], 100.0 * row[:, None] + item)
    assert np.array_equal(arrays["counts"][:, 1], 10 * row[:, None] + item - 1)
    assert (arrays["counts"][:, [0, 2]] == -1).all()
    assert head["total_s"][0] == arrays["lengths"][2].sum()


def test_plain_python_reaches_what_compiled_code_reaches():
    head, arrays = toy()
    compiled_fill(head)
    code = (
        "from tests.compiled.test_records import fill, toy\n"
        "head, arrays = toy(); fill(head); print([array.tolist() for array in arrays.values()])"
    )
    plain = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert plain.stdout.strip() == str([array.tolist() for array in arrays.values()])


@njit(_nrt=False)
def put_down(heads, heap_row, keys, items):
    """Fill a heap entry by entry; then take the first until none is left, leaving them in order."""
    head = heads[0]
    for size in range(len(keys)):
        sift_up(head, heap_row, size, keys[size], items[size])
    for taken in range(len(keys)):
        first = pair_at(head, heap_row, 0)
        keys[taken], items[taken] = first.key, first.item
        left = len(keys) - taken - 1
        last = pair_at(head, heap_row, left)
        if left > 0:
            sift_down(head, heap_row, 0, left, last.key, last.item)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_heap_gives_its_entries_by_key_then_by_item(size):
    rng = np.random.default_rng(size)
    head, arrays = toy(items=size, rows=3)
    keys, items = rng.integers(0, 9, size).astype(np.float64), rng.permutation(size)
    expected = sorted(zip(keys, items, strict=True))
    put_down(head, 1, keys, items)
    assert list(zip(keys, items, strict=True)) == expected
    assert not arrays["pairs"][[0, 2]].tobytes().strip(b"\0")  # the heaps beside it are as they were


def test_a_column_of_requests_is_one_row_of_the_layout():
    """A field in the record of a request, and a number kept of each: nothing else names or allocates them."""
    code = (ROOT / "mbexp" / "simulator" / "continuous" / "layout.py").read_text(encoding="utf-8")
    field, row = '    ("arrival_s", f8),\n', 'finish_s = LAYOUT.array("finish_s"'
    assert code.count(field) == code.count(row) == 1
    code = code.replace(field, field + '    ("priority", i4, 7),\n')
    code = code.replace(row, f'deadline_s = LAYOUT.array("deadline_s", f8, "num_requests", initial=1.5)\n{row}')
    changed: dict = {"__name__": "changed_layout"}
    exec(compile(code, "changed_layout.py", "exec"), changed)

    @njit(_nrt=False)
    def use(runs):
        run = runs[0]
        for request in range(run.num_requests):
            changed_blank(changed_request_at(run, request))
            changed_request_at(run, request).priority += request
            changed_deadline_s(run, request).value += changed_request_at(run, request).priority

    changed_blank, changed_request_at = changed["blank_request"], changed["request_at"]
    changed_deadline_s = changed["deadline_s"]
    sizes = {name: 3 for name in layout.LAYOUT.head().dtype.names if re.match("num_|memory_rows|memory_numbers", name)}
    state = changed["new_state"](changed["LAYOUT"].head(**sizes))
    use(state.run)
    assert state.requests["priority"].tolist() == [7, 8, 9]
    assert state.deadline_s.tolist() == [8.5, 9.5, 10.5]
