"""From a workload's configuration to a trace: read or generate, choose a window, spread ties, scale time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import ModuleType

import numpy as np

from mbexp.config.workload_keys import ArrivalsConfig, SessionsConfig, WorkloadConfig
from mbexp.errors import UserError
from mbexp.workload import cache
from mbexp.workload.clock import refuse_unit
from mbexp.workload.closed import ClosedLoop, closed_loop
from mbexp.workload.find import find_file
from mbexp.workload.hashes import chosen_hashes, fitting_blocks
from mbexp.workload.kinds import _columns, find_kind
from mbexp.workload.published import published_by_sha256
from mbexp.workload.rows import Positions, UsableRows, usable_rows
from mbexp.workload.sessions import begun_by_users, conversations, with_columns
from mbexp.workload.timing import scale_gaps, spread_ties
from mbexp.workload.trace import FloatArray, Trace, text_columns
from mbexp.workload.turns import Turns
from mbexp.workload.unread import refuse_unread, without_meaning
from mbexp.workload.window import choose_window, describe_window

OWN_ARRIVALS = ("synthetic", "sessions")  # kinds whose requests, or conversations, begin as workload.arrivals says


def load_trace(
    workload: WorkloadConfig,
    num_requests: int | None = None,
    seed: int = 0,
    replicate: str = "seeds",
    asked: Mapping[str, str] | None = None,
) -> Trace:
    """Return the requests that a run will serve.

    Parameters
    ----------
    workload
        Kind, file, window and treatment of time.
    num_requests
        How many requests; None takes all that the trace has. Where the trace has fewer, all are taken and a note says
        so.
    seed
        Seed of the generators; files do not depend on it, but for
    replicate
        ``windows``: consecutive windows of `num_requests` of a file, of which the seed is the place, from 0 on.
    asked
        Columns to keep beside ``workload.columns.extra``, each with the key that asks for it.

    Returns
    -------
    Trace
        With ``arrival_s[0] == 0``. Rows left out or altered inside the window are counted by reason.

    Raises
    ------
    UserError
        One line naming the file, the line and the value, or the key of the configuration that is at fault.
    """
    kind = find_kind(workload.kind)
    refuse_unread(workload, kind)
    workload = with_columns(_with_asked(workload, kind, asked or {}))
    windows = replicate == "windows"
    if hasattr(kind, "generate"):
        if windows:
            raise UserError(
                f"replicate=windows: workload={workload.kind} is generated and has other requests for each seed anyway"
            )
        what = "whose requests are drawn" if hasattr(kind, "files_sha256") else "which has no file"
        refuse_unit(workload, what)
        if workload.where:
            raise UserError(f"workload.where={workload.where}: has no effect with workload={workload.kind}, {what}")
        rows = kind.generate(workload, num_requests, seed)
        file_sha256 = kind.files_sha256(workload) if hasattr(kind, "files_sha256") else ""
        source = rows.source
    else:
        rows, file_sha256, source = _read(kind, workload)
    if workload.burst_likeness and workload.kind != "burstgpt_like":
        raise UserError(
            f"workload.burst_likeness={workload.burst_likeness:g}: has no effect with workload={workload.kind}; "
            "it is the likeness of lengths inside the bursts of workload=burstgpt_like"
        )
    generated = workload.timestamps == "generated"
    has_own = workload.kind in OWN_ARRIVALS
    if not generated and not has_own and workload.arrivals != ArrivalsConfig():
        raise UserError(
            f"workload.arrivals: has no effect with workload.timestamps={workload.timestamps}; "
            "workload.timestamps=generated takes arrivals from it"
        )
    if generated and not has_own:
        rate = "" if workload.arrivals.kind == "closed" else f" at {workload.arrivals.rate_per_s:g}/s"
        source += f"; {workload.arrivals.kind} arrivals{rate} in place of its own"
    window = workload.window
    if window.kind == "time" and getattr(kind, "CUTS_TIME", False):  # the rows are those of the window
        window = dataclasses.replace(window, kind="rows", start_row=0)
    chosen, notes = choose_window(rows.arrival_s, window, num_requests, seed if windows else None)
    notes = [*notes, *without_meaning(workload)]
    closed: ClosedLoop | Turns | None = closed_loop(workload, chosen.stop - chosen.start, seed)
    resolution_s = kind.CLOCK_RESOLUTION_S if workload.spread_ties_s is None else workload.spread_ties_s
    arrival_s, spread = spread_ties(rows.arrival_s[chosen], resolution_s)
    changed = _inside(rows.changed_at, chosen, len(rows))
    if spread:
        changed["ties_spread"] = spread
    if "sorted_by_time" in changed:
        moved = changed["sorted_by_time"]
        notes.append(f"{moved:,} row{'s were' if moved > 1 else ' was'} out of order and sorted by time")
    scaling = workload.rate_scaling if workload.timestamps == "scaled" else 1.0
    extra = {name: np.array(column[chosen]) for name, column in rows.extra.items()}
    prompt, output = rows.prompt_tokens[chosen], rows.output_tokens[chosen]
    said = conversations(
        workload, rows.arrival_s[chosen], prompt, output, text_columns(extra, rows.categories), scaling
    )
    arrival_s = _arrivals(arrival_s, workload, seed)
    if said:
        prompt = said.prompt_tokens
        if workload.sessions != SessionsConfig():
            notes += said.notes
            changed |= said.changed
        if workload.sessions.arrivals == "answered":
            if closed:
                raise UserError(
                    "workload.arrivals.kind=closed: users send the requests of a file one by one; with "
                    "workload.sessions.arrivals=answered turns wait for their own conversation's answer: leave one out"
                )
            closed = said.turns(arrival_s)
            if has_own and workload.arrivals.kind == "closed":
                closed = begun_by_users(closed, extra["session"], workload.arrivals, seed)
    blocks = fitting_blocks(chosen_hashes(rows.hashes, chosen), prompt, changed, notes)
    if closed and closed.users:
        source += f"; {closed.users:,} users in a closed loop"
    return Trace(
        arrival_s=arrival_s,
        prompt_tokens=np.array(prompt, np.int32),
        output_tokens=np.array(output, np.int32),
        source=source,
        dropped=_inside(rows.dropped_at, chosen, len(rows)),
        changed=changed,
        extra=extra,
        notes=(*rows.notes, *notes),
        categories=rows.categories,
        window=describe_window(
            chosen,
            f"window {seed + 1}" if windows else workload.window.kind,
            rows.arrival_s,
            ", sent as answers come" if closed else None,
        ),
        file_sha256=file_sha256,
        time_scaling=workload.rate_scaling if workload.timestamps == "scaled" and not closed else 1.0,
        closed=closed,
        contents=said.contents if said else None,
        blocks=blocks,
    )


def _arrivals(arrival_s: FloatArray, workload: WorkloadConfig, seed: int) -> FloatArray:
    """Return when requests arrive in the run: scaled, as in the trace, or at a rate of one's own."""
    if workload.timestamps != "generated" or workload.kind in OWN_ARRIVALS:  # whose arrivals are those asked for
        return scale_gaps(arrival_s, workload)
    from mbexp.workload.kinds.synthetic import STREAM_ARRIVALS, draw_arrivals

    rng = np.random.default_rng(np.random.SeedSequence([seed, STREAM_ARRIVALS]))
    return draw_arrivals(rng, workload.arrivals, len(arrival_s))


def _with_asked(workload: WorkloadConfig, kind: ModuleType, asked: Mapping[str, str]) -> WorkloadConfig:
    """Return the workload with the columns that other keys ask for among those kept.

    What is generated has the columns that it has. Some kinds of files have none, and name their own key of columns.
    """
    more = [column for column in asked if column not in workload.columns.extra]
    if not more or hasattr(kind, "generate"):
        return workload
    if not getattr(kind, "KEEPS_COLUMNS", True):
        raise UserError(f"{asked[more[0]]}={more[0]}: workload={workload.kind} keeps no further columns")
    columns = dataclasses.replace(workload.columns, extra=[*workload.columns.extra, *more])
    return dataclasses.replace(workload, columns=columns)


def _read(kind: ModuleType, workload: WorkloadConfig) -> tuple[UsableRows, str, str]:
    """Return the usable rows of a file, its hash and what it is; from a converted copy where there is one."""
    path = find_file(workload.path or kind.DEFAULT_FILE, workload.kind)
    before = cache.file_identity(path)
    file_sha256 = cache.file_sha256(path)
    kept = () if workload.kind == "csv" else workload.columns.extra  # which a CSV file's own settings hold
    key = cache.entry_key(
        workload.kind, kind.VERSION, file_sha256, *getattr(kind, "cache_settings", lambda _: ())(workload),
        _columns.VERSION, workload.time_unit_s, workload.where, *kept,
    )  # fmt: skip
    rows = cache.load_rows(key)
    if rows is None:
        read = kind.read(path, workload)
        try:
            rows = usable_rows(read)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        if not len(rows):
            counts = ", ".join(f"{len(rows.dropped_at[reason]):,} {reason}" for reason in rows.dropped_at)
            raise UserError(f"{path}: no usable request" + (f" (left out: {counts})" if counts else ": it has no rows"))
        if cache.file_identity(path) == before:  # else it changed while it was read, and the hash is of other bytes
            cache.store_rows(key, rows)
    failed = {reason: len(rows.dropped_at[reason]) for reason in rows.dropped_at if reason != "not_asked_for"}
    if workload.failed == "refuse" and failed:
        count = sum(failed.values())
        counts = ", ".join(f"{each:,} {reason}" for reason, each in failed.items())
        raise UserError(
            f"workload.failed=refuse: {path} has {count:,} row{'s' * (count != 1)} without tokens ({counts})"
        )
    published = published_by_sha256(file_sha256)
    source = f"{published.title}, as published" if published else f"{rows.source} (file {path.name})"
    if workload.where:
        source += "; rows with " + ", ".join(f"{name}={'|'.join(texts)}" for name, texts in workload.where.items())
    return rows, file_sha256, source


def _inside(positions_by_reason: dict[str, Positions], chosen: slice, total: int) -> dict[str, int]:
    """Count the positions inside a window; the part of the trace behind its last request belongs to the last window."""
    stop = total + 1 if chosen.stop == total else chosen.stop
    counts = {
        reason: int(np.count_nonzero((positions >= chosen.start) & (positions < stop)))
        for reason, positions in positions_by_reason.items()
    }
    return {reason: count for reason, count in counts.items() if count}
