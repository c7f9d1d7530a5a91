"""Queues of the continuous event loop: each a linked list of requests, one a bin in every set of queues.

There is one set of queues where they are central, and one a GPU where requests are assigned.
"""

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called, inlined
from mbexp.policy.views import Queues
from mbexp.simulator.continuous.layout import (
    HEAD,
    LIMIT,
    NOBODY,
    READY,
    SHARE,
    TAIL,
    WAITING,
    head_s,
    queue_at,
    queue_set_at,
    request_at,
)
from mbexp.simulator.continuous.order import head_taken, join
from mbexp.simulator.continuous.route_tree import note_route


@called
def push(run, queue_set, request, in_front, order, now_s):
    """Put a request at the tail of the queue of its bin, or at its head (`in_front`); under an order, by its key."""
    item = request_at(run, request)
    queue = np.int64(item.bin)
    item.next = NOBODY
    waiting = queue_at(run, queue_set, WAITING, queue)
    head = queue_at(run, queue_set, HEAD, queue)
    tail = queue_at(run, queue_set, TAIL, queue)
    empty = waiting.value == 0
    if empty:
        # The queues that are not empty stand in ascending order, for the selection rule.
        place = queue_set_at(run, queue_set).ready_count
        while place > 0 and queue_at(run, queue_set, READY, place - 1).value > queue:
            queue_at(run, queue_set, READY, place).value = queue_at(run, queue_set, READY, place - 1).value
            place -= 1
        queue_at(run, queue_set, READY, place).value = queue
        queue_set_at(run, queue_set).ready_count += 1
    if order is not None:
        join(run, order, queue_set, queue, request, now_s)
    else:
        if not empty:
            if in_front:
                item.next = head.value
            else:
                request_at(run, tail.value).next = request
        if empty or in_front:
            head.value = request
            head_s(run, queue_set, queue).value = item.arrival_s
        if empty or not in_front:
            tail.value = request
    waiting.value += 1
    queue_set_at(run, queue_set).waiting += 1
    run.waiting += 1
    run.waiting_max = max(run.waiting_max, run.waiting)
    note_route(run, queue_set)


@inlined
def pop_head(run, queue_set, queue, order):
    """Take the head off a queue."""
    head = queue_at(run, queue_set, HEAD, queue)
    follower = np.int64(request_at(run, head.value).next) if order is None else head_taken(run, order, head.value)
    head.value = follower
    queue_at(run, queue_set, WAITING, queue).value -= 1
    queue_set_at(run, queue_set).waiting -= 1
    run.waiting -= 1
    note_route(run, queue_set)
    if follower != NOBODY:
        head_s(run, queue_set, queue).value = request_at(run, follower).arrival_s
        return
    head_s(run, queue_set, queue).value = np.inf
    place = 0
    while queue_at(run, queue_set, READY, place).value != queue:
        place += 1
    queue_set_at(run, queue_set).ready_count -= 1
    for after in range(place, queue_set_at(run, queue_set).ready_count):
        queue_at(run, queue_set, READY, after).value = queue_at(run, queue_set, READY, after + 1).value


@called
def named_queue(run, queues, heads_s, memory, queue_set, now_s, select, select_parameters, keep):
    """Return the queue that the selection rule names, NOBODY where it names one that is empty.

    With `keep` false the rule's memory is left as it was; with it true, `restore_memory` can still undo the call.
    """
    saved = memory[len(memory) - 1]
    row = memory[queue_set]
    for number in range(len(saved)):
        saved[number] = row[number]
    view = Queues(
        queues[queue_set, READY], queue_set_at(run, queue_set).ready_count, queues[queue_set, WAITING],
        queues[queue_set, LIMIT], heads_s[queue_set], queues[queue_set, HEAD], heads_s[queue_set],
    )  # fmt: skip
    queue = select(now_s, view, row, select_parameters)
    if not keep:
        restore_memory(memory, queue_set)
    if queue < 0 or queue >= run.num_bins or queue_at(run, queue_set, WAITING, queue).value == 0:
        return NOBODY
    return queue


@called
def restore_memory(memory, queue_set):
    """Undo what the last call of the selection rule left in its memory, for its choice was not admitted."""
    saved = memory[len(memory) - 1]
    row = memory[queue_set]
    for number in range(len(saved)):
        row[number] = saved[number]


@inlined
def may_take_own(run, gpu, queue_set):
    """Return whether a GPU that is bound to a bin may take from it: someone waits there, and its turn is not over."""
    waiting = queue_at(run, queue_set, WAITING, gpu.bin).value
    over = gpu.turn >= run.turn_requests and queue_set_at(run, queue_set).waiting > waiting
    return waiting > 0 and (run.serves == SHARE or not over)
