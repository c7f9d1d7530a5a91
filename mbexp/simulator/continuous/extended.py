"""What the continuous event loop works on where conversations have turns: the table of every run, and more.

A run without them has the plain table, and nothing is compiled for it that reaches further.
"""

from __future__ import annotations

from numba import from_dtype, types

from mbexp.compiled.records import Record
from mbexp.simulator.continuous.layout import LAYOUT, f8, i4, i8, u2

PART = "num_turns"  # the field by which functions tell that a run has this table
NO_TURN, FROM_ROOTS = 0, 1

# A request as the trace has it; it gets its number, and a record of its own, when it comes.
TURN = Record(
    ("think_s", f8),  # from the answer that causes it to its arrival
    ("prompt", i4),
    ("output", i4),
    ("predicted", i4),
    ("bin", u2),
)
DUE = Record(("time_s", f8), ("request", i8))  # a request by its place in the trace

EXTENDED = LAYOUT.extended(
    ("num_turns", i8),  # as many as requests, 0 where no answer makes a certain request come
    ("num_roots", i8),  # of them, those that no answer causes
    ("next_root", i8),
    ("due_count", i8),  # requests that answers made come and that have not come
    ("from_roots", i8),  # whether the next to come is a root
)
turn_at = EXTENDED.array("turns", TURN, "num_turns")
due_at = EXTENDED.array("due", DUE, "num_turns")  # a heap by time, then place
root_at = EXTENDED.array("roots", i4, "num_roots")  # by arrival, then place
root_s = EXTENDED.array("root_s", f8, "num_roots")
child_of = EXTENDED.array("children", i4, "num_turns")  # the first request that an answer causes
sibling_of = EXTENDED.array("siblings", i4, "num_turns")  # the next one of the same cause
who_of = EXTENDED.array("who", i4, "num_turns")  # the place of each request, in the order in which they came

EXTENDED_RUN_TYPE = types.Array(from_dtype(EXTENDED.head().dtype), 1, "C")
