"""Classes of requests: tenants, or kinds of work, each with limits, a priority and a weight of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mbexp.config.workload_keys import ClassConfig, WorkloadConfig
from mbexp.errors import UserError, nearest
from mbexp.workload.trace import Trace

STREAM = 5  # random stream of the classes, apart from those of workload, predictor and modes

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Classes:
    """Who belongs to which class.

    Attributes
    ----------
    names : tuple of str
    settings : tuple of ClassConfig
    of : int32 array, shape (n,)
        Place of the class of each request in `names`, in trace order.
    """

    names: tuple[str, ...]
    settings: tuple[ClassConfig, ...]
    of: npt.NDArray[np.int32]

    def taken(self, places: npt.NDArray[np.int32] | None) -> Classes:
        """Return those of some requests; None takes all."""
        return self if places is None else Classes(self.names, self.settings, self.of[places])

    def limit(self, key: str, default: float | None) -> FloatArray | None:
        """Return a limit of each request, shape (n,): its class's, or the default; infinity where neither is set.

        None where no request has one.
        """
        values = [getattr(each, key) for each in self.settings]
        if default is None and all(value is None for value in values):
            return None
        usual = np.inf if default is None else default
        return np.array([usual if value is None else value for value in values])[self.of]

    def values(self, key: str) -> FloatArray:
        """Return a number of the class of each request, shape (n,)."""
        return np.array([float(getattr(each, key)) for each in self.settings])[self.of]


def classes_of(workload: WorkloadConfig, trace: Trace, seed: int) -> Classes | None:
    """Return the class of each request: from a column of the trace, or drawn by share; None without classes.

    Raises
    ------
    UserError
        If the trace has no such column, or a request there has a class that is not among those set.
    """
    if not workload.classes:
        return None
    names, settings = tuple(workload.classes), tuple(workload.classes.values())
    column = workload.class_column
    if column is None:
        shares = np.array([each.share_pct for each in settings], np.float64)
        random = np.random.default_rng(np.random.SeedSequence([seed, STREAM]))
        return Classes(names, settings, random.choice(len(names), len(trace), p=shares / shares.sum()).astype(np.int32))
    where = f"workload.class_column={column}"
    if column not in trace.extra:
        known = nearest(column, trace.extra) or f"; it has {', '.join(trace.extra) or 'none'}"
        raise UserError(f"{where}: the trace has no further column of this name{known}")
    texts = trace.labels(column) if column in trace.categories else trace.extra[column].astype(str).astype(object)
    found, places = np.unique(texts.astype(str), return_inverse=True)
    unknown = [text for text in found.tolist() if text not in names]
    if unknown:
        told = nearest(unknown[0], names) or f"; set are {', '.join(names)}"
        raise UserError(f"{where}: a request is of class '{unknown[0]}', which workload.classes does not have{told}")
    code = np.array([names.index(text) for text in found.tolist()], np.int32)
    return Classes(names, settings, code[places])
