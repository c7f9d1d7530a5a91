"""The requests of a recorded run, checked: a slip of units or clocks must not look like an error of the simulator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mbexp.config.workload_keys import MAX_TOKENS
from mbexp.errors import UserError
from mbexp.fit.units import check_unit
from mbexp.workload.recorded import RawRecord

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]

# A clock rounded to the microsecond, or two clocks joined, can put a first token this much before its arrival.
CLOCK_SLACK_S = 2e-6


@dataclass(frozen=True)
class EngineRun:
    """What an engine did with each request, in order of arrival.

    Attributes
    ----------
    arrival_s, first_token_s, last_token_s : float64 arrays, shape (n,)
        Seconds of one clock; the first arrival is 0.
    prompt_tokens, output_tokens : int32 arrays, shape (n,)
    source : str
        File and format, in words.
    notes : tuple of str
        Sentences a reader of the comparison must see.
    overrides : tuple of str
        Limits of the engine that stand beside the record, as keys of the configuration.
    """

    arrival_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    first_token_s: FloatArray
    last_token_s: FloatArray
    source: str
    notes: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.arrival_s)


def checked_run(
    path: str, kind: str, records: list[RawRecord], notes: tuple[str, ...] = (), overrides: tuple[str, ...] = ()
) -> EngineRun:
    """Return the records as one run, sorted by arrival.

    Raises
    ------
    UserError
        Naming file and request: no requests, a length that is no number of tokens, a first token before the arrival, a
        last one before the first, or times whose unit must be another.
    """
    if not records:
        raise UserError(f"{path}: no request that succeeded; nothing can be compared")
    names = ("prompt_tokens", "output_tokens", "arrival_s", "first_token_s", "last_token_s")
    columns = {name: np.array([getattr(record, name) for record in records], np.float64) for name in names}
    for name, values in columns.items():
        _refuse(path, records, ~np.isfinite(values), f"{name} is not a finite number")
    for name in names[:2]:
        tokens = columns[name]
        wrong = (tokens < 1) | (tokens > MAX_TOKENS) | (tokens != np.floor(tokens))
        _refuse(path, records, wrong, f"{name} is not a whole number from 1 to {MAX_TOKENS:,}")
    arrival_s, first_s, last_s = (columns[name] for name in names[2:])
    _refuse(path, records, last_s < first_s, "the last token comes before the first")
    early = first_s < arrival_s - CLOCK_SLACK_S
    _refuse(
        path, records, early, "the first token comes before the arrival: are these times of one clock and one unit?"
    )
    several = columns["output_tokens"] > 1
    if several.any():
        gaps_s = (last_s - first_s)[several] / (columns["output_tokens"][several] - 1)
        check_unit(path, "time from token to token", gaps_s)
    order = np.argsort(arrival_s, kind="stable")
    start_s = arrival_s.min()
    return EngineRun(
        arrival_s=arrival_s[order] - start_s,
        prompt_tokens=columns["prompt_tokens"][order].astype(np.int32),
        output_tokens=columns["output_tokens"][order].astype(np.int32),
        first_token_s=first_s[order] - start_s,
        last_token_s=last_s[order] - start_s,
        source=f"{path} ({kind})",
        notes=notes,
        overrides=overrides,
    )


def _refuse(path: str, records: list[RawRecord], wrong: npt.NDArray[np.bool_], what: str) -> None:
    if wrong.any():
        more = f" (and {int(wrong.sum()) - 1:,} more)" if wrong.sum() > 1 else ""
        raise UserError(f"{path}, {records[int(np.argmax(wrong))].place}: {what}{more}")
