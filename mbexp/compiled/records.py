"""Arrays that compiled code reaches by address, described in one table.

An array costs a compiled function seven arguments and a counted reference; a record is one pointer. So one record, the
head, holds the address of every array beside the settings and sums of a simulation, and is all that functions hand on.
A row of the table is a name, what the array holds and its shape; from it come the address in the head, the memory and
the function that reads and writes an entry. What that function does not check: that the entry exists.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import config, from_dtype, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

CACHE_LINE = 64  # bytes

Field = tuple[str, type] | tuple[str, type, Any]
Function = Callable[..., Any]


class Record:
    """What an entry holds: fields (name, type) or (name, type, initial value), which is else 0.

    With `whole_lines` every entry of an array begins a line of the cache.
    """

    def __init__(self, *fields: Field, whole_lines: bool = False) -> None:
        packed: Any = np.dtype([field[:2] for field in fields], align=True)
        size = -(-packed.itemsize // CACHE_LINE) * CACHE_LINE if whole_lines else packed.itemsize
        names = list(packed.names)
        formats, offsets = ([packed.fields[name][part] for name in names] for part in (0, 1))
        self.fields = fields
        self.dtype: np.dtype[Any] = np.dtype(
            {"names": names, "formats": formats, "offsets": offsets, "itemsize": size}, align=True
        )
        self.initial = np.zeros((), self.dtype)
        for name, _, *value in fields:
            if value:
                self.initial[name] = value[0]


class Row(NamedTuple):
    """One array of a table."""

    dtype: np.dtype[Any]
    shape: tuple[str | int, ...]
    initial: Any  # None: memory as it comes


class Table:
    """The head's own fields, and the arrays whose addresses it holds."""

    def __init__(self, *fields: Field) -> None:
        self._fields = fields
        self._rows: dict[str, Row] = {}

    def extended(self, *fields: Field) -> Table:
        """Return a table with the arrays and fields of this one and further fields; more arrays can be added to it.

        Functions that reach an array of this table reach it through a head of the other, too.
        """
        table = Table(*self._fields, *fields)
        table._rows.update(self._rows)
        return table

    def array(self, name: str, of: Record | type, *shape: str | int, initial: Any = 0) -> Function:
        """Add an array, and return the function that reaches an entry of it in compiled code.

        Parameters
        ----------
        of
            A record, or the type of single numbers.
        *shape
            Up to three sizes: whole numbers, or names of fields of the head.
        initial
            What numbers begin with; records begin as they say. None leaves memory as it comes.

        Returns
        -------
        function (head, index, ...) -> record
            One index for each size. A single number is the field ``value`` of what it returns.
        """
        if isinstance(of, Record):
            dtype, initial = of.dtype, None if initial is None else of.initial
        else:
            dtype = np.dtype(of)
        if name in self._rows:  # of this table, or of the one that it extends
            raise ValueError(f"the table has an array {name} already")
        self._rows[name] = Row(dtype, shape, initial)
        return _entry_reader(f"{name}_at", self._rows[name])

    def vector(self, name: str) -> Function:
        """Return the function (head, row) -> array that reaches a row of an array of numbers of two dimensions."""
        return _vector_reader(f"{name}_at", self._rows[name])

    def prefetcher(self, name: str, size: int | None = None) -> Function:
        """Return the function (head, index) that lets the processor fetch an entry that will be needed soon.

        It fetches the lines of one entry, or its first `size` bytes; of an array of two dimensions, the first line of
        a row.
        """
        return _prefetcher(f"{name}_at", self._rows[name], size)

    def head(self, **values: Any) -> npt.NDArray[Any]:
        """Return the head, shape (1,), with these values in its fields."""
        record = Record(*((f"{name}_at", np.int64) for name in self._rows), *self._fields)
        made = np.full(1, record.initial).view(np.recarray)
        for name, value in values.items():
            made[name] = value
        return made

    def allocate(self, head: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Return every array, in the sizes that the head names, and note in the head where they lie.

        The caller keeps them for as long as compiled code may reach them.
        """
        arrays = {}
        for name, (dtype, sizes, initial) in self._rows.items():
            shape = [size if isinstance(size, int) else int(head[size][0]) for size in sizes]
            arrays[name] = _aligned(shape, dtype, initial)
            head[f"{name}_at"] = arrays[name].ctypes.data
            if config.DISABLE_JIT:  # type: ignore[attr-defined]
                _by_address[arrays[name].ctypes.data] = arrays[name]
        return arrays


def blank(of: Record) -> Function:
    """Return the compiled function that gives an entry the initial values of its record.

    For arrays of so many entries that filling them on the way, when they come into the cache anyway, saves time.
    """
    if config.DISABLE_JIT:  # type: ignore[attr-defined]

        def write(entry: Any) -> None:
            for name in of.dtype.names or ():
                entry[name] = of.initial[name]

        return write
    record = from_dtype(of.dtype)

    @intrinsic
    def write_initial(typing_context: Any, entry: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            initial = context.insert_const_bytes(builder.module, of.initial.tobytes())
            size = context.get_constant(types.intp, of.dtype.itemsize)
            cgutils.raw_memcpy(builder, arguments[0], initial, size, 1)
            return context.get_dummy_value()

        return types.none(record), generate

    done: Function = write_initial
    return done


# Only where nothing is compiled: the arrays that someone still holds.
_by_address: WeakValueDictionary[int, npt.NDArray[Any]] = WeakValueDictionary()


def _aligned(shape: list[int], dtype: np.dtype[Any], initial: Any) -> npt.NDArray[Any]:
    """Return an array that begins a line of the cache."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = (np.empty if initial is None else np.zeros)(size + CACHE_LINE, np.uint8)
    first = -memory.ctypes.data % CACHE_LINE
    array: npt.NDArray[Any] = memory[first : first + size].view(dtype).reshape(shape)
    if initial is not None and np.asarray(initial, dtype).tobytes().strip(b"\0"):
        array[...] = initial
    return array.view(np.recarray) if dtype.names else array


def _entry_reader(address: str, row: Row) -> Function:
    """Return the function (head, index, ...) -> record of an array whose address is a field of the head."""
    dtype = row.dtype if row.dtype.names else np.dtype([("value", row.dtype)])
    if config.DISABLE_JIT:  # type: ignore[attr-defined]

        def entry(head: Any, *index: int) -> Any:
            array = _by_address[int(head[address])]
            return (array if array.dtype.names else array.view(dtype).view(np.recarray))[index]

        return entry
    record = from_dtype(dtype)

    @intrinsic
    def entry_at(typing_context: Any, head: Any, *index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            indices = cgutils.unpack_tuple(builder, arguments[1])
            place = _place_of_entry(context, builder, head, arguments[0], indices, address, row)
            return builder.inttoptr(place, context.get_value_type(record))

        return record(head, types.StarArgTuple((types.int64,) * len(index))), generate

    done: Function = entry_at
    return done


def _vector_reader(address: str, row: Row) -> Function:
    """Return the function (head, row) -> array that owns nothing, for an array whose address is a field of the head."""
    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        return lambda head, index: _by_address[int(head[address])][index]
    numbers = types.Array(from_dtype(row.dtype), 1, "C")

    @intrinsic
    def vector_at(typing_context: Any, head: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            indices = arguments[1], context.get_constant(types.int64, 0)
            place = _place_of_entry(context, builder, head, arguments[0], indices, address, row)
            size = context.get_constant(types.intp, row.dtype.itemsize)
            array = context.make_array(numbers)(context, builder)
            populate_array(
                array,
                data=builder.inttoptr(place, array.data.type),
                shape=[_size(context, builder, head, arguments[0], row.shape[1])],
                strides=[size],
                itemsize=size,
                meminfo=None,
            )
            return array._getvalue()

        return numbers(head, types.int64), generate

    done: Function = vector_at
    return done


def _prefetcher(address: str, row: Row, size: int | None) -> Function:
    """Return the function (head, index) that prefetches an entry, or the beginning of a row."""
    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        return lambda head, index: None
    fetched = size or (row.dtype.itemsize if len(row.shape) == 1 else CACHE_LINE)

    @intrinsic
    def prefetch(typing_context: Any, head: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            indices = [arguments[1], *(context.get_constant(types.int64, 0) for _ in row.shape[1:])]
            place = _place_of_entry(context, builder, head, arguments[0], indices, address, row)
            number, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
            kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
            fetch = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
            for offset in range(0, fetched, CACHE_LINE):
                line = builder.add(place, context.get_constant(types.int64, offset))
                # For writing, into the nearest cache, as data.
                flags = (ir.Constant(number, flag) for flag in (1, 3, 1))
                builder.call(fetch, [builder.inttoptr(line, pointer), *flags])
            return context.get_dummy_value()

        return types.none(head, types.int64), generate

    done: Function = prefetch
    return done


def _place_of_entry(context: Any, builder: Any, kind: Any, head: Any, indices: Any, address: str, row: Row) -> Any:
    """Generate the address of the entry at some indices; entries of the last index lie side by side."""
    place = context.get_constant(types.int64, 0)
    for size, index in zip(row.shape, indices, strict=True):
        place = builder.add(builder.mul(place, _size(context, builder, kind, head, size)), index)
    offset = builder.mul(place, context.get_constant(types.int64, row.dtype.itemsize))
    return builder.add(_size(context, builder, kind, head, address), offset)


def _size(context: Any, builder: Any, kind: Any, head: Any, size: str | int) -> Any:
    """Generate a whole number: itself, or the field of the head that is called so."""
    if isinstance(size, int):
        return context.get_constant(types.int64, size)
    return context.get_getattr(kind, size)(context, builder, kind, head, size)
