"""A request trace: plain arrays, what was dropped or changed on the way, and where it came from."""

from __future__ import annotations

import hashlib
import html
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.config.workload_keys import MAX_TOKENS
from mbexp.errors import UserError
from mbexp.workload.closed import ClosedLoop
from mbexp.workload.prefixes import HashBlocks
from mbexp.workload.turns import Contents, Turns

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trace:
    """Requests in order of arrival. Making a trace checks its values.

    Attributes
    ----------
    arrival_s : float64 array, shape (n,)
        Arrival times in seconds: finite, at least 0, non-decreasing. A trace of `load_trace` starts at 0. Lists and
        other arrays are converted.
    prompt_tokens, output_tokens : int32 array, shape (n,)
        True lengths in tokens, each at least 1. Lists and other arrays are converted, if that loses nothing.
    source : str
        Origin of the rows, in words that a reader can cite: "BurstGPT-like, calibrated to published aggregates".
    dropped : dict of str to int
        Rows left out, by reason (``failed``, ``zero_output_tokens``, ...).
    changed : dict of str to int
        Rows whose values were altered, by reason (``ties_spread``, ...).
    extra : dict of str to array
        Further columns of the trace, shape (n,), such as ``model`` and ``session``. Text is stored as whole-number
        codes, and -1 where the cell was blank.
    notes : tuple of str
        Sentences that a reader of the results must see, one each.
    categories : dict of str to tuple of str
        The names behind the codes of a text column of `extra`. A column whose names mean nothing (``session``) is
        left out.
    window : str
        The part of the trace that these rows are, in words.
    file_sha256 : str
        Hash of the file that the rows come from, and empty for generated rows.
    time_scaling : float
        How many times as fast as on the trace's own clock the requests arrive.
    closed : ClosedLoop or Turns or None
        Whose answers make requests come. ``None``: requests come at `arrival_s`. ``ClosedLoop``: each user sends the
        next request after the answer to the last one, and `arrival_s` is not used. ``Turns``: a turn of a conversation
        comes after the answer before it. Its `arrival_s` is when it was recorded, or when it would come if answers
        took no time.
    contents : Contents or None
        The parts that prompts of conversations share.
    blocks : HashBlocks or None
        The blocks of prompts, if the trace names blocks.

    Raises
    ------
    UserError
        If a request has an impossible value, or the arrays do not fit each other. One line names the first such value.
    """

    arrival_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    source: str = "a trace from Python"
    dropped: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    extra: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    window: str = ""
    file_sha256: str = ""
    time_scaling: float = 1.0
    closed: ClosedLoop | Turns | None = None
    contents: Contents | None = None
    blocks: HashBlocks | None = None

    def __post_init__(self) -> None:
        arrival_s = _array("arrival_s", self.arrival_s, np.float64)
        object.__setattr__(self, "arrival_s", arrival_s)
        for name in ("prompt_tokens", "output_tokens"):
            tokens = _array(name, getattr(self, name), np.int32)
            object.__setattr__(self, name, tokens)
            if len(tokens) and tokens.min() < 1:
                raise _no_request(name, tokens < 1, tokens, "a request has at least 1 token each way")
        for name, column in (*self._lengths(), *self.extra.items()):
            if np.shape(column) != arrival_s.shape:
                raise UserError(f"Trace: {name} has shape {np.shape(column)}, arrival_s {arrival_s.shape}")
        if not len(arrival_s):
            return
        if not (arrival_s.min() >= 0 and arrival_s.max() < np.inf):  # a NaN fails both
            wrong = ~((arrival_s >= 0) & (arrival_s < np.inf))
            raise _no_request("arrival_s", wrong, arrival_s, "must be a finite number of seconds, 0 or more")
        if not bool(np.all(arrival_s[1:] >= arrival_s[:-1])):
            back = np.append(False, arrival_s[1:] < arrival_s[:-1])
            raise _no_request("arrival_s", back, arrival_s, "is before the one in front of it; sort the requests")

    def _lengths(self) -> tuple[tuple[str, IntArray], ...]:
        return ("prompt_tokens", self.prompt_tokens), ("output_tokens", self.output_tokens)

    def __len__(self) -> int:
        return len(self.arrival_s)

    def __repr__(self) -> str:
        return f"Trace({'; '.join(f'{name} {text}' for name, text in self._summary().items())})"

    def _repr_html_(self) -> str:
        return as_html("Trace", self._summary())

    def _summary(self) -> dict[str, str]:
        found = {"of": self.source, "requests": f"{len(self):,}"}
        if len(self):
            found["over"] = f"{self.arrival_s[-1] - self.arrival_s[0]:,.4g} s"
            found |= {name: f"{tokens.mean():,.1f} mean, {tokens.max():,} at most" for name, tokens in self._lengths()}
        left_out = {**self.dropped, **self.changed}
        if left_out:
            found["dropped or changed"] = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        return found

    @cached_property
    def sha256(self) -> str:
        """Hash of the three arrays: two traces with the same hash give the same results."""
        digest = hashlib.sha256()
        for array in (self.arrival_s, self.prompt_tokens, self.output_tokens):
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        if self.closed:
            digest.update(self.closed.digest())
        return digest.hexdigest()

    def labels(self, name: str) -> npt.NDArray[np.object_]:
        """Return a text column of `extra` as strings, shape (n,), empty where the cell was blank."""
        return text_columns({name: self.extra[name]}, self.categories)[name]

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Return every column of `extra`, text as strings, shape (n,)."""
        return text_columns(self.extra, self.categories)


def text_columns(
    extra: dict[str, npt.NDArray[Any]], categories: dict[str, tuple[str, ...]]
) -> dict[str, npt.NDArray[Any]]:
    """Return columns beside requests with the texts in place of codes, empty where the cell was blank."""
    found = dict(extra)
    for name in extra.keys() & categories.keys():
        names = np.array([*categories[name], ""], dtype=object)
        found[name] = names[extra[name]]  # code -1 is the last of them
    return found


def as_html(title: str, values: dict[str, str]) -> str:
    """Return names and values as a small table, for a notebook."""
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in values.items()
    )
    return f"<table><caption>{html.escape(title)}</caption>{rows}</table>"


def _array(name: str, values: object, dtype: type) -> npt.NDArray[Any]:
    """Return values as an array of one dimension, without loss."""
    try:
        given = np.asarray(values)
        array: npt.NDArray[Any] = given if given.dtype == dtype else _converted(given, dtype)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"Trace: {name} must be numbers, one for each request") from None
    if array.ndim != 1:
        raise UserError(f"Trace: {name} has shape {array.shape}; it must have one dimension, a number for each request")
    if array.dtype != dtype:  # numbers that the type cannot hold
        wrong = ~((given >= 0) & (given <= MAX_TOKENS) & (given == np.floor(given)))
        raise _no_request(name, wrong, given, f"must be a whole number up to {MAX_TOKENS}")
    return array


def _converted(given: npt.NDArray[Any], dtype: type) -> npt.NDArray[Any]:
    if given.dtype.kind not in "iuf" and given.size:
        raise TypeError("not numbers")
    with np.errstate(invalid="ignore"):
        array: npt.NDArray[Any] = given.astype(dtype)
    return array if dtype is np.float64 or bool(np.all(array == given)) else given


def _no_request(name: str, wrong: npt.NDArray[np.bool_], values: npt.NDArray[np.generic], why: str) -> UserError:
    at = int(np.argmax(wrong))
    return UserError(f"Trace: {name}[{at}] is {values[at]}: {why}")
