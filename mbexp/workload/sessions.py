"""From columns that name conversations to turns: which answer makes a request come, and what its prompt begins with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.config.workload_keys import MAX_TOKENS, ArrivalsConfig, SessionsConfig, WorkloadConfig
from mbexp.errors import UserError
from mbexp.workload.closed import draw_think_s
from mbexp.workload.turns import NO_PARENT, Contents, Turns

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]
Columns = Mapping[str, npt.NDArray[Any]]

NOBODY_SYSTEM = -1


@dataclass(frozen=True)
class Conversations:
    """What the columns of a trace say of conversations.

    Attributes
    ----------
    parent : int32 array, shape (n,)
    think_s : float64 array, shape (n,)
    contents : Contents
    prompt_tokens : int32 array, shape (n,)
    changed : dict of str to int
    notes : list of str
    """

    parent: IntArray
    think_s: FloatArray
    contents: Contents
    prompt_tokens: IntArray
    changed: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def turns(self, own_s: FloatArray, users: int | None = None) -> Turns:
        """Return the turns, where those that no answer causes come at `own_s`."""
        return Turns(self.parent, self.think_s, own_s, users)


def begun_by_users(turns: Turns, session: npt.NDArray[Any], arrivals: ArrivalsConfig, seed: int) -> Turns:
    """Return the turns of users, each of whom begins a conversation at 0, and the next once the last has ended.

    User u has the conversations u, u + N, u + 2 N, ... of N users; `session` numbers them from 0. Between two of them a
    user thinks as ``workload.arrivals`` says.
    """
    if arrivals.users is None:
        raise UserError("workload.arrivals.users=null: workload.arrivals.kind=closed needs it; say how many users")
    first = np.flatnonzero(turns.parent == NO_PARENT)
    first = first[np.argsort(session[first])]
    has_next = np.zeros(len(session), np.bool_)
    has_next[turns.parent[turns.parent != NO_PARENT]] = True
    last = np.flatnonzero(~has_next)
    last = last[np.argsort(session[last])]
    between_s = draw_think_s(arrivals, len(first), seed)
    parent, think_s = turns.parent.copy(), turns.think_s.copy()
    later = first[arrivals.users :]
    parent[later] = last[: len(later)]
    think_s[later] = between_s[: len(later)]
    return Turns(parent, think_s, np.zeros(len(parent)), arrivals.users)


def with_columns(workload: WorkloadConfig) -> WorkloadConfig:
    """Return the workload with the columns that name conversations among those that are kept."""
    sessions, columns = workload.sessions, workload.columns
    named = [sessions.session, sessions.chat, sessions.parent, sessions.delay, sessions.duration]
    missing = [name for name in named if name and name not in columns.extra]
    if not missing:
        return workload
    return dataclasses.replace(workload, columns=dataclasses.replace(columns, extra=[*columns.extra, *missing]))


def conversations(
    workload: WorkloadConfig,
    arrival_s: FloatArray,
    prompt: IntArray,
    output: IntArray,
    columns: Columns,
    scaling: float = 1.0,
) -> Conversations | None:
    """Return the turns that the columns of a trace name; None where they name none.

    Parameters
    ----------
    arrival_s : float64 array, shape (n,), non-decreasing
        As they were recorded.
    columns
        Those kept beside each request, texts as texts.
    scaling
        How many times faster than recorded requests arrive; think times are divided by it.

    Raises
    ------
    UserError
        If turns are to wait for answers, and nothing says which requests are turns.
    """
    sessions = workload.sessions
    changed: dict[str, int] = {}
    session = sessions.session or ("session" if "session" in columns else None)
    if sessions.chat or sessions.parent:
        if not (sessions.chat and sessions.parent):
            raise UserError("workload.sessions: chat and parent are named together: a request's own id, and its turn's")
        parent = _by_parent(columns[sessions.chat], columns[sessions.parent], changed)
    elif session:
        parent = _by_session(_codes(columns[session])[0])
    elif sessions.arrivals == "answered":
        raise UserError(
            f"workload.sessions.arrivals=answered: workload={workload.kind} does not say which requests are turns of a "
            "conversation; name workload.sessions.session, or chat and parent"
        )
    else:
        return None
    think_s = _think_s(sessions, columns, parent, arrival_s, changed) / scaling
    if sessions.history == "added" or workload.kind == "sessions":
        prompt = _with_history(parent, prompt, output)
    origin = parent.copy()
    turns = np.flatnonzero(parent != NO_PARENT)
    cut = turns[prompt[turns] < prompt[parent[turns]].astype(np.int64) + output[parent[turns]]]
    if len(cut):
        changed["history_cut"] = len(cut)
        origin[cut] = NO_PARENT
    nothing = np.full(len(parent), NOBODY_SYSTEM, np.int32)
    contents = Contents(
        origin, np.asarray(columns.get("system", nothing), np.int32),
        np.asarray(columns.get("system_tokens", np.zeros(len(parent))), np.int32),
    )  # fmt: skip
    notes = _notes(sessions, parent, changed)
    changed.pop("think_holds_answer", None)  # says what a think time is, and not that it was altered
    return Conversations(parent, think_s, contents, prompt, changed, notes)


def _notes(sessions: SessionsConfig, parent: IntArray, changed: dict[str, int]) -> list[str]:
    count = int(np.count_nonzero(parent == NO_PARENT))
    if count == len(parent):
        return []
    wait = "a turn waits for the last answer" if sessions.arrivals == "answered" else "turns come at their own times"
    found = [f"conversations: {count:,}, of {len(parent) / count:.3g} turns on average; {wait}"]
    said = {
        "parent_missing": "turns whose parent is not in the window come by themselves",
        "parent_later": "turns whose parent is not before them come by themselves",
        "history_cut": "turns have a shorter prompt than the conversation before them, and share nothing with it",
        "answer_outlasts_gap": "turns came before the recorded answer ended: no think time",
    }
    found += [f"{changed[reason]:,} {words}" for reason, words in said.items() if reason in changed]
    if sessions.arrivals == "answered" and changed.get("think_holds_answer"):
        found.append("no column says how long answers took: think times are the recorded gaps, the answers included")
    return found


def _codes(*columns: npt.NDArray[Any]) -> list[npt.NDArray[np.int64]]:
    """Return columns of numbers or texts as codes that are equal where they are, -1 where blank or -1."""
    if len(columns) == 1 and columns[0].dtype.kind in "iu":
        return [columns[0].astype(np.int64)]
    texts = []
    for column in columns:
        if column.dtype == object:
            texts.append(column.astype(str))
        else:
            values = np.asarray(column, np.float64)
            texts.append(np.where(np.isnan(values) | (values == -1), "", np.char.mod("%d", np.nan_to_num(values))))
    names, codes = np.unique(np.concatenate(texts), return_inverse=True)
    blank = np.isin(names, ("", "-1"))
    plain = np.where(blank[codes], -1, codes)
    return list(np.split(plain, np.cumsum([len(column) for column in columns])[:-1]))


def _by_session(session: npt.NDArray[np.int64]) -> IntArray:
    """Return for each request the one before it in its conversation."""
    order = np.lexsort((np.arange(len(session)), session))
    same = np.zeros(len(session), np.bool_)
    same[1:] = (session[order[1:]] == session[order[:-1]]) & (session[order[1:]] >= 0)
    parent = np.full(len(session), NO_PARENT, np.int32)
    parent[order[same]] = order[np.flatnonzero(same) - 1]
    return parent


def _by_parent(chat: npt.NDArray[Any], parent: npt.NDArray[Any], changed: dict[str, int]) -> IntArray:
    """Return for each request the one whose id it names; those that are missing, or not before it, are counted."""
    own, named = _codes(chat, parent)
    count = len(own)
    place_of = np.full(int(max(own.max(initial=-1), named.max(initial=-1))) + 2, NO_PARENT, np.int64)
    place_of[own[::-1]] = np.arange(count)[::-1]  # the first of that id
    place_of[-1] = NO_PARENT
    found = place_of[named]
    missing = (named >= 0) & (found == NO_PARENT)
    later = found >= np.arange(count)
    for reason, here in (("parent_missing", missing), ("parent_later", later)):
        if here.any():
            changed[reason] = int(np.count_nonzero(here))
    return np.where(later, NO_PARENT, found).astype(np.int32)


def _think_s(
    sessions: SessionsConfig, columns: Columns, parent: IntArray, arrival_s: FloatArray, changed: dict[str, int]
) -> FloatArray:
    """Return the think time before each turn: as a column says, or the recorded gap less the recorded answer."""
    think_s = np.zeros(len(parent))
    turns = np.flatnonzero(parent != NO_PARENT)
    delay = sessions.delay or ("think_s" if "think_s" in columns else None)
    if delay:
        values = np.asarray(columns[delay], np.float64) * sessions.delay_unit_s
        wrong = turns[~(values[turns] >= 0)]
        if len(wrong):
            raise UserError(f"workload.sessions.delay={delay}: request {wrong[0]} has none, or one below 0")
        think_s[turns] = values[turns]
        return think_s
    gap_s = arrival_s[turns] - arrival_s[parent[turns]]
    duration = sessions.duration or ("elapsed_s" if "elapsed_s" in columns else None)
    if duration:
        gap_s = gap_s - np.nan_to_num(np.asarray(columns[duration], np.float64)[parent[turns]])
        if np.any(gap_s < 0):
            changed["answer_outlasts_gap"] = int(np.count_nonzero(gap_s < 0))
    elif len(turns):
        changed["think_holds_answer"] = len(turns)
    think_s[turns] = np.maximum(gap_s, 0.0)
    return think_s


def _with_history(parent: IntArray, prompt: IntArray, output: IntArray) -> IntArray:
    """Return prompts with the conversation so far before what is new of each turn."""
    total = prompt.astype(np.int64)
    left = np.flatnonzero(parent != NO_PARENT)
    done = parent == NO_PARENT
    while len(left):
        ready = done[parent[left]]
        now = left[ready]
        total[now] += total[parent[now]] + output[parent[now]]
        done[now] = True
        left = left[~ready]
    if total.max(initial=0) > MAX_TOKENS:
        raise UserError(f"workload.sessions: a conversation grows to {total.max():,} tokens, above {MAX_TOKENS}")
    return total.astype(np.int32)
