"""A request trace: plain arrays, what was dropped or changed on the way, and where it came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trace:
    """Requests in order of arrival.

    Attributes
    ----------
    arrival_s : float64 array, shape (n,)
        Seconds, non-decreasing, starting at 0 for the first request.
    prompt_tokens, output_tokens : int32 array, shape (n,)
        True lengths, each at least 1.
    source : str
        What the rows are, in words a reader can cite: "BurstGPT-like, calibrated to published aggregates".
    dropped : dict of str to int
        Rows left out, by reason (``failed``, ``zero_output_tokens``, ...).
    changed : dict of str to int
        Rows whose values were altered, by reason (``ties_spread``, ...).
    extra : dict of str to array
        Optional columns that the trace has and a policy might use later (``model``, ``session``), shape (n,).
        Text is stored as whole-number codes, -1 where the cell was blank.
    notes : tuple of str
        Sentences a reader of the results must see, one each.
    categories : dict of str to tuple of str
        Names behind the codes of a text column of `extra`; absent where the names carry nothing (``session``).
    window : str
        Which part of the trace these rows are, in words.
    file_sha256 : str
        Hash of the file they were read from; empty where they were generated.
    """

    arrival_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    source: str
    dropped: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    extra: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    window: str = ""
    file_sha256: str = ""

    def __len__(self) -> int:
        return len(self.arrival_s)

    @cached_property
    def sha256(self) -> str:
        """Hash of the three arrays: two traces with the same hash give the same results."""
        digest = hashlib.sha256()
        for array in (self.arrival_s, self.prompt_tokens, self.output_tokens):
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        return digest.hexdigest()

    def labels(self, name: str) -> npt.NDArray[np.object_]:
        """Return a text column of `extra` as strings, shape (n,), empty where the cell was blank."""
        names = np.array([*self.categories[name], ""], dtype=object)
        return names[self.extra[name]]  # code -1 is the last of them
