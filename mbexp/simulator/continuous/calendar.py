"""Which of many GPUs comes to a boundary next: they stand in buckets of time, by a boundary that is not after the next.

A GPU is moved on only when somebody searches after its boundary has passed, and costs a few steps then. Buckets are as
wide as fits about one GPU; where that turns out wrong, all are put into wider or narrower ones.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called, inlined
from mbexp.simulator.continuous.layout import NOBODY, bucket_at, gpu_at
from mbexp.simulator.continuous.segment import look_ahead

LEAST_WIDTH_S = 1e-9


@inlined
def _bucket_of(run, time_s):
    """Return the number of the bucket in which an instant lies; numbers go on for ever, and take places in turn."""
    return np.int64(np.floor(time_s / run.bucket_s))


@called
def put_into_bucket(run, gpu):
    """Put a GPU with room, in the middle of a segment, into the bucket of its known boundary."""
    gpu.bucket = _bucket_of(run, gpu.boundary_s)
    place = gpu.bucket & (run.calendar_size - 1)
    follower = bucket_at(run, place).value
    gpu.bucket_next, gpu.bucket_previous, gpu.in_bucket = follower, NOBODY, True
    if follower != NOBODY:
        gpu_at(run, follower).bucket_previous = gpu.index
    bucket_at(run, place).value = gpu.index
    run.room_max = max(run.room_max, gpu.room)


@called
def take_out_of_bucket(run, gpu):
    """Take a GPU out of its bucket: it comes to a boundary, or is moved on."""
    if gpu.bucket_previous == NOBODY:
        bucket_at(run, gpu.bucket & (run.calendar_size - 1)).value = gpu.bucket_next
    else:
        gpu_at(run, gpu.bucket_previous).bucket_next = gpu.bucket_next
    if gpu.bucket_next != NOBODY:
        gpu_at(run, gpu.bucket_next).bucket_previous = gpu.bucket_previous
    gpu.in_bucket = False


@called
def _move_on(run, now_s, begun):
    """Move every GPU whose known boundary has passed on to its next one."""
    now = _bucket_of(run, now_s)
    number = max(run.bucket, now - run.calendar_size + 1)
    while number <= now:
        gpu_index = bucket_at(run, number & (run.calendar_size - 1)).value
        run.idle_steps += 1
        while gpu_index != NOBODY:
            gpu = gpu_at(run, gpu_index)
            gpu_index = gpu.bucket_next
            if gpu.boundary_s < now_s or (gpu.boundary_s == now_s and begun):
                look_ahead(gpu, now_s, begun)
                run.moves += 1
                if _bucket_of(run, gpu.boundary_s) != gpu.bucket:
                    take_out_of_bucket(run, gpu)
                    put_into_bucket(run, gpu)
            else:
                run.idle_steps += 1
        number += 1
    run.bucket = now


@called
def next_in_calendar(run, need, now_s, begun):
    """Return the GPU with room for `need` that comes to a boundary first, the emptiest of equals.

    Returns NOBODY where a whole round of buckets holds none.
    """
    if run.idle_steps > 4 * (run.moves + run.calendar_size):
        _make_buckets(run)
    _move_on(run, now_s, begun)
    best, best_s, fewest = NOBODY, np.inf, 0
    for number in range(run.bucket, run.bucket + run.calendar_size):
        gpu_index = bucket_at(run, number & (run.calendar_size - 1)).value
        run.idle_steps += 1
        while gpu_index != NOBODY:
            gpu = gpu_at(run, gpu_index)
            run.idle_steps += 1
            at_s = gpu.boundary_s
            if gpu.bucket == number and gpu.room >= need and at_s <= best_s:
                fewer = gpu.running < fewest or (gpu.running == fewest and gpu_index < best)
                if at_s < best_s or fewer:
                    best, best_s, fewest = np.int64(gpu_index), at_s, gpu.running  # type: ignore[assignment]
            gpu_index = gpu.bucket_next
        if best != NOBODY:
            break
    return best


@called
def _make_buckets(run):
    """Choose the width of buckets anew, by how long iterations take now, and put all GPUs into them."""
    count, sum_s = 0, 0.0
    for gpu_index in range(run.num_gpus):
        gpu = gpu_at(run, gpu_index)
        if gpu.in_bucket:
            count += 1
            sum_s += gpu.first_s + gpu.growth_s * gpu.boundary
    if count > 0:
        run.bucket_s = max(sum_s / count / count, LEAST_WIDTH_S)
    for place in range(run.calendar_size):
        bucket_at(run, place).value = NOBODY
    run.bucket = 2**62
    for gpu_index in range(run.num_gpus):
        gpu = gpu_at(run, gpu_index)
        if gpu.in_bucket:
            put_into_bucket(run, gpu)
            run.bucket = min(run.bucket, gpu.bucket)
    run.idle_steps, run.moves = 0, 0
