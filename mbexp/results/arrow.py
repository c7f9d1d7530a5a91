"""Arrow columns from NumPy memory and from lists, without the import of pandas that ``pyarrow.array`` brings.

That import takes longer than a run of a hundred thousand requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa


def column(values: npt.NDArray[Any], missing: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Return numbers or booleans as an Arrow array that shares their memory where it can.

    Parameters
    ----------
    values : array, shape (n,)
    missing : bool array, shape (n,), optional
        Where the value is null.
    """
    import pyarrow as pa

    valid = None if missing is None else pa.py_buffer(_bits(~missing))
    data = _bits(values) if values.dtype == np.bool_ else np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [valid, pa.py_buffer(data)])


def text_column(values: Sequence[str | None]) -> pa.Array:
    """Return text, None for null, as an Arrow array."""
    import pyarrow as pa

    encoded = [b"" if value is None else value.encode() for value in values]
    offsets = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum([len(part) for part in encoded], out=offsets[1:])
    missing = np.array([value is None for value in values], bool)
    valid = pa.py_buffer(_bits(~missing)) if missing.any() else None
    buffers = [valid, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def list_column(values: Sequence[Any]) -> pa.Array:
    """Return booleans, whole numbers, numbers or anything else (as text), None for null, as an Arrow array.

    Whole numbers beside numbers become numbers; a column without any value is one of numbers.
    """
    kinds = {type(value) for value in values if value is not None}
    missing = np.array([value is None for value in values], bool)
    masked = missing if missing.any() else None
    if kinds == {bool}:
        return column(np.array([bool(value) for value in values], bool), masked)
    if kinds == {int}:
        return column(np.array([value or 0 for value in values], np.int64), masked)
    if kinds <= {int, float}:
        return column(np.array([np.nan if value is None else value for value in values], np.float64), masked)
    return text_column([None if value is None else str(value) for value in values])


def _bits(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    return np.packbits(flags, bitorder="little")
