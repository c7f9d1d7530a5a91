"""Invariants hold of every run, and records that are spoilt in any way are caught, each by the invariant it breaks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from mbexp.errors import InvariantError, UserError
from mbexp.simulator.batches import invariants
from mbexp.simulator.batches.invariants import check
from mbexp.simulator.batches.outcome import BatchesOutcome
from tests.simulator.batches.agreement import Case, run_compiled, run_reference
from tests.simulator.batches.case_strategy import cases


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_they_hold_of_every_run(case):
    counters = check(run_compiled(case), arrived=len(case.requests))
    assert counters["invariants_checked"] == len(invariants.SCANNED) + 6
    assert counters["requests_waiting_max"] == most_waiting(case)


def most_waiting(case: Case) -> int:
    """Count the requests that have arrived and not started, just before each start."""
    batches = run_reference(case).batches
    accepted = [request for batch in batches for request in batch.members]
    most, started = 0, 0
    for batch in batches:
        most = max(most, sum(request.arrival <= batch.start for request in accepted) - started)
        started += len(batch.members)
    return most


@pytest.fixture
def records() -> BatchesOutcome:
    """Two queues, two GPUs, memory pressure, a rejected request (place 5), batches of several sizes."""
    rows = [(0.3, 2 + place % 4, 1 + place % 5, 1 + place % 5, place % 2) for place in range(24)]
    rows[5] = (0.3, 100, 1, 1, 0)
    rows[9] = (0.3, 1, 100, 1, 0)
    case = Case(
        rows,
        queues=2,
        gpus=2,
        memory=14,
        law=(1.1, *[0.0] * 13),
        scheduler={"batch_size": "fixed", "fixed_batch_size": 3},
    )
    found = run_compiled(case)
    check(found, arrived=24)
    return dataclasses.replace(found, batches=found.batches.copy(), index=found.index.copy())


def batch_with(records: BatchesOutcome, size: int) -> int:
    return int(np.flatnonzero(records.batches["size"] >= size)[0])


def change(records: BatchesOutcome, column: str, batch: int, value: object) -> BatchesOutcome:
    records.batches[column][batch] = value
    return records


def lost_request(records: BatchesOutcome) -> BatchesOutcome:
    return change(records, "size", batch_with(records, 2), 1)


def lost_batch(records: BatchesOutcome) -> BatchesOutcome:
    return dataclasses.replace(records, batches=records.batches[:-1])


def served_twice(records: BatchesOutcome) -> BatchesOutcome:
    """One request is served again in place of another."""
    batch = batch_with(records, 2)
    first = records.batches["first"][batch]
    records.index[first + 1] = records.index[first]
    return records


def swapped(records: BatchesOutcome) -> BatchesOutcome:
    first = records.batches["first"][batch_with(records, 2)]
    records.index[[first, first + 1]] = records.index[[first + 1, first]]
    return records


def unknown_request(records: BatchesOutcome) -> BatchesOutcome:
    records.index[records.batches["first"][0]] = -1
    return records


def beyond_the_last(records: BatchesOutcome) -> BatchesOutcome:
    last = records.batches["first"] + records.batches["size"] == len(records.index)
    records.index[-1] = len(records.index)
    assert last.any()
    return records


def taken_from_the_other_queue(records: BatchesOutcome) -> BatchesOutcome:
    queue_of = records.queue_of.copy()
    one, other = np.flatnonzero(queue_of == 0)[-1], np.flatnonzero(queue_of == 1)[-1]
    queue_of[[one, other]] = queue_of[[other, one]]
    return dataclasses.replace(records, queue_of=queue_of)


def windows_swapped(records: BatchesOutcome) -> BatchesOutcome:
    """A queue's second batch before its first."""
    one, other = np.flatnonzero(records.batches["queue"] == 0)[:2]
    for column in ("first", "size"):
        records.batches[column][[one, other]] = records.batches[column][[other, one]]
    return records


def labelled_with_the_other_queue(records: BatchesOutcome) -> BatchesOutcome:
    return change(records, "queue", 0, 1 - records.batches["queue"][0])


def starts_early(records: BatchesOutcome) -> BatchesOutcome:
    arrival_s = records.arrival_s.copy()
    batch = batch_with(records, 2)
    place = records.batches["first"][batch] + records.batches["size"][batch] - 1
    arrival_s[records.index[place] :] += 50.0
    return dataclasses.replace(records, arrival_s=arrival_s)


def unsorted_arrivals(records: BatchesOutcome) -> BatchesOutcome:
    arrival_s = records.arrival_s.copy()
    arrival_s[3] = 0.0
    return dataclasses.replace(records, arrival_s=arrival_s)


def less_memory(records: BatchesOutcome) -> BatchesOutcome:
    return dataclasses.replace(records, kv_capacity_tokens=10)


def longer_output(records: BatchesOutcome) -> BatchesOutcome:
    output_tokens = records.output_tokens.copy()
    output_tokens[0] = 18
    return dataclasses.replace(records, output_tokens=output_tokens)


def longer_prediction(records: BatchesOutcome) -> BatchesOutcome:
    predicted_tokens = records.predicted_tokens.copy()
    predicted_tokens[-1] = 2_000_000_000  # + prompt does not fit into 32 bits twice
    return dataclasses.replace(records, predicted_tokens=predicted_tokens)


def two_at_once(records: BatchesOutcome) -> BatchesOutcome:
    return change(records, "gpu", 1, records.batches["gpu"][0])


def not_rejected(records: BatchesOutcome) -> BatchesOutcome:
    return dataclasses.replace(records, rejected={})


def rejected_and_served(records: BatchesOutcome) -> BatchesOutcome:
    rejected = {reason: places - 1 for reason, places in records.rejected.items()}
    return dataclasses.replace(records, rejected=rejected)


def stale_places(records: BatchesOutcome) -> BatchesOutcome:
    """The places of batches that the metrics use are not those of the records."""
    moved = (records.batch_of + 1) % len(records.batches)
    records.__dict__["batch_of"] = moved.astype(np.int32)
    return records


SPOILT = {
    lost_request: invariants.ARRIVED,
    lost_batch: invariants.ARRIVED,
    not_rejected: invariants.ARRIVED,
    rejected_and_served: invariants.ONCE,
    unsorted_arrivals: invariants.ARRIVALS,
    served_twice: invariants.SCANNED[invariants.ORDER],
    swapped: invariants.SCANNED[invariants.ORDER],
    unknown_request: invariants.SCANNED[invariants.ORDER],
    beyond_the_last: invariants.SCANNED[invariants.ORDER],
    taken_from_the_other_queue: invariants.SCANNED[invariants.ORDER],
    windows_swapped: invariants.SCANNED[invariants.WINDOW],
    labelled_with_the_other_queue: invariants.SCANNED[invariants.WINDOW],
    starts_early: invariants.SCANNED[invariants.EARLY],
    less_memory: invariants.SCANNED[invariants.MEMORY],
    longer_prediction: invariants.SCANNED[invariants.MEMORY],
    longer_output: invariants.SCANNED[invariants.TRUE_NEED],
    two_at_once: invariants.SCANNED[invariants.OVERLAP],
    stale_places: invariants.KNOWN,
}

CHANGED = {
    "empty batch": ("size", 0, invariants.ARRIVED),
    "no such queue": ("queue", 2, invariants.SCANNED[invariants.QUEUE]),
    "negative queue": ("queue", -1, invariants.SCANNED[invariants.QUEUE]),
    "window moved": ("first", 1, invariants.SCANNED[invariants.WINDOW]),
    "limit below the size": ("limit", 0, invariants.SCANNED[invariants.LIMIT]),
    "starts after the next": ("start_s", 1e6, invariants.SCANNED[invariants.FINISH]),
    "starts before the clock": ("start_s", -1.0, invariants.SCANNED[invariants.START]),
    "starts never": ("start_s", np.nan, invariants.SCANNED[invariants.START]),
    "ends before it starts": ("finish_s", -1.0, invariants.SCANNED[invariants.FINISH]),
    "never ends": ("finish_s", np.inf, invariants.SCANNED[invariants.FINISH]),
    "ends nowhere": ("finish_s", np.nan, invariants.SCANNED[invariants.FINISH]),
    "no such GPU": ("gpu", 2, invariants.SCANNED[invariants.GPU]),
    "negative GPU": ("gpu", -1, invariants.SCANNED[invariants.GPU]),
    "still running when the next starts": ("finish_s", 1e6, invariants.SCANNED[invariants.OVERLAP]),
}


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
def test_spoilt_records_are_caught(records, spoil):
    with pytest.raises(InvariantError) as caught:
        check(spoil(records), arrived=24)
    assert SPOILT[spoil] in str(caught.value)


@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_number_of_a_batch_is_caught(records, name):
    column, value, invariant = CHANGED[name]
    with pytest.raises(InvariantError) as caught:
        check(change(records, column, 0, value), arrived=24)
    assert invariant in str(caught.value)
    if invariant in invariants.SCANNED:
        assert "(batch " in str(caught.value)


def test_starts_that_go_back_are_caught(records):
    later = len(records.batches) - 1
    before = records.batches["start_s"][later - 1]
    with pytest.raises(InvariantError, match="time does not run back between starts"):
        check(change(records, "start_s", later, before - 1e-9))


def test_an_empty_batch_is_caught_even_where_the_sum_is_right(records):
    one, other = np.flatnonzero(records.batches["queue"] == 0)[:2]
    records.batches["size"][other] += records.batches["size"][one]
    with pytest.raises(InvariantError, match="no batch is empty"):
        check(change(records, "size", one, 0))


def test_another_number_of_arrivals_is_caught(records):
    with pytest.raises(InvariantError, match="25 arrived, 22 were accepted, 22 completed, 2 were rejected"):
        check(records, arrived=25)


@pytest.mark.parametrize(
    ("measured", "message"), [(2, "makespan x GPUs"), (3, "makespan x GPUs"), (5, "Little's law"), (7, "Little's law")]
)
def test_times_are_compared_with_what_they_must_add_up_to(monkeypatch, records, measured, message):
    def scan(*arguments):
        found = list(real(*arguments))
        found[measured] *= 1.0001
        return found

    real = invariants._scan
    check(records)
    monkeypatch.setattr(invariants, "_scan", scan)
    with pytest.raises(InvariantError, match=message):
        check(records)


def test_every_name_of_the_scan_was_seen():
    named = {*SPOILT.values(), *(invariant for *_, invariant in CHANGED.values())}
    assert set(invariants.SCANNED) - named == {invariants.SCANNED[invariants.EMPTY]}


def test_a_run_without_requests_breaks_nothing():
    assert check(run_compiled(Case([])), arrived=0)["requests_waiting_max"] == 0


def test_the_error_says_that_it_is_a_bug_and_not_a_mistake_of_the_user():
    assert not issubclass(InvariantError, UserError)
    assert "bug in mbexp" in str(InvariantError("a GPU runs one batch at a time"))
