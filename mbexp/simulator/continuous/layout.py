"""The records that the continuous event loop works on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import from_dtype, types

# What a waiting request needs first: its context computed, or copied in.
COMPUTE, COPY = 0, 1
# What happens to a request whose output outgrows its prediction.
EXTEND, PREEMPT, REQUEUE = 0, 1, 2
# What a GPU serves.
ANY_BIN, ONE_BIN, SHARE = 0, 1, 2
# What the iterations of a segment are: decode steps; one prefill of whole prompts; decode steps with equal chunks of
# one prompt; one decode step with chunks of which some end a prompt.
EMPTY, DECODE, PREFILL, CHUNK, LAST_CHUNK = 0, 1, 2, 3, 4

NOBODY = -1

FINISHED, BAD_SELECTION, BAD_LIMIT, BAD_TIME, BAD_ASSIGNMENT = 0, 1, 2, 3, 4

# One record: how the run is set up, and what is counted over all of it.
RUN_DTYPE = np.dtype(
    [
        # Where the arrays lie.
        ("requests_at", np.int64),
        ("gpus_at", np.int64),
        ("leaves_at", np.int64),
        ("groups_at", np.int64),
        ("phases_at", np.int64),
        ("events_at", np.int64),
        ("fronts_at", np.int64),
        ("sets_at", np.int64),
        ("queues_at", np.int64),
        ("heads_at", np.int64),
        ("given_at", np.int64),
        ("gap_counts_at", np.int64),
        ("segments_at", np.int64),
        ("samples_at", np.int64),
        ("start_at", np.int64),
        ("first_token_at", np.int64),
        ("finish_at", np.int64),
        ("gpu_of_at", np.int64),
        ("preemptions_of_at", np.int64),
        ("num_requests", np.int64),
        ("num_gpus", np.int64),
        ("num_bins", np.int64),
        ("queue_rows", np.int64),
        ("front_places", np.int64),
        ("log_rows", np.int64),
        # How it is set up.
        ("swap_token_s", np.float64),
        ("token_sla_s", np.float64),
        ("capacity", np.int64),  # blocks if paged, else tokens
        ("memory_tokens", np.int64),
        ("block_tokens", np.int64),
        ("token_budget", np.int64),
        ("prefill_max_tokens", np.int64),  # 0: no limit
        ("turn_requests", np.int64),
        ("interval_steps", np.int64),  # 0: the limit never changes
        ("limit_max", np.int64),
        ("count_from", np.int64),  # the request at whose arrival gaps and busy time begin to be counted
        # Range in which the law is supported: requests, and mean tokens of context.
        ("size_low", np.int64),
        ("size_high", np.int64),
        ("length_low", np.int64),
        ("length_high", np.int64),
        ("underprediction", np.int64),
        ("serves", np.int64),
        ("central", np.bool_),
        ("many_gpus", np.bool_),  # and central queues: a search goes through `State.fronts` first
        ("chunked", np.bool_),
        ("paged", np.bool_),
        ("swap", np.bool_),
        ("closed_form", np.bool_),  # the price of an iteration is that of `mbexp.hardware.iteration.closed_form`
        # What is counted.
        ("gap_sum_s", np.float64),
        ("gap_max_s", np.float64),
        ("gaps", np.int64),
        ("gaps_above", np.int64),
        ("held", np.int64),
        ("running", np.int64),
        ("waiting", np.int64),
        ("waiting_max", np.int64),
        ("preemptions", np.int64),
        ("outgrown", np.int64),
        ("put_back", np.int64),
        ("instants", np.int64),
        ("samples", np.int64),
        ("stride", np.int64),
        ("until_sample", np.int64),
        ("segments", np.int64),
        ("event_count", np.int64),  # GPUs that have an event
        ("standing_count", np.int64),
        ("finished", np.int64),
        ("status", np.int64),
    ],
    align=True,
)

# A request on its way; what is kept of it stands in arrays of its own.
REQUEST_DTYPE = np.dtype(
    [
        ("arrival_s", np.float64),
        ("last_token_s", np.float64),  # when it emitted its last token before this prefill, or at its end
        ("joined_step", np.int64),  # decode steps that its GPU had made when it began to decode
        ("prompt", np.int32),
        ("output", np.int32),
        ("predicted", np.int32),
        ("need_tokens", np.int32),  # prompt + output as first predicted
        ("emitted", np.int32),  # tokens emitted before joined_step
        ("progress", np.int32),  # in prefill: tokens of it computed so far; decoding: its group of equal age
        ("next", np.int32),  # behind it in a queue, or admitted after it on a GPU
        ("previous", np.int32),
        ("bin", np.uint16),
        ("needs", np.int8),  # COMPUTE or COPY
        ("in_prefill", np.bool_),
        ("started", np.bool_),
    ],
    align=True,
)  # 64 bytes, a line of the cache

# A GPU: what runs on it, its segment, and what it has counted.
GPU_FIELDS: Any = np.dtype(
    [
        # What the search for a GPU that can admit reads, one line of the cache.
        ("room", np.int64),  # memory left; NOBODY where no more may run
        ("boundary_s", np.float64),  # a boundary not after the next one; one long past where empty
        ("boundary", np.float64),  # its number in the segment, whole
        ("taken_bin", np.int64),  # the only bin that it takes; NOBODY where any
        # The segment: boundary k lies at start_s + (k first_s + growth_s (k (k - 1) / 2)).
        ("start_s", np.float64),
        ("first_s", np.float64),
        ("growth_s", np.float64),
        ("iterations", np.int64),  # of the whole segment
        ("pause_s", np.float64),  # copies before the first iteration; start_s lies behind them
        ("done", np.int64),  # iterations that were accounted for
        ("planned", np.int64),  # boundary of the next event
        ("kind", np.int64),
        ("chunk_tokens", np.int64),  # prompt tokens in each iteration
        # Its place among the events; `standing` belongs to the place, not to the GPU.
        ("event_s", np.float64),
        ("place", np.int64),  # in the heap of events; NOBODY where it has none
        ("standing", np.int64),  # GPUs at a boundary, ascending
        ("first_slot", np.int64),  # of its leaves and groups
        ("first_phase", np.int64),  # of the places of a block: how many requests take a new block at which step
        # What runs.
        ("running", np.int64),
        ("decoding", np.int64),
        ("context", np.int64),  # tokens of the decoding requests
        ("held", np.int64),  # memory, in units of the capacity
        ("outgrown", np.int64),  # decoding requests that hold a token more with every token
        ("step", np.int64),  # decode steps made
        ("last_step_s", np.float64),  # end of the last one
        ("youngest", np.int64),
        ("first_prefill", np.int64),
        ("prefilling", np.int64),
        ("computed", np.int64),  # tokens computed of the requests in prefill
        ("groups", np.int64),
        ("leaving", np.int64),  # entries of the heap of steps at which requests leave
        ("limit", np.int64),
        ("bin", np.int64),
        ("turn", np.int64),  # requests admitted since it took its bin
        ("next_update", np.int64),  # decode steps at which the limit is worked out anew
        ("copy_tokens", np.int64),  # to be copied before the next iteration
        ("row", np.int64),  # of its segment in the log
        ("outside", np.bool_),  # the range of the law
        ("changed", np.bool_),  # something joined or left since the segment was planned
        ("candidate", np.bool_),  # expected to admit at its next event
        ("at_boundary", np.bool_),  # and has not started the next iteration
        # Since the last update of the limit.
        ("interval_finished", np.int64),
        ("interval_tokens", np.int64),
        ("interval_sum_tokens", np.float64),
        ("interval_squares", np.float64),
        ("interval_gap_s", np.float64),
        # Counted over the run.
        ("busy_s", np.float64),
        ("prefill_s", np.float64),
        ("copy_s", np.float64),
        ("kv_token_s", np.float64),
        ("running_s", np.float64),
        ("limit_s", np.float64),
        ("busy_before_s", np.float64),  # of busy_s, before `count_from` arrived
        ("prefill_tokens", np.int64),
        ("copied_tokens", np.int64),
        ("decoded_tokens", np.int64),
        ("prefills", np.int64),
        ("mixed_steps", np.int64),
        ("outside_steps", np.int64),  # outside the range of the law
        ("held_max", np.int64),
        ("running_max", np.int64),
    ],
    align=True,
)
# Each begins a line of the cache.
CACHE_LINE = 64
GPU_DTYPE = np.dtype(
    {
        "names": list(GPU_FIELDS.names),
        "formats": [GPU_FIELDS[name] for name in GPU_FIELDS.names],
        "offsets": [GPU_FIELDS.fields[name][1] for name in GPU_FIELDS.names],
        "itemsize": -(-GPU_FIELDS.itemsize // CACHE_LINE) * CACHE_LINE,
    },
    align=True,
)

# An entry of the optional log of segments.
SEGMENT_DTYPE = np.dtype(
    [
        ("start_s", np.float64),
        ("finish_s", np.float64),
        ("first_s", np.float64),
        ("growth_s", np.float64),
        ("iterations", np.int64),
        ("context_tokens", np.int64),
        ("prompt_tokens", np.int64),  # in each iteration
        ("gpu", np.int32),
        ("decoding", np.int32),
        ("kind", np.int32),
        ("limit", np.int32),
        ("bin", np.int32),  # of the GPU, NOBODY where it serves any
        ("running", np.int32),
    ],
    align=True,
)

# The histogram of gaps between tokens.
PER_OCTAVE = 512  # equal bins in each octave of the histogram
LOWEST_OCTAVE, HIGHEST_OCTAVE = -20, 21  # 1 microsecond to 24 days; what lies outside counts in the outermost bins
NUM_BINS = (HIGHEST_OCTAVE - LOWEST_OCTAVE) * PER_OCTAVE

SAMPLES = 4096
SAMPLE_DTYPE = np.dtype(
    [("time_s", np.float64), ("held", np.int64), ("running", np.int64), ("waiting", np.int64)], align=True
)

# What a GPU runs, as many entries as it may run: a heap of the decode steps at which requests leave or outgrow their
# prediction, and groups of requests that emitted their last token at one time.
LEAVE_DTYPE = np.dtype([("step", np.int64), ("request", np.int64)])
GROUP_DTYPE = np.dtype([("age_s", np.float64), ("members", np.int64)])

# The heap of events.
EVENT_DTYPE = np.dtype([("time_s", np.float64), ("gpu", np.int64)])

# Rows of `State.fronts`, which the search for a GPU that can admit goes through where there are many: `room` and
# `boundary_s` of its record, the iteration after that boundary and its inverse, how far an estimate may be off, and the
# estimate (`mbexp.simulator.continuous.fronts`).
ROOM, BOUNDARY_S, STEP_S, RATE, SLACK, EARLIEST_S = 0, 1, 2, 3, 4, 5
FRONT_ROWS = 6
FRONT_LANES = 8  # GPUs that a processor may take at a time; fewer are looked at one by one
LONG_PAST_S = -1e18  # a boundary of a GPU that stands at one at any time, for it is empty
NEVER_SURE = 1e200  # nothing is known of the next boundary

# One record a set of queues.
SET_DTYPE = np.dtype([("ready_count", np.int64), ("waiting", np.int64)], align=True)


CELL_DTYPE = np.dtype([("value", np.int64)])
TIME_CELL_DTYPE = np.dtype([("value", np.float64)])
SMALL_CELL_DTYPE = np.dtype([("value", np.int32)])

# Rows of `State.queues`; a selection rule reads all but TAIL.
READY, WAITING, HEAD, TAIL, LIMIT = 0, 1, 2, 3, 4
QUEUE_ROWS = 5

RUN_TYPE = types.Array(from_dtype(RUN_DTYPE), 1, "C")
