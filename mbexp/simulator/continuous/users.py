"""Users of a closed loop in the continuous event loop: an answer makes the next request come."""

# mypy: allow-untyped-defs

from __future__ import annotations

from mbexp.compiled.decorators import called
from mbexp.simulator.continuous.layout import request_at, think_s


@called
def answered(run, request, now_s):
    """Let the user whose request was answered send the next of the trace once he has thought.

    Known arrivals that have not happened stand in ascending order, from request `joined` to before request `known`.
    """
    due_s = now_s + think_s(run, request).value
    place = run.known
    if place == run.num_requests:
        # As many are due as requests are left: the last of them sends none.
        place -= 1
        if place < run.joined or request_at(run, place).arrival_s <= due_s:
            return
    else:
        run.known += 1
    while place > run.joined and request_at(run, place - 1).arrival_s > due_s:
        request_at(run, place).arrival_s = request_at(run, place - 1).arrival_s
        place -= 1
    request_at(run, place).arrival_s = due_s
