"""What the event loop of continuous batching works on: constants, records, and one table of all arrays.

A field of a request or of a GPU is a line in its record; a number of its own for each of them is a row of the table.
Both are then there in compiled code, in the state and in the outcome.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import from_dtype, types

from mbexp.compiled.first_tree import first_tree
from mbexp.compiled.least_tree import NONE, least_tree
from mbexp.compiled.records import CACHE_LINE, Record, Table, blank

# Where a request is on its way: it waits, for its context to be computed or copied in, or runs.
TO_COMPUTE, TO_COPY, IN_PREFILL, DECODING = 0, 1, 2, 3
# What happens to a request whose output outgrows its prediction.
EXTEND, PREEMPT, REQUEUE = 0, 1, 2
# What a request in prefill holds, or needs for its admission: its context; or its chunks, admitted by context or chunk.
HELD, TESTED, FIRST_CHUNK = 0, 1, 2
# What an admission keeps free for outputs to come: nothing; all that is predicted; a share of it that adapts.
NO_OUTPUT, FULL_OUTPUT, OUTPUT_RATIO = 0, 1, 2
# What a GPU serves.
ANY_BIN, ONE_BIN, SHARE = 0, 1, 2
# What the iterations of a segment are: decode steps; one prefill of whole prompts; decode steps with equal chunks of
# one prompt; one decode step with chunks of which some end a prompt.
EMPTY, DECODE, PREFILL, CHUNK, LAST_CHUNK = 0, 1, 2, 3, 4

NOBODY = -1

FINISHED, BAD_SELECTION, BAD_LIMIT, BAD_TIME, BAD_ASSIGNMENT = 0, 1, 2, 3, 4

# Rows of `queues`; a selection rule reads all but TAIL.
READY, WAITING, HEAD, TAIL, LIMIT = 0, 1, 2, 3, 4
QUEUE_ROWS = 5

# Rows of `given`.
GIVEN_REQUESTS, GIVEN_KV = 0, 1

LONG_PAST_S = -1e18  # a boundary of a GPU that stands at one at any time, for it is empty
FETCHED_GPUS = 256  # from so many on, the records of those that come next are fetched ahead
NO_BUCKET = -(2**62)  # of a GPU that stands in no bucket of time
CALENDAR_GPUS = 32  # from so many on, those with central queues stand in a calendar; fewer are searched one by one
NOT_READY = -1  # in place of its running requests: a GPU at a boundary that is not ready to admit yet

# The histogram of gaps between tokens.
PER_OCTAVE = 512  # equal bins in each octave of the histogram
LOWEST_OCTAVE, HIGHEST_OCTAVE = -20, 21  # 1 microsecond to 24 days; what lies outside counts in the outermost bins
NUM_BINS = (HIGHEST_OCTAVE - LOWEST_OCTAVE) * PER_OCTAVE

SAMPLES = 4096

f8, i8, i4, u2, i1, b1 = np.float64, np.int64, np.int32, np.uint16, np.int8, np.bool_

# A request on its way; what is kept of it stands in arrays of its own.
REQUEST = Record(
    ("arrival_s", f8),
    ("last_token_s", f8),  # when it emitted its last token before this prefill, or at its end
    ("joined_step", i8),  # decode steps that its GPU had made when it began to decode
    ("prompt", i4),
    ("output", i4),
    ("predicted", i4),
    ("need_tokens", i4),  # prompt + output as first predicted
    ("emitted", i4),  # tokens emitted before joined_step
    ("computed", i4),  # in prefill: tokens of its context computed so far
    ("age_group", i4),  # decoding: where it stands in `age_groups` until the next decode step
    ("next", i4, NOBODY),  # behind it in a queue, or admitted after it on a GPU
    ("previous", i4, NOBODY),  # admitted before it on a GPU
    ("bin", u2),
    ("stage", i1, TO_COMPUTE),
    ("started", b1),  # admitted at least once
)  # 64 bytes, a line of the cache

# A GPU: what runs on it, its segment, and what it has counted.
GPU = Record(
    # What the search for a GPU that can admit reads, one line of the cache.
    ("room", i8),  # memory left; NOBODY where no more may run
    ("boundary_s", f8, LONG_PAST_S),  # a boundary not after the next one; one long past where empty
    ("boundary", f8),  # its number in the segment, whole
    ("taken_bin", i8, NOBODY),  # the only bin that it takes; NOBODY where any
    # The segment: boundary k lies at start_s + (k first_s + growth_s (k (k - 1) / 2)).
    ("start_s", f8),
    ("first_s", f8),
    ("growth_s", f8),
    ("iterations", i8),  # of the whole segment
    ("pause_s", f8),  # copies before the first iteration; start_s lies behind them
    ("done", i8),  # iterations that were accounted for
    ("planned", i8),  # boundary of the next event
    ("kind", i8, EMPTY),
    ("chunk_tokens", i8),  # prompt tokens in each iteration
    ("index", i8),
    ("event_s", f8),
    # What runs.
    ("running", i8),
    ("decoding", i8),
    ("context", i8),  # tokens of the decoding requests
    ("held", i8),  # memory, in units of the capacity
    ("outgrown", i8),  # decoding requests that hold a token more with every token
    ("step", i8),  # decode steps made
    ("last_step_s", f8),  # end of the last one
    ("youngest", i8, NOBODY),
    ("first_prefill", i8, NOBODY),
    ("prefilling", i8),
    ("computed", i8),  # tokens computed of the requests in prefill
    ("age_groups", i8),  # how many it has
    ("leaving", i8),  # entries of its heap of leaves
    ("limit", i8),
    ("bin", i8),
    ("turn", i8),  # requests admitted since it took its bin
    ("promised", i8),  # memory of its requests with their predicted outputs, where that is kept free
    ("ratio", f8),  # share of the outputs to come that is kept free, at the decode step `ratio_step`
    ("ratio_step", i8),
    ("gone", i8),  # requests that left with a decode step, since the last one began
    ("closed", b1),  # an admission failed, and nothing has left since
    ("next_update", i8),  # decode steps at which the limit is worked out anew
    ("copy_tokens", i8),  # to be copied before the next iteration
    ("row", i8),  # of its segment in the log
    ("changed", b1),  # something joined or left since the segment was planned
    ("candidate", b1),  # expected to admit at its next event
    ("at_boundary", b1),  # and has not started the next iteration
    # Of the start that is under way.
    ("preempted", b1),  # it took requests off
    ("admitted", b1),
    ("more", i8),  # what the requests will hold more with their next token or chunk
    ("chunks_more", i8),  # of that, the chunks of the requests in prefill
    ("tokens_left", i8),  # of the budget, for those admitted; 1 where there is none
    ("new_prompts", i8),  # requests admitted to prefill: how many, their tokens, the sum of their squares
    ("new_tokens", i8),
    ("new_squares", f8),
    # Since the last update of the limit.
    ("interval_finished", i8),
    ("interval_tokens", i8),
    ("interval_sum_tokens", f8),
    ("interval_squares", f8),
    ("interval_gap_s", f8),
    # Counted over the run.
    ("busy_s", f8),
    ("prefill_s", f8),
    ("copy_s", f8),
    ("kv_token_s", f8),
    ("running_s", f8),
    ("limit_s", f8),
    ("busy_before_s", f8),  # of busy_s, before `count_from` arrived
    ("prefill_tokens", i8),
    ("copied_tokens", i8),
    ("decoded_tokens", i8),
    ("prefills", i8),  # iterations in which nobody decodes
    ("mixed_steps", i8),  # decode steps that compute prompt tokens too
    ("outside_steps", i8),  # outside the range of the law
    ("held_max", i8),
    ("running_max", i8),
    whole_lines=True,
)

# When a decoding request leaves its GPU or outgrows its prediction: at this decode step of the GPU.
LEAVE = Record(("step", i8), ("request", i8))
# Decoding requests that emitted their last token at one time, this long before the segment began.
AGE_GROUP = Record(("age_s", f8), ("members", i8))
EVENT = Record(("time_s", f8, np.inf), ("gpu", i8))
# The place of a GPU among the buckets of time (`mbexp.simulator.continuous.calendar`); a move changes those of others.
BUCKETED = Record(("bucket", i8, NO_BUCKET), ("next", i4), ("previous", i4))
STANDING = Record(("running", i8), ("gpu", i8))  # requests on a GPU at a boundary, or `NOT_READY`
QUEUE_SET = Record(("ready_count", i8), ("waiting", i8))  # queues that are not empty; requests in all of them
SAMPLE = Record(("time_s", f8), ("held", i8), ("running", i8), ("waiting", i8))

# An entry of the optional log of segments.
SEGMENT = Record(
    ("start_s", f8),
    ("finish_s", f8),
    ("first_s", f8),
    ("growth_s", f8),
    ("iterations", i8),
    ("context_tokens", i8),
    ("prompt_tokens", i8),  # in each iteration
    ("gpu", i4),
    ("decoding", i4),
    ("kind", i4),
    ("limit", i4),
    ("bin", i4),  # of the GPU, NOBODY where it serves any
    ("running", i4),
)

# The record of the run, first argument of nearly every function: how it is set up, and what is counted over all of it.
LAYOUT = Table(
    # Sizes.
    ("num_requests", i8),
    ("num_thinks", i8),  # as many as requests in a closed loop, else 0
    ("num_gpus", i8),
    ("num_bins", i8),
    ("num_sets", i8),  # sets of queues: 1, or one a GPU; each has a queue for every bin
    ("num_slots", i8),  # as many as may run on a GPU, and room to add one
    ("num_phases", i8),  # tokens of a block; 1 where memory is reserved
    ("idle_words", i8),  # of the set of empty GPUs
    ("calendar_size", i8),  # of the calendar, a power of two; 0: GPUs are searched one by one
    ("num_nodes", i8),  # of the trees of events and of loads, and how many of them are leaves
    ("num_leaves", i8),
    ("memory_rows", i8),  # sets of queues and one
    ("memory_numbers", i8),
    ("log_rows", i8),
    # How it is set up.
    ("swap_token_s", f8),
    ("token_sla_s", f8),
    ("capacity", i8),  # blocks if paged, else tokens
    ("memory_tokens", i8),
    ("block_tokens", i8),
    ("ahead_tokens", i8),  # paged: 1 where the token emitted last is held, 0 where the next iteration stores it
    ("output_reserve", i8),
    ("ratio_first", f8),  # where `output_reserve` is OUTPUT_RATIO
    ("watermark", i8),  # memory that an admission leaves free where something runs
    ("token_budget", i8),
    ("prefill_max_tokens", i8),  # 0: no limit
    ("turn_requests", i8),
    ("interval_steps", i8),  # 0: the limit never changes
    ("limit_max", i8),
    ("count_from", i8),  # the request at whose arrival gaps and busy time begin to be counted
    # Range in which the law is supported: requests, and mean tokens of context.
    ("size_low", i8),
    ("size_high", i8),
    ("length_low", i8),
    ("length_high", i8),
    ("underprediction", i8),
    ("prefill_memory", i8),
    ("serves", i8),
    ("least_of", i8, NOBODY),  # the row of `given` of which a rule of mbexp looks for the least; NOBODY: none
    ("closed", b1),  # an answer makes a request come
    ("central", b1),
    ("chunked", b1),
    ("alone", b1),  # chunked, and decoding stalls meanwhile
    ("whole", b1),  # by_budget: nor is anyone whose context exceeds those that are left
    ("by_budget", b1),  # chunked: nobody is admitted once the tokens of the iteration are used up
    ("paged", b1),
    ("swap", b1),
    ("closed_form", b1),  # the price of an iteration is that of `mbexp.hardware.closed_form`
    # What is counted.
    ("gap_sum_s", f8),
    ("gap_max_s", f8),
    ("gaps", i8),
    ("gaps_above", i8),
    ("held", i8),
    ("running", i8),
    ("waiting", i8),
    ("waiting_max", i8),
    ("outgrown", i8),
    ("put_back", i8),
    ("instants", i8),
    ("joined", i8),  # requests that have arrived
    ("known", i8),  # requests whose arrival is known
    ("samples_kept", i8),
    ("stride", i8, 1),  # every so many instants one is kept
    ("until_sample", i8),
    ("num_segments", i8),
    ("buckets_per_s", f8, 1e3),  # how narrow buckets are
    ("bucket", i8, NO_BUCKET),  # GPUs stand in this bucket and later ones
    ("room_max", i8),  # no GPU in the calendar has more room
    ("moves", i8),  # of GPUs that came to their boundaries, since the width was chosen
    ("idle_steps", i8),  # and steps through buckets that moved none
    ("standing_count", i8),  # GPUs at a boundary that may still admit
    ("aside_count", i8),  # and those that could not admit what waits now
    ("status", i8, FINISHED),
)

# The arrays. What is called `value` there is the number itself: start_s(run, request).value.
request_at = LAYOUT.array("requests", REQUEST, "num_requests", initial=None)  # the loop fills them
gpu_at = LAYOUT.array("gpus", GPU, "num_gpus")
event_at = LAYOUT.array("events", EVENT, "num_nodes")  # a tree: which GPU comes first, by time, then by index
standing_at = LAYOUT.array("standing", STANDING, "num_gpus")  # at a boundary: a heap by requests, then those put aside
LAYOUT.array("idle", i8, 1, "idle_words", initial=0)
idle_gpus = LAYOUT.vector("idle")  # a set (`mbexp.compiled.index_set`): empty GPUs, where queues are central
leave_at = LAYOUT.array("leaves", LEAVE, "num_gpus", "num_slots")  # of each GPU a heap by step, then request
age_group_at = LAYOUT.array("age_groups", AGE_GROUP, "num_gpus", "num_slots")
phase_at = LAYOUT.array("phases", i8, "num_gpus", "num_phases")  # requests that take a block at these steps
queue_set_at = LAYOUT.array("sets", QUEUE_SET, "num_sets")
queue_at = LAYOUT.array("queues", i8, "num_sets", QUEUE_ROWS, "num_bins")
head_s = LAYOUT.array("heads_s", f8, "num_sets", "num_bins", initial=np.inf)  # arrival of the head of a queue
LAYOUT.array("memory", f8, "memory_rows", "memory_numbers")  # of the selection rule; the last row is scratch
given_at = LAYOUT.array("given", i8, 2, "num_gpus")  # given to a GPU and not finished: requests, predicted KV need
node_at = LAYOUT.array("loads", i8, "num_nodes", initial=NONE)  # a tree over a row of `given`
bucket_at = LAYOUT.array("calendar", i4, "calendar_size", initial=NOBODY)  # first GPU in each
bucketed_at = LAYOUT.array("bucketed", BUCKETED, "num_gpus")
gap_count = LAYOUT.array("gap_counts", i8, NUM_BINS)
segment_at = LAYOUT.array("segments", SEGMENT, "log_rows")
sample_at = LAYOUT.array("samples", SAMPLE, SAMPLES)
think_s = LAYOUT.array("think_s", f8, "num_thinks", initial=None)  # of a user after the answer to each request
fetch_gpu, fetch_leaves = LAYOUT.prefetcher("gpus"), LAYOUT.prefetcher("leaves")
fetch_boundary = LAYOUT.prefetcher("gpus", CACHE_LINE)
fetch_request, fetch_ages = LAYOUT.prefetcher("requests"), LAYOUT.prefetcher("age_groups")
# What is kept of each request.
start_s = LAYOUT.array("start_s", f8, "num_requests", initial=None)  # first admission
first_token_s = LAYOUT.array("first_token_s", f8, "num_requests", initial=None)
finish_s = LAYOUT.array("finish_s", f8, "num_requests", initial=np.nan)
gpu_of = LAYOUT.array("gpu_of", i4, "num_requests", initial=None)
preemptions_of = LAYOUT.array("preemptions_of", i4, "num_requests")

blank_request = blank(REQUEST)
note_load, least_loaded = least_tree(node_at, "num_leaves")
note_event = first_tree(event_at, "time_s", "gpu", "num_leaves")

RUN_TYPE = types.Array(from_dtype(LAYOUT.head().dtype), 1, "C")


def new_state(run: npt.NDArray[Any], table: Table = LAYOUT) -> SimpleNamespace:
    """Return the record of a run and its arrays, each by its name in the table, before the run begins."""
    state = SimpleNamespace(run=run, **table.allocate(run))
    capacity = run["capacity"][0]
    state.gpus["index"] = np.arange(len(state.gpus))
    state.gpus["room"] = capacity
    state.gpus["next_update"] = run["interval_steps"][0]
    state.gpus["ratio"] = run["ratio_first"][0]
    state.queues[:, [HEAD, TAIL]] = NOBODY
    state.queues[:, LIMIT] = run["limit_max"][0]
    return state
