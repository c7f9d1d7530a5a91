"""Bugs planted into the loop of continuous batching, and the tests that may notice them."""

from __future__ import annotations

from functools import partial

from tests.simulator.plants import Plant

EVENTS = "simulator/continuous/events.py"
END = "simulator/continuous/end.py"
START = "simulator/continuous/start.py"
FIRST_TREE = "compiled/first_tree.py"
HEAP = "compiled/heap.py"
LOOP = "simulator/continuous/loop.py"
MEMORY = "simulator/continuous/memory.py"
PLAN = "simulator/continuous/plan.py"
QUEUE = "simulator/continuous/queue.py"
REQUESTS = "simulator/continuous/requests.py"
SEARCH = "simulator/continuous/search.py"
SEGMENT = "simulator/continuous/segment.py"
SERVE = "simulator/continuous/serve.py"
SETUP = "simulator/continuous/setup.py"
TOKENS = "simulator/continuous/tokens.py"
ASSIGNMENT = "policy/assignment.py"

CORNERS_TEST = "tests/simulator/continuous/test_agreement.py::test_corners_are_as_worked_out_by_hand"
AGREEMENT = "tests/simulator/continuous/test_agreement.py::test_every_mode_to_the_last_bit_of_its_ties"

CASES = 300  # drawn by AGREEMENT where the page is made

OTHERS = (AGREEMENT,)

plant = partial(Plant, CORNERS_TEST)

PLANTS = (
    plant(
        "of GPUs whose boundaries coincide the search takes the highest",
        SEARCH,
        "if at_s < best_s or",
        "if at_s <= best_s or",
        "of GPUs that come to a boundary at once the lowest admits",
    ),
    plant(
        "a GPU bound to a bin must have room for the head that the rule names",
        SEARCH,
        "if gpu.taken_bin == NOBODY:\n        return need",
        "if gpu.taken_bin == NOBODY or need > gpu.room:\n        return need",
        "a GPU that serves one bin looks at the head of that bin",
    ),
    plant(
        "the search takes the emptiest GPU, whenever its iteration ends",
        SEARCH,
        "if at_s < best_s or (at_s == best_s and gpu.running < fewest)",
        "if best == NOBODY or gpu.running < fewest",
        "of many GPUs the one whose iteration ends first admits",
    ),
    plant(
        "GPUs at a boundary start from the highest",
        EVENTS,
        "running, standing_at(run, 0).gpu)",
        "running + 1 - standing_at(run, 0).gpu, standing_at(run, 0).gpu)",
        "the lowest of the GPUs that stand at a boundary starts",
    ),
    plant(
        "a GPU takes all that waits before the next one does",
        LOOP,
        "gpu_index, first, most = standing_at(run, 0).gpu, False, 1",
        "gpu_index, first, most = standing_at(run, 0).gpu, False, ENDLESS",
        "requests that wait go to the emptiest GPU, one by one",
    ),
    plant(
        "of GPUs whose boundaries coincide the fullest admits",
        SEARCH,
        "gpu.running < fewest",
        "gpu.running > fewest",
        "of GPUs that come to a boundary at once the emptiest admits",
    ),
    plant(
        "of iterations that end at once, that of the GPU of higher index ends first",
        FIRST_TREE,
        "right[key] < left[key]",
        "right[key] <= left[key]",
        "iterations that end at once end in the order of the GPUs",
    ),
    plant(
        "an arrival at a boundary waits for the next one",
        SEGMENT,
        "at_s == time_s and not strictly",
        "False",
        "an arrival at a boundary is admitted there",
    ),
    plant(
        "the next boundary is found as if steps did not grow",
        SEGMENT,
        " < 0.99 * step_s",
        "",
        "an arrival is admitted at the next boundary of steps that grow",
    ),
    plant(
        "the gap of a stalled request leaves out the pause of copies",
        SEGMENT,
        ".age_s + pause_s +",
        ".age_s +",
        "copies delay the iteration, and gaps hold them",
    ),
    plant(
        "a prefill does not lengthen the gap of those that stall",
        SEGMENT,
        ".age_s += seconds + pause_s",
        ".age_s += pause_s",
        "an arrival at a boundary is admitted there",
    ),
    plant(
        "a request of a GPU's own queue that would fill its memory is not tried at a boundary",
        SEARCH,
        "return need <= gpu.room",
        "return need < gpu.room",
        "a request of a GPU's own queue may fill its memory",
    ),
    plant(
        "one prefill may not hold the most tokens to the last",
        START,
        "tokens + length - skipped <= run",
        "tokens + length - skipped < run",
        "one prefill may hold the most tokens to the last",
    ),
    plant(
        "from one chunk to the next the square grows half as much",
        PLAN,
        "2.0 * float(left) * left",
        "float(left) * left",
        "a chunk costs its square beside what was computed before",
    ),
    plant(
        "requests that decode take nothing of the token budget",
        PLAN,
        "left = prompt_budget(run, gpu)",
        "left = run.token_budget",
        "requests that decode use up the budget of a step",
    ),
    plant(
        "the first token is not held during the prefill that emits it",
        START,
        "need = held_by(run, item, item.emitted + 1)",
        "need = held_by(run, item, item.emitted)",
        "the token that a prefill will emit is held from admission on",
    ),
    plant(
        "a part of a block counts as one",
        SETUP,
        "return capacity_tokens // self.block_tokens",
        "return -(-capacity_tokens // self.block_tokens)",
        "a part of a block is no block",
    ),
    plant(
        "a request takes a block one token late",
        MEMORY,
        "(item.prompt + item.emitted + run.ahead_tokens",
        "(item.prompt + run.ahead_tokens",
        "the youngest is preempted where the next token needs a block",
    ),
    plant(
        "the request that leaves first is preempted, not the youngest",
        REQUESTS,
        "    has_cache = item.stage != IN_PREFILL\n    if has_cache:\n        drop_leave",
        "    request = np.int64(leave_at(run, gpu.index, 0).request) if gpu.leaving > 0 else request\n"
        "    item = request_at(run, request)\n"
        "    has_cache = item.stage != IN_PREFILL\n    if has_cache:\n        drop_leave",
        "the youngest is preempted where the next token needs a block",
    ),
    plant(
        "the blocks of a cycle that is not whole are not looked at",
        MEMORY,
        "(most // block + 1)",
        "(most // block)",
        "blocks end a segment shorter than a block",
    ),
    plant(
        "outputs that outgrew their predictions do not end a segment",
        MEMORY,
        "min(most, free // gpu.outgrown)",
        "most",
        "outputs that outgrew their predictions end a segment",
    ),
    plant(
        "the tokens that a preempted request emitted are not copied out",
        REQUESTS,
        "gpu.copy_tokens += item.prompt + item.emitted",
        "gpu.copy_tokens += item.prompt",
        "copies delay the iteration, and gaps hold them",
    ),
    plant(
        "the gap of a swapped request leaves out the time that it was away",
        START,
        "now_s - item.last_token_s, order)\n            more",
        "0.0, order)\n            more",
        "copies delay the iteration, and gaps hold them",
    ),
    plant(
        "requeue and preempt are taken for each other",
        REQUESTS,
        "run.underprediction == PREEMPT",
        "run.underprediction != PREEMPT",
        "requeue puts back at the tail",
    ),
    plant(
        "an outgrown prediction grows by one token",
        REQUESTS,
        "2 * item.predicted",
        "1 + item.predicted",
        "an outgrown prediction doubles",
    ),
    plant(
        "requests that leave at once are put back from the last of the trace",
        HEAP,
        "key_value and above[item] < item_value",
        "key_value and above[item] > item_value",
        "decoding requests are put back in the order of the trace",
    ),
    plant(
        "the selection rule remembers a choice that did not fit",
        START,
        "if not bound and run.num_bins > 1:",
        "if bound and run.num_bins > 1:",
        "a head that does not fit leaves the turn with its bin",
    ),
    plant(
        "the selection rule remembers what a search asked it",
        QUEUE,
        "if not keep:",
        "if False:",
        "an arrival that is not admitted takes nobody's turn",
    ),
    plant(
        "a bin has its turn for one request too many",
        QUEUE,
        "gpu.turn >= run.turn_requests",
        "gpu.turn > run.turn_requests",
        "a bin has its turn until turn_requests were admitted",
    ),
    plant(
        "a queue stays as old as the head that left it",
        QUEUE,
        "head_s(run, queue_set, queue).value = request_at(run, follower).arrival_s",
        "pass",
        "a queue is as old as its present head",
    ),
    plant(
        "the smallest remainders of the load get the GPUs that are left",
        SETUP,
        "np.argsort(count - exact",
        "np.argsort(exact - count",
        "GPUs are shared by the largest remainders of the load",
    ),
    plant(
        "the second GPU drawn may be the first",
        ASSIGNMENT,
        "if other >= one:",
        "if other > one:",
        "the second GPU drawn is another than the first",
    ),
    plant(
        "accepted requests take the draws in turn, whoever was rejected",
        SERVE,
        "else draws[accepted]",
        "else draws[: len(accepted)]",
        "a rejected request keeps its draws",
    ),
    plant(
        "the end of an interval does not end a segment",
        PLAN,
        "min(steps, gpu.next_update - gpu.step)",
        "steps",
        "the end of an interval raises the limit",
    ),
    plant(
        "requests in prefill do not count as waiting when the limit is worked out",
        START,
        "waiting + gpu.prefilling",
        "waiting",
        "a request in prefill lets the limit learn",
    ),
    plant(
        "of gaps that grow, one equal to the token SLA counts as above it",
        TOKENS,
        "growth_s * cross > limit_s",
        "growth_s * cross >= limit_s",
        "a gap equal to the token SLA is not above it",
    ),
    plant(
        "gaps that grow fill every other bin",
        TOKENS,
        "_edge_s(gap_bin + 1)",
        "_edge_s(gap_bin + 2)",
        "gaps that grow fill one bin after the other",
    ),
)
