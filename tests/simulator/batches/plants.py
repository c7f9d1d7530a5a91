"""Bugs planted into the loop that runs batches to completion, and the tests that may notice them."""

from __future__ import annotations

from functools import partial

from tests.simulator.plants import Plant

LOOP = "simulator/batches/loop.py"
HEAP = "compiled/busy_heap.py"
ENTRY = "simulator/batches/serve.py"
ADMISSION = "simulator/admission.py"
INDEX_SET = "compiled/index_set.py"
SIZE = "policy/limit.py"
SELECTION = "policy/selection.py"
FILL = "policy/fill.py"

CORNERS_TEST = "tests/simulator/batches/test_agreement.py::test_corners_are_as_worked_out_by_hand"
AGREEMENT = "tests/simulator/batches/test_agreement.py::test_small_cases_agree"

CASES = 1500  # drawn by AGREEMENT where the page is made

# Tests of other kinds, to see which of them notice too.
OTHERS = (
    AGREEMENT,
    "tests/simulator/batches/test_agreement.py::test_long_runs_agree",
    "tests/simulator/batches/test_invariants.py::test_they_hold_of_every_run",
    "tests/simulator/test_golden.py::test_results_are_those_stored",
    "tests/policy/test_policy_rules.py::test_algorithm_1_table",
    "tests/policy/test_policy_rules.py::test_the_originals_memory_rule_keeps_a_tenth_free",
    "tests/policy/test_policy_rules.py::test_algorithm_2_settles_at_the_target",
    "tests/simulator/test_worked_examples.py::test_p1_toy_example",
    "tests/simulator/test_worked_examples.py::test_bins_keep_the_long_request_apart",
    "tests/results/test_metrics.py::test_every_metric_by_hand",
    "tests/results/test_metrics.py::test_underprediction_overflows_memory_and_is_told",
)

plant = partial(Plant, CORNERS_TEST)

PLANTS = (
    plant(
        "the controller's window holds one batch too many",
        SIZE,
        "recent = min(done, length)",
        "recent = min(done, length + 1)",
        "the window holds the last two batches",
    ),
    plant(
        "the controller's window misses its oldest batch",
        SIZE,
        "for gap_s in state[oldest : oldest + recent]",
        "for gap_s in state[oldest + (recent > 1) : oldest + recent]",
        "the window holds the last two batches",
    ),
    plant(
        "the controller updates one completion early",
        SIZE,
        "if done % int(",
        "if (done + 1) % int(",
        "the controller moves at every second completion",
    ),
    plant(
        "the controller's high bound uses the new low bound, not the old",
        SIZE,
        "max(size_mean, low + alpha)",
        "max(size_mean, max(low - delta, size_min) + alpha)",
        "both bounds move from the values before",
    ),
    plant(
        "the controller's band is closed at its upper end",
        SIZE,
        "if gap_mean_s > target_s + tolerance_s",
        "if gap_mean_s >= target_s + tolerance_s",
        "a mean on the edge of the band is inside",
    ),
    plant(
        "Algorithm 1 divides the sum of squares by n - 1",
        SIZE,
        "state[SUM_SQUARES] / state[REQUESTS] - mean",
        "state[SUM_SQUARES] / max(state[REQUESTS] - 1, 1) - mean",
        "b_mem is cut, and its variance is that of the members",
    ),
    plant(
        "Algorithm 1 rounds b_mem instead of cutting it",
        SIZE,
        "math.floor(root * root)",
        "round(root * root)",
        "b_mem is cut, and its variance is that of the members",
    ),
    plant(
        "the statistics of a completed batch are those of the batch that GPU 0 started last",
        LOOP,
        "gpus.tokens[np.uint64(gpu)] = float",
        "gpus.tokens[0] = float",
        "each queue learns from its own batches",
    ),
    plant(
        "all queues share the statistics and the controller of queue 0",
        LOOP,
        "interval, bounds, state[queue], limit_parameters)",
        "interval, bounds, state[0], limit_parameters)",
        "each queue learns from its own batches",
    ),
    plant(
        "a limit that shrinks does not make a queue ready",
        LOOP,
        "if limit[queue] != before and",
        "if limit[queue] > before and",
        "a limit that shrinks makes a queue ready",
    ),
    plant(
        "completions of one instant come in the order of their start",
        HEAP,
        "times[parent] == time and gpus[parent] < gpu",
        "times[parent] == time",
        "completions of one instant teach in the order of the GPUs",
    ),
    plant(
        "the idle GPU of highest index comes first",
        INDEX_SET,
        "+ 1 + _PLACE[np.uint64((((word & -word) * _DE_BRUIJN) & 0xFFFFFFFF) >> 27)]",
        "+ int(word).bit_length()",
        "the idle GPU of lowest index comes first",
    ),
    plant(
        "a batch may not fill the memory to the last token",
        LOOP,
        "if total > capacity:",
        "if total >= capacity:",
        "a batch may fill the memory to the last token",
    ),
    plant(
        "a request that fills the memory alone is rejected",
        ADMISSION,
        "predicted_tokens[chunk] > kv_capacity_tokens",
        "predicted_tokens[chunk] >= kv_capacity_tokens",
        "a request may fill the memory alone",
    ),
    plant(
        "batches are packed by true lengths, which no scheduler knows",
        ENTRY,
        "exact = predicted_tokens is output_tokens",
        "exact = True",
        "batches are packed by predictions",
    ),
    plant(
        "the longest sum of a batch is taken as longest prompt + longest output",
        LOOP,
        "longest_total = max(longest_total, total)",
        "longest_total = np.int32(longest_prompt + longest_output)",
        "the longest sum is that of one member",
    ),
    plant(
        "noise does not reach the time between tokens",
        LOOP,
        "first_token_s * factor, step_s * factor",
        "first_token_s * factor, step_s",
        "noise multiplies all three times",
    ),
    plant(
        "nobody wakes for a timeout",
        LOOP,
        "timer_s = min(timer_s, formed_s)",
        "timer_s = min(timer_s, np.inf)",
        "a timeout lets a partial batch leave",
    ),
    plant(
        "a batch counts as formed when its newest request arrived, not the one that filled it",
        LOOP,
        "np.uint64(first + limit - 1)",
        "np.uint64(first + waiting - 1)",
        "a batch is formed when the request arrives that fills it",
    ),
    plant(
        "the end of the trace flushes one instant late",
        LOOP,
        "flush_now = joined == n and flush_s",
        "flush_now = joined == n and end_s < now_s and flush_s",
        "the last arrival flushes partial batches at once",
    ),
    plant(
        "the flush leaves out queues that are ready",
        LOOP,
        "(flush_now or not is_ready[queue])",
        "not is_ready[queue]",
        "the flush also reaches a queue that a new limit makes ready",
    ),
    plant(
        "round robin serves the same queue again",
        SELECTION,
        "memory[0] = chosen + 1",
        "memory[0] = chosen",
        "round robin takes turns",
    ),
    plant(
        "ties of the longest queue go to the longer lengths",
        SELECTION,
        "if queues.waiting[queues.ready[place]] > queues.waiting[chosen]:",
        "if queues.waiting[queues.ready[place]] >= queues.waiting[chosen]:",
        "equally long queues: the shorter lengths first",
    ),
    plant(
        "ties of the first formed batch go to the newer head",
        SELECTION,
        "tied and queues.head_index[queue] < queues.head_index[chosen]",
        "tied and queues.head_index[queue] > queues.head_index[chosen]",
        "batches formed at once: the older head first",
    ),
    plant(
        "ties of the oldest head go to the shorter lengths instead of the trace's order",
        SELECTION,
        "if queues.head_index[queues.ready[place]] < queues.head_index[chosen]:",
        "if queues.head_arrival_s[queues.ready[place]] < queues.head_arrival_s[chosen]:",
        "heads that arrive at once: the order of the trace",
    ),
    plant(
        "a timeout counts from the arrival that fills the batch",
        FILL,
        "return min(queue.filling_arrival_s, queue.head_arrival_s + parameters[0])",
        "return queue.filling_arrival_s + parameters[0]",
        "a full batch does not wait for its timeout",
    ),
)
