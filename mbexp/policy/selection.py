"""Bin selection: which of the ready queues sends the next batch, or gives the next request to a GPU."""

from __future__ import annotations

from mbexp.policy.slots import bin_selection


@bin_selection
def round_robin(now_s, queues, memory, parameters):
    """Take the queues in turn; `memory[0]` is where the next turn starts."""
    chosen = queues.ready[0]
    for place in range(queues.ready_count):
        if queues.ready[place] >= memory[0]:
            chosen = queues.ready[place]
            break
    memory[0] = chosen + 1
    return chosen


@bin_selection
def longest_queue(now_s, queues, memory, parameters):
    """Take the queue with most waiting requests; ties go to the shorter lengths."""
    chosen = queues.ready[0]
    for place in range(1, queues.ready_count):
        if queues.waiting[queues.ready[place]] > queues.waiting[chosen]:
            chosen = queues.ready[place]
    return chosen


@bin_selection
def oldest_head(now_s, queues, memory, parameters):
    """Take the queue whose head arrived first."""
    chosen = queues.ready[0]
    for place in range(1, queues.ready_count):
        if queues.head_index[queues.ready[place]] < queues.head_index[chosen]:
            chosen = queues.ready[place]
    return chosen


@bin_selection
def first_formed(now_s, queues, memory, parameters):
    """Take the batch that was formed first (P1, section III); ties go to the older head."""
    chosen = queues.ready[0]
    for place in range(1, queues.ready_count):
        queue = queues.ready[place]
        earlier = queues.formed_s[queue] < queues.formed_s[chosen]
        tied = queues.formed_s[queue] == queues.formed_s[chosen]
        if earlier or (tied and queues.head_index[queue] < queues.head_index[chosen]):
            chosen = queue
    return chosen


@bin_selection
def shortest_bin(now_s, queues, memory, parameters):
    """Take the queue of the shortest lengths."""
    return queues.ready[0]
