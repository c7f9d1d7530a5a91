"""A tree over GPUs in which a router finds the one that suits it best without a look at each."""

# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from mbexp.compiled.decorators import called, inlined
from mbexp.compiled.least_tree import NONE
from mbexp.compiled.variants import variant
from mbexp.simulator.continuous.extended import (
    DYNAMO,
    LLM_D,
    PART,
    SGLANG,
    SPAN_CLASSES,
    class_least,
    class_least_kv,
    route_at,
    routed_at,
)
from mbexp.simulator.continuous.layout import GIVEN_KV, GIVEN_REQUESTS, NOBODY, given_at, queue_set_at


@called
def _note_route(run, gpu_index):
    """Write down the load of a GPU, of which something has changed, as the router of the run counts it.

    Blocks of prompts for Dynamo's, requests for SGLang's, requests that wait for llm-d's, and the KV need beside them.
    """
    if run.num_route_nodes == 0:
        return
    load, kv_tokens = np.int64(0), np.int64(0)
    if run.router == DYNAMO:
        load = routed_at(run, gpu_index).to_compute + routed_at(run, gpu_index).computed
    elif run.router == SGLANG:
        load = given_at(run, GIVEN_REQUESTS, gpu_index).value
    elif run.router == LLM_D:
        load, kv_tokens = queue_set_at(run, gpu_index).waiting, given_at(run, GIVEN_KV, gpu_index).value
    node = run.num_leaves + gpu_index
    leaf = route_at(run, node)
    leaf.least, leaf.most, leaf.least_kv = load, load, kv_tokens
    classes = routed_at(run, gpu_index).classes
    for number in range(SPAN_CLASSES):
        if classes >> number & 1:
            _write_class(run, node, number, load, kv_tokens)
    while node > 1:
        node >>= 1
        here, left, right = route_at(run, node), route_at(run, 2 * node), route_at(run, 2 * node + 1)
        least, most = min(left.least, right.least), max(left.most, right.most)
        kv_tokens = min(left.least_kv, right.least_kv)
        if here.least == least and here.most == most and here.least_kv == kv_tokens:
            return
        here.least, here.most, here.least_kv = least, most, kv_tokens


@inlined
def _write_class(run, node, number, load, kv_tokens):
    """Write the numbers of a leaf for one class of first spans, and those of the nodes above that they change."""
    class_least(run, node, number).value, class_least_kv(run, node, number).value = load, kv_tokens
    while node > 1:
        left, right = node & ~1, node | 1
        node >>= 1
        least = min(class_least(run, left, number).value, class_least(run, right, number).value)
        least_kv = min(class_least_kv(run, left, number).value, class_least_kv(run, right, number).value)
        if class_least(run, node, number).value == least and class_least_kv(run, node, number).value == least_kv:
            return
        class_least(run, node, number).value, class_least_kv(run, node, number).value = least, least_kv


@inlined
def _nothing_noted(run, gpu_index):
    """Do nothing: there is no router."""


@called
def least_and_most(run, first, end):
    """Return the least and the most load of the GPUs from `first` to before `end`."""
    left, right = run.num_leaves + first, run.num_leaves + end
    least, most = np.int64(NONE), np.int64(NOBODY)
    while left < right:
        if left & 1:
            least, most = min(least, route_at(run, left).least), max(most, route_at(run, left).most)
            left += 1
        if right & 1:
            right -= 1
            least, most = min(least, route_at(run, right).least), max(most, route_at(run, right).most)
        left >>= 1
        right >>= 1
    return least, most


@called
def first_and_end(run, node):
    """Return the first GPU below a node, and the one behind the last."""
    first, end = node, node + 1
    while first < run.num_leaves:
        first, end = 2 * first, 2 * end
    return first - run.num_leaves, end - run.num_leaves


note_route = variant(PART, _note_route, _nothing_noted)
