"""Two array heaps: busy GPUs by (completion, index) and idle GPUs by index."""

from __future__ import annotations

from numba import njit


@njit
def push_busy(times, gpus, size, time, gpu):
    """Add (time, gpu) to a heap of `size` entries; return the new size."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if times[parent] < time or (times[parent] == time and gpus[parent] < gpu):
            break
        times[place] = times[parent]
        gpus[place] = gpus[parent]
        place = parent
    times[place] = time
    gpus[place] = gpu
    return size + 1


@njit
def pop_busy(times, gpus, size):
    """Remove the first entry of a heap of `size` entries; return the new size."""
    size -= 1
    time, gpu = times[size], gpus[size]
    place = 0
    child = 1
    while child < size:
        right = child + 1
        if right < size and (
            times[right] < times[child] or (times[right] == times[child] and gpus[right] < gpus[child])
        ):
            child = right
        if time < times[child] or (time == times[child] and gpu < gpus[child]):
            break
        times[place] = times[child]
        gpus[place] = gpus[child]
        place = child
        child = 2 * place + 1
    times[place] = time
    gpus[place] = gpu
    return size


@njit
def push_idle(gpus, size, gpu):
    """Add `gpu` to a heap of `size` indices; return the new size."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if gpus[parent] < gpu:
            break
        gpus[place] = gpus[parent]
        place = parent
    gpus[place] = gpu
    return size + 1


@njit
def pop_idle(gpus, size):
    """Remove the lowest index from a heap of `size` indices; return the new size."""
    size -= 1
    gpu = gpus[size]
    place = 0
    child = 1
    while child < size:
        right = child + 1
        if right < size and gpus[right] < gpus[child]:
            child = right
        if gpu < gpus[child]:
            break
        gpus[place] = gpus[child]
        place = child
        child = 2 * place + 1
    gpus[place] = gpu
    return size
