"""How compiled code reaches the records of the continuous event loop: by address, so that one argument carries all.

Arrays as arguments cost a hundred machine words a call and counted references; a record is one pointer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba import config, from_dtype, types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from mbexp.compiled.decorators import inlined
from mbexp.simulator.continuous.layout import (
    CELL_DTYPE,
    EVENT_DTYPE,
    FRONT_ROWS,
    GPU_DTYPE,
    GROUP_DTYPE,
    LEAVE_DTYPE,
    REQUEST_DTYPE,
    SAMPLE_DTYPE,
    SEGMENT_DTYPE,
    SET_DTYPE,
    SMALL_CELL_DTYPE,
    TIME_CELL_DTYPE,
)

# Decorator of functions that are called, not compiled into those that call them; nothing in them is counted.
called: Callable[[Any], Any] = numba.njit(_nrt=False)  # type: ignore[call-overload]

_by_address: dict[int, npt.NDArray[Any]] = {}  # used only where nothing is compiled


def address_of(array: npt.NDArray[Any]) -> int:
    """Return where an array lies; the caller keeps it alive."""
    address: int = array.ctypes.data
    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        _by_address[address] = array.reshape(-1).view(np.recarray)
    return address


def _reader(dtype: np.dtype[Any]) -> Any:
    """Return the function (address of an array, index) -> record, which can be written to."""
    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        return lambda address, index: _by_address[int(address)][index]
    record = from_dtype(dtype)

    @intrinsic
    def read(typing_context: Any, address: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address, index = arguments
            offset = builder.mul(index, context.get_constant(types.int64, record.size))
            return builder.inttoptr(builder.add(address, offset), context.get_value_type(record))

        return record(types.int64, types.int64), generate

    return read


_request, _gpu, _leave, _group, _event, _set, _segment, _sample, _cell, _time_cell, _small_cell = (
    _reader(dtype)
    for dtype in (
        REQUEST_DTYPE,
        GPU_DTYPE,
        LEAVE_DTYPE,
        GROUP_DTYPE,
        EVENT_DTYPE,
        SET_DTYPE,
        SEGMENT_DTYPE,
        SAMPLE_DTYPE,
        CELL_DTYPE,
        TIME_CELL_DTYPE,
        SMALL_CELL_DTYPE,
    )
)


@inlined
def request_at(run, request):
    """Return the record of a request."""
    return _request(run.requests_at, np.int64(request))


@inlined
def gpu_at(run, gpu):
    """Return the record of a GPU."""
    return _gpu(run.gpus_at, np.int64(gpu))


@inlined
def leave_at(run, gpu, place):
    """Return an entry of the heap of steps at which requests of a GPU, given as a record, leave."""
    return _leave(run.leaves_at, gpu.first_slot + place)


@inlined
def group_at(run, gpu, place):
    """Return a group of requests of equal age of a GPU, given as a record."""
    return _group(run.groups_at, gpu.first_slot + place)


@inlined
def phase_at(run, gpu, place):
    """Return how many requests of a GPU, given as a record, take a block at the steps of one place in a block."""
    return _cell(run.phases_at, gpu.first_phase + place)


@inlined
def event_at(run, place):
    """Return an entry of the heap of events."""
    return _event(run.events_at, place)


@inlined
def front_cell(run, row, gpu_index):
    """Return the number of a GPU in one of the rows that the search goes through."""
    return _time_cell(run.fronts_at, row * run.front_places + gpu_index)


def _front_row() -> Any:
    """Return the function (address, places, row) -> a row of `State.fronts`, an array that owns nothing."""
    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        return lambda address, places, row: _by_address[int(address)]["value"].reshape(FRONT_ROWS, places)[row]
    numbers = types.Array(types.float64, 1, "C")

    @intrinsic
    def read(typing_context: Any, address: Any, places: Any, row: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address, places, row = arguments
            size = context.get_constant(types.intp, 8)
            array = context.make_array(numbers)(context, builder)
            data = builder.add(address, builder.mul(builder.mul(row, places), size))
            populate_array(
                array,
                data=builder.inttoptr(data, array.data.type),
                shape=[places],
                strides=[size],
                itemsize=size,
                meminfo=None,
            )
            return array._getvalue()

        return numbers(types.int64, types.int64, types.int64), generate

    return read


front_row = _front_row()


@inlined
def set_at(run, group):
    """Return the record of a set of queues."""
    return _set(run.sets_at, group)


@inlined
def queue_cell(run, group, row, queue):
    """Return the number of a queue (or at a place of READY) in one of the rows of a set."""
    return _cell(run.queues_at, (group * run.queue_rows + row) * run.num_bins + queue)


@inlined
def head_time(run, group, queue):
    """Return the arrival of the head of a queue."""
    return _time_cell(run.heads_at, group * run.num_bins + queue)


@inlined
def given_requests(run, gpu_index):
    """Return the number of requests given to a GPU and not finished."""
    return _cell(run.given_at, gpu_index)


@inlined
def given_kv(run, gpu_index):
    """Return the predicted KV need of the requests given to a GPU and not finished."""
    return _cell(run.given_at, run.num_gpus + gpu_index)


@inlined
def gap_count(run, place):
    """Return a bin of the histogram of gaps."""
    return _cell(run.gap_counts_at, place)


@inlined
def segment_at(run, row):
    """Return a row of the log."""
    return _segment(run.segments_at, row)


@inlined
def sample_at(run, place):
    """Return a sample."""
    return _sample(run.samples_at, place)


@inlined
def start_time(run, request):
    """Return the first admission of a request."""
    return _time_cell(run.start_at, np.int64(request))


@inlined
def first_token_time(run, request):
    """Return the first token of a request."""
    return _time_cell(run.first_token_at, np.int64(request))


@inlined
def finish_time(run, request):
    """Return the completion of a request."""
    return _time_cell(run.finish_at, np.int64(request))


@inlined
def gpu_of(run, request):
    """Return the GPU of a request."""
    return _small_cell(run.gpu_of_at, np.int64(request))


@inlined
def preemptions_of(run, request):
    """Return how often a request lost its place."""
    return _small_cell(run.preemptions_of_at, np.int64(request))
