"""Bin selection: which of the ready queues sends the next batch."""

from __future__ import annotations

from mbexp.policy.signatures import bin_selection


@bin_selection
def round_robin(now_s, ready, ready_count, waiting, limit, head_arrival_s, head_index, formed_s, memory):
    """Take the queues in turn; `memory[0]` is where the next turn starts."""
    chosen = ready[0]
    for place in range(ready_count):
        if ready[place] >= memory[0]:
            chosen = ready[place]
            break
    memory[0] = chosen + 1
    return chosen


@bin_selection
def longest_queue(now_s, ready, ready_count, waiting, limit, head_arrival_s, head_index, formed_s, memory):
    """Take the queue with most waiting requests; ties go to the shorter lengths."""
    chosen = ready[0]
    for place in range(1, ready_count):
        if waiting[ready[place]] > waiting[chosen]:
            chosen = ready[place]
    return chosen


@bin_selection
def oldest_head(now_s, ready, ready_count, waiting, limit, head_arrival_s, head_index, formed_s, memory):
    """Take the queue whose head arrived first."""
    chosen = ready[0]
    for place in range(1, ready_count):
        if head_index[ready[place]] < head_index[chosen]:
            chosen = ready[place]
    return chosen


@bin_selection
def first_formed(now_s, ready, ready_count, waiting, limit, head_arrival_s, head_index, formed_s, memory):
    """Take the batch that was formed first (P1, section III); ties go to the older head."""
    chosen = ready[0]
    for place in range(1, ready_count):
        queue = ready[place]
        earlier = formed_s[queue] < formed_s[chosen]
        tied = formed_s[queue] == formed_s[chosen]
        if earlier or (tied and head_index[queue] < head_index[chosen]):
            chosen = queue
    return chosen


@bin_selection
def shortest_bin(now_s, ready, ready_count, waiting, limit, head_arrival_s, head_index, formed_s, memory):
    """Take the queue of the shortest lengths."""
    return ready[0]
