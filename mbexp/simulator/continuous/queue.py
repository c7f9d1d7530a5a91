"""Queues of the continuous event loop: linked lists of requests, one a bin, and which of them are not empty."""

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import inlined
from mbexp.policy.views import Queues
from mbexp.simulator.continuous.access import called, head_time, queue_cell, request_at, set_at
from mbexp.simulator.continuous.layout import HEAD, LIMIT, NOBODY, READY, TAIL, WAITING


@called
def push(run, group, request, in_front):
    """Put a request at the front or the end of the queue of its bin in set `group`."""
    item = request_at(run, request)
    queue = np.int64(item.bin)
    item.next = NOBODY
    waiting = queue_cell(run, group, WAITING, queue)
    head = queue_cell(run, group, HEAD, queue)
    tail = queue_cell(run, group, TAIL, queue)
    empty = waiting.value == 0
    if empty:
        place = set_at(run, group).ready_count
        while place > 0 and queue_cell(run, group, READY, place - 1).value > queue:
            queue_cell(run, group, READY, place).value = queue_cell(run, group, READY, place - 1).value
            place -= 1
        queue_cell(run, group, READY, place).value = queue
        set_at(run, group).ready_count += 1
    elif in_front:
        item.next = head.value
    else:
        request_at(run, tail.value).next = request
    if empty or in_front:
        head.value = request
        head_time(run, group, queue).value = item.arrival_s
    if empty or not in_front:
        tail.value = request
    waiting.value += 1
    set_at(run, group).waiting += 1
    run.waiting += 1
    run.waiting_max = max(run.waiting_max, run.waiting)


@inlined
def pop_head(run, group, queue):
    """Take the head off a queue."""
    head = queue_cell(run, group, HEAD, queue)
    follower = np.int64(request_at(run, head.value).next)
    head.value = follower
    queue_cell(run, group, WAITING, queue).value -= 1
    set_at(run, group).waiting -= 1
    run.waiting -= 1
    if follower != NOBODY:
        head_time(run, group, queue).value = request_at(run, follower).arrival_s
        return
    head_time(run, group, queue).value = np.inf
    place = 0
    while queue_cell(run, group, READY, place).value != queue:
        place += 1
    set_at(run, group).ready_count -= 1
    for after in range(place, set_at(run, group).ready_count):
        queue_cell(run, group, READY, after).value = queue_cell(run, group, READY, after + 1).value


@called
def named_queue(run, queues, heads_s, memory, group, now_s, select, select_parameters, keep):
    """Return the queue that the selection rule names, NOBODY where it names one that is empty.

    With `keep` false the rule's memory is left as it was; with it true, `restore_memory` can still undo the call.
    """
    saved = memory[len(memory) - 1]
    row = memory[group]
    for place in range(len(saved)):
        saved[place] = row[place]
    view = Queues(
        queues[group, READY], set_at(run, group).ready_count, queues[group, WAITING], queues[group, LIMIT],
        heads_s[group], queues[group, HEAD], heads_s[group],
    )  # fmt: skip
    queue = select(now_s, view, row, select_parameters)
    if not keep:
        restore_memory(memory, group)
    if queue < 0 or queue >= run.num_bins or queue_cell(run, group, WAITING, queue).value == 0:
        return NOBODY
    return queue


@called
def restore_memory(memory, group):
    """Undo what the last call of the selection rule left in its memory."""
    saved = memory[len(memory) - 1]
    row = memory[group]
    for place in range(len(saved)):
        row[place] = saved[place]
