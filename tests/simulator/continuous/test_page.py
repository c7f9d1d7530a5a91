"""Statements of docs/semantics that no other test isolates, each as one small run worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mbexp import simulate
from mbexp.errors import UserError
from mbexp.hardware.iteration import ClosedForm
from tests.simulator.continuous.agreement import Case, difference, run_closed_form

SECOND = ClosedForm(1.0, *[0.0] * 7)  # every iteration takes 1 s
QUICK = ClosedForm(2.0**-10, *[0.0] * 7)
CONTINUOUS = {"execution": "continuous", "gpu": "linear_p2", "bins": "none", "scheduler": "static_fifo"}
CAP_1 = {"batch_size": "fixed", "fixed_batch_size": 1}


def outcome(*requests, price=SECOND, **case):
    """Run requests (gap, prompt, output, prediction, bin), once both simulators agree on them."""
    made = Case(list(requests), price, **case)
    assert difference(made) is None
    return run_closed_form(made)


def test_shares_by_load_leave_out_rejected_requests():
    """Of bin 1, one request of 10 tokens is served and one of 1000 is rejected: two GPUs are left to bin 0."""
    records = outcome(
        (0, 1, 30, 30, 0), (0, 1, 10, 10, 1), (0, 1, 1000, 1000, 1),
        bins=2, gpus=4, memory=100, rules={"gpu_serves": "load_share"},
    )  # fmt: skip
    assert records.gpus["bin"].tolist() == [0, 0, 0, 1]  # with 1010 tokens in bin 1 it were one and three


def test_an_outgrown_prediction_counts_again_after_each_admission():
    """Both outgrow 2 tokens; at 4 tokens each memory is full, the younger goes, and outgrows again once it is back."""
    records = outcome((0, 1, 10, 2, 0), (0, 1, 10, 2, 0), memory=11)
    assert records.preemptions.tolist() == [0, 1]
    assert records.outgrown == 2 + 1


def test_copies_of_an_end_delay_the_next_start():
    """Five tokens are copied out at the end at 2 s and in at the start there: 10 copies of 0.25 s."""
    swap = {"preemption": "swap", "swap_token_s": 0.25, "underprediction": "preempt"}
    records = outcome((0, 3, 4, 2, 0), rules=swap)
    assert int(records.gpus["copied_tokens"].sum()) == 10
    assert records.finish_s.tolist() == [4 + 10 * 0.25]


def test_copies_of_a_gpu_that_goes_empty_take_no_time_and_are_not_counted():
    """Request 1 is put back by GPU 1 and taken by GPU 0, which copies 5 tokens in; its GPU is the last one.

    The copies out of GPU 1 do not delay the request that GPU 1 takes at 20 s either.
    """
    swap = {"preemption": "swap", "swap_token_s": 0.25, "underprediction": "preempt"}
    requests = [(0, 3, 1, 1, 0), (0, 3, 4, 2, 0), (20, 3, 1, 1, 0), (0, 3, 1, 1, 0)]
    records = outcome(*requests, gpus=2, scheduler=CAP_1, rules=swap)
    assert records.gpus["copied_tokens"].tolist() == [5, 0]
    assert records.finish_s.tolist() == [1, 4 + 5 * 0.25, 21, 21]
    assert records.gpu.tolist() == [0, 0, 0, 1]
    assert records.gpus["decoded_tokens"].tolist() == [2, 1]


@pytest.mark.parametrize(
    ("third", "rules", "renewed"),
    [
        ((0.0, 80, 1, 1, 0), {"gpu_serves": "one_bin"}, True),  # waits in the bin that the GPU takes
        ((0.0, 80, 1, 1, 1), {"gpu_serves": "one_bin"}, False),  # waits in the other
        ((0.0, 80, 1, 1, 1), {"gpu_serves": "any_bin"}, True),
        ((0.0, 60, 1, 1, 0), {"prefill": "chunked", "token_budget": 8}, True),  # in prefill
        ((90.0, 80, 1, 1, 0), {}, False),  # comes later
    ],
)
def test_algorithm_1_needs_a_request_that_the_gpu_could_take(third, rules, renewed):
    """After one request of 50 tokens, of which memory holds 2, another decodes; b_SLA is 4."""
    records = outcome(
        (0, 49, 1, 1, 0), (0, 10, 15, 15, 0), third,
        price=QUICK, bins=2, memory=100, rules=rules,
        scheduler={"batch_size": "dynamic", "batch_size_max": 8, "selection": "shortest_bin"},
        controller={"alpha_requests": 1.0, "tolerance_ms": 0.4},
    )  # fmt: skip
    assert int(records.segments["limit"].min()) == (2 if renewed else 4)


def test_algorithm_2_leaves_out_the_tokens_of_a_recompute():
    """The token after a recompute comes 14 s late, far above the target; only steps of 1 s are in the pairs."""
    requests = [(0, 1, 16, 16, 0), (0, 17, 16, 16, 0)]
    case = {
        "memory": 34, "rules": {"kv": "paged", "block_tokens": 1}, "interval_steps": 1, "token_ms": 2000.0,
        "scheduler": {"batch_size": "dynamic", "batch_size_max": 8},
        "controller": {"alpha_requests": 1.0, "window_batches": 1},
    }  # fmt: skip
    records = outcome(*requests, **case)
    assert records.preemptions.tolist() == [0, 1]
    assert records.gaps.max_s > 2.0
    # Every pair is below the target, so the upper end stays at B_max: floor((1 + 8) / 2), or (2 + 8) / 2 with two.
    assert set(records.segments["limit"].tolist()) <= {4, 5}


def test_a_bin_s_longest_prediction_also_rejects(make_trace):
    """50 + 5 tokens fit into 100, but 60 tokens are predicted for another request of the queue."""
    keys = {**CONTINUOUS, "num_gpus": 1, "gpu.kv_capacity_tokens": 100}
    trace = make_trace([0.0, 0.0], [5, 60], [50, 10])
    assert simulate(trace, **keys).summary["rejected_requests"] == 0
    reserved = simulate(trace, **keys, **{"execution.reserve_for": "longest_of_bin"})
    assert reserved.summary["rejected_predicted_need_exceeds_memory"] == 1
    assert reserved.outcome.accepted.tolist() == [1]


@pytest.mark.parametrize(("assignment", "first"), [("central", [0, 2]), ("round_robin", [0, 1])])
def test_round_robin_over_bins_has_one_memory_for_each_set_of_queues(assignment, first):
    """Requests 0 and 1 are of bin 0, 2 and 3 of bin 1: central queues are taken in turn by both GPUs together."""
    requests = [(0, 1, 1, 1, 0), (0, 1, 1, 1, 0), (0, 1, 1, 1, 1), (0, 1, 1, 1, 1)]
    records = outcome(*requests, bins=2, gpus=2, scheduler=CAP_1, assignment=assignment)
    assert np.flatnonzero(records.start_s == 0).tolist() == first


def test_power_of_two_draws_from_a_stream_of_its_own_with_a_row_for_every_request(make_trace):
    """Far apart, requests find all GPUs empty and go to the first drawn; the request at place 0 is rejected."""
    trace = make_trace([1000.0 * place for place in range(40)], [500] + [5] * 39)
    keys = {"num_gpus": 7, "seed": 3, "gpu.kv_capacity_tokens": 100, "execution.assignment": "power_of_two"}
    records = simulate(trace, **CONTINUOUS, **keys).outcome
    draws = np.random.default_rng(np.random.SeedSequence([3, 4])).random((40, 2))
    assert records.accepted.tolist() == list(range(1, 40))
    assert records.gpu.tolist() == np.floor(7 * draws[1:, 0]).astype(int).tolist()


def test_a_token_budget_is_at_least_the_largest_limit(make_trace):
    keys = {**CONTINUOUS, "execution.prefill": "chunked", "scheduler.fixed_batch_size": 8}
    trace = make_trace([0.0], [5])
    assert simulate(trace, **keys, **{"execution.token_budget": 8}).summary["completed_requests"] == 1
    with pytest.raises(UserError, match=r"execution\.token_budget=7: must be at least the 8"):
        simulate(trace, **keys, **{"execution.token_budget": 7})


def test_the_log_holds_so_many_segments_for_each_request(make_trace):
    """Updates of the limit after every step make a segment of each: more than 8 n + 1000."""
    keys = {**CONTINUOUS, "scheduler": "dynamic_no_bins", "execution.interval_steps": 1, "num_gpus": 1}
    records = simulate(make_trace([0.0], [2000]), **keys).outcome
    assert records.num_segments == 2000
    assert len(records.segments) == 8 * 1 + 1000
