"""Which of many GPUs comes to a boundary next: they stand in buckets of time, by a boundary that is not after the next.

A GPU is moved on only when somebody searches after its boundary has passed, and costs a few steps then. Buckets are as
wide as fits about one GPU; where that turns out wrong, all are put into wider or narrower ones.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called, inlined
from mbexp.simulator.continuous.layout import NO_BUCKET, NOBODY, bucket_at, bucketed_at, fetch_boundary, gpu_at
from mbexp.simulator.continuous.segment import step_ahead

LEAST_WIDTH_S = 1e-9
GPUS_EACH = 4  # as many in a bucket, where their boundaries are spread evenly
FETCHED_BUCKETS = 6  # so many ahead, the record of the GPU that is moved next is fetched


@inlined
def _bucket_of(run, time_s):
    """Return the number of the bucket in which an instant lies; numbers go on for ever, and take places in turn."""
    return np.int64(np.floor(time_s * run.buckets_per_s))


@inlined
def _link(run, gpu_index, boundary_s):
    """Put a GPU into the bucket of its known boundary, in front of those that stand there."""
    bucket = _bucket_of(run, boundary_s)
    first = bucket_at(run, bucket & (run.calendar_size - 1))
    own = bucketed_at(run, gpu_index)
    own.bucket, own.next, own.previous = bucket, first.value, NOBODY
    if first.value != NOBODY:
        bucketed_at(run, first.value).previous = gpu_index
    first.value = gpu_index


@called
def put_into_bucket(run, gpu):
    """Put a GPU with room, in the middle of a segment, into the bucket of its known boundary."""
    _link(run, gpu.index, gpu.boundary_s)
    run.room_max = max(run.room_max, gpu.room)


@called
def take_out_of_bucket(run, gpu_index):
    """Take a GPU out of its bucket, if it stands in one: it comes to a boundary, or is moved on."""
    own = bucketed_at(run, gpu_index)
    if own.bucket == NO_BUCKET:
        return
    if own.previous == NOBODY:
        bucket_at(run, own.bucket & (run.calendar_size - 1)).value = own.next
    else:
        bucketed_at(run, own.previous).next = own.next
    if own.next != NOBODY:
        bucketed_at(run, own.next).previous = own.previous
    own.bucket = NO_BUCKET


@called
def _move_on(run, now_s, begun):
    """Move every GPU whose known boundary has passed on to its next one."""
    now = _bucket_of(run, now_s)
    number = max(run.bucket, now - run.calendar_size + 1)
    moves, idle_steps = 0, 0
    while number <= now:
        ahead = bucket_at(run, (number + FETCHED_BUCKETS) & (run.calendar_size - 1)).value
        if ahead != NOBODY:
            fetch_boundary(run, ahead)
        # All are taken out together, and each is put in again.
        bucket = bucket_at(run, number & (run.calendar_size - 1))
        gpu_index = np.int64(bucket.value)
        bucket.value = NOBODY
        idle_steps += 1
        while gpu_index != NOBODY:
            gpu = gpu_at(run, gpu_index)
            follower = np.int64(bucketed_at(run, gpu_index).next)
            if gpu.boundary_s < now_s or (gpu.boundary_s == now_s and begun):
                step_ahead(gpu, now_s, begun)
                moves += 1
            else:
                idle_steps += 1
            _link(run, gpu_index, gpu.boundary_s)
            gpu_index = follower
        number += 1
    run.bucket = now
    run.moves += moves
    run.idle_steps += idle_steps


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
        gpu_index = np.int64(bucket_at(run, number & (run.calendar_size - 1)).value)
        run.idle_steps += 1
        while gpu_index != NOBODY:
            gpu = gpu_at(run, gpu_index)
            own = bucketed_at(run, gpu_index)
            run.idle_steps += 1
            at_s = gpu.boundary_s
            if own.bucket == number and gpu.room >= need and at_s <= best_s:
                fewer = gpu.running < fewest or (gpu.running == fewest and gpu_index < best)
                if at_s < best_s or fewer:
                    best, best_s, fewest = np.int64(gpu_index), at_s, gpu.running  # type: ignore[assignment]
            gpu_index = np.int64(own.next)
        if best != NOBODY:
            break
    return best


@called
def _make_buckets(run):
    """Choose the width of buckets anew, by how long iterations take now, and put all GPUs into them."""
    count, sum_s = 0, 0.0
    for gpu_index in range(run.num_gpus):
        if bucketed_at(run, gpu_index).bucket != NO_BUCKET:
            gpu = gpu_at(run, gpu_index)
            count += 1
            sum_s += gpu.first_s + gpu.growth_s * gpu.boundary
    if count > 0:
        run.buckets_per_s = 1.0 / max(GPUS_EACH * sum_s / count / count, LEAST_WIDTH_S)
    for place in range(run.calendar_size):
        bucket_at(run, place).value = NOBODY
    run.bucket = 2**62
    for gpu_index in range(run.num_gpus):
        own = bucketed_at(run, gpu_index)
        if own.bucket != NO_BUCKET:
            put_into_bucket(run, gpu_at(run, gpu_index))
            run.bucket = min(run.bucket, own.bucket)
    run.idle_steps, run.moves = 0, 0
