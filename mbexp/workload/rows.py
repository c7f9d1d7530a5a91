"""Rows as a reader gives them, and the usable ones among them in order of time."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError
from mbexp.workload.hashes import Hashes, chosen_hashes
from mbexp.workload.trace import FloatArray, IntArray

LONGEST_SPAN_S = 1e12  # 30,000 years: beyond it a unit of time is wrong, and differences lose their seconds

Codes = npt.NDArray[np.generic]
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Every row of a trace in file order, nothing dropped.

    Attributes
    ----------
    arrival_s : float64 array, shape (n,)
        Seconds of any clock, finite, in any order.
    prompt_tokens, output_tokens : int32 array, shape (n,)
        Lengths, 0 or more; -1 where the file has none.
    source : str
        What the rows are, in words.
    zero_output : str
        Name under which rows without output are counted.
    extra, categories, notes
        As in `Trace`.
    hashes
        Names of the blocks of prompts (`mbexp.workload.hashes`); nothing where the file has none.
    asked_for : bool array, shape (n,), or None
        Rows that ``workload.where`` keeps; None keeps all.
    """

    arrival_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    source: str
    zero_output: str = "zero_output_tokens"
    extra: dict[str, Codes] = field(default_factory=dict)
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    asked_for: npt.NDArray[np.bool_] | None = None
    hashes: Hashes = field(default_factory=dict)


@dataclass(frozen=True)
class UsableRows:
    """Requests with at least one token each way, in order of time from 0 on.

    `dropped_at` and `changed_at` hold, by reason, how many usable requests precede each row that was left out, and
    the index of each row that was altered: so a window can count its own. Other attributes are as in `Rows`.
    """

    arrival_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    source: str
    dropped_at: dict[str, Positions] = field(default_factory=dict)
    changed_at: dict[str, Positions] = field(default_factory=dict)
    extra: dict[str, Codes] = field(default_factory=dict)
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    hashes: Hashes = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.arrival_s)


def usable_rows(rows: Rows) -> UsableRows:
    """Sort by time (stably, where the rows are out of order); leave out failures, and rows not asked for.

    Raises
    ------
    UserError
        If the arrivals span more than `LONGEST_SPAN_S`.
    """
    arrival, prompt, output, extra = rows.arrival_s, rows.prompt_tokens, rows.output_tokens, rows.extra
    asked_for, hashes = rows.asked_for, rows.hashes
    changed_at: dict[str, Positions] = {}
    late = None
    if len(arrival) and not bool(np.all(arrival[1:] >= arrival[:-1])):
        late = arrival < np.maximum.accumulate(arrival)
        order = np.argsort(arrival, kind="stable")
        arrival, prompt, output, late = arrival[order], prompt[order], output[order], late[order]
        asked_for = None if asked_for is None else asked_for[order]
        extra = {name: column[order] for name, column in extra.items()}
        hashes = chosen_hashes(hashes, order)
    if len(arrival) and not arrival[-1] - arrival[0] <= LONGEST_SPAN_S:
        raise UserError(
            f"arrivals span {arrival[-1] - arrival[0]:.3g} s, more than 30,000 years: is the unit of time right?"
        )
    good = (prompt > 0) & (output > 0)
    if asked_for is not None:
        good &= asked_for
    dropped_at: dict[str, Positions] = {}
    if not good.all():
        left_out = np.flatnonzero(~good)
        before = left_out - np.arange(len(left_out))
        no_length = (output[left_out] < 0) | (prompt[left_out] < 0)
        no_output = output[left_out] == 0
        others = {"not_asked_for": np.zeros(len(left_out), bool) if asked_for is None else ~asked_for[left_out]}
        reasons = others | {"no_token_count": no_length, rows.zero_output: no_output, "zero_prompt_tokens": ~no_output}
        told = np.zeros(len(left_out), bool)
        for reason, rows_here in reasons.items():  # the first that holds
            if np.any(rows_here & ~told):
                dropped_at[reason] = before[rows_here & ~told]
            told |= rows_here
        arrival, prompt, output = arrival[good], prompt[good], output[good]
        extra = {name: column[good] for name, column in extra.items()}
        hashes = chosen_hashes(hashes, good)
        late = late[good] if late is not None else None
    if late is not None and late.any():
        changed_at["sorted_by_time"] = np.flatnonzero(late)
    start = arrival[0] if len(arrival) else 0.0
    return UsableRows(
        arrival_s=arrival - start,
        prompt_tokens=prompt,
        output_tokens=output,
        source=rows.source,
        dropped_at=dropped_at,
        changed_at=changed_at,
        extra=extra,
        categories=rows.categories,
        notes=rows.notes,
        hashes=hashes,
    )


def joined(blocks: list[UsableRows], offsets_s: list[float]) -> UsableRows:
    """Put blocks one behind the other, the times of block i moved by ``offsets_s[i]`` and all counted from the first.

    Blocks must have the same columns, and must not overlap in time.
    """
    first = np.cumsum([0, *(len(block) for block in blocks)])
    start = blocks[0].arrival_s[0] + offsets_s[0]
    arrival_s = [block.arrival_s + (offset - start) for block, offset in zip(blocks, offsets_s, strict=True)]
    if len(blocks) == 1:
        return dataclasses.replace(blocks[0], arrival_s=arrival_s[0])

    def gathered(group: str) -> dict[str, Positions]:
        found: dict[str, list[Positions]] = {}
        for block, before in zip(blocks, first, strict=False):
            for reason, positions in getattr(block, group).items():
                found.setdefault(reason, []).append(positions + before)
        return {reason: np.concatenate(parts) for reason, parts in found.items()}

    return dataclasses.replace(
        blocks[0],
        arrival_s=np.concatenate(arrival_s),
        prompt_tokens=np.concatenate([block.prompt_tokens for block in blocks]),
        output_tokens=np.concatenate([block.output_tokens for block in blocks]),
        dropped_at=gathered("dropped_at"),
        changed_at=gathered("changed_at"),
        extra={name: np.concatenate([block.extra[name] for block in blocks]) for name in blocks[0].extra},
    )
